"""What must not depend on the machine or on the size of the data: memory and the time zone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]

IN_NEW_YORK = """
from datetime import UTC, datetime
import pyarrow as pa
from offgridflow_pipeline.lake.engine import Engine
with Engine(128, 1) as engine:
    moment = pa.array([datetime(2026, 1, 1, tzinfo=UTC)], pa.timestamp("us", tz="UTC"))
    table = engine.register("moments", pa.table({"moment": moment}))
    days = table.select(day=table.moment.date())
    print(engine.reader(days).read_all()["day"][0], engine.to_arrow(days)["day"][0],
          engine.to_arrow(engine.spool(days))["day"][0], engine.reader(table).schema.field("moment").type.tz)
"""


def test_days_are_utc_days_on_a_machine_in_another_time_zone() -> None:
    environment = os.environ | {"TZ": "America/New_York", "PYTHONPATH": str(CHECKOUT)}
    found = subprocess.run(
        [sys.executable, "-c", IN_NEW_YORK], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["2026-01-01", "2026-01-01", "2026-01-01", "UTC"]


@pytest.mark.slow
def test_memory_of_a_replacement_does_not_grow_with_its_rows(tmp_path: Path) -> None:
    few, many = (_peak_mib(tmp_path / str(rows), rows) for rows in (40_000, 160_000))
    # 120,000 rows more are about 250 MiB more as Arrow data.
    assert many < few + 60


def _peak_mib(root: Path, rows: int) -> int:
    command = [sys.executable, "-m", "offgridflow_pipeline_tests.lake.memory_probe", str(root), str(rows)]
    return int(subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout)
