"""What the check of known values tells, of which days."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from offgridflow_pipeline.defs.checks import bills
from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.lake.engine import Engine

DAYS = [date(2026, 10, 5), date(2026, 10, 6), date(2026, 10, 7)]


def line(day: date, unit: str | None = None, kind: str = "Usage") -> dict[str, Any]:
    return {
        "usage_date": day,
        "x_Provider": "aws",
        "x_Disposition": "countable",
        "x_NormUnit": None if unit else "Hours",
        "x_SourceUnit": unit or "Hrs",
        "x_LineItemType": kind,
        "x_UnitRule": "hours",
        "x_InstanceType": "m5.large",
        "BillingCurrency": "USD",
        "BilledCost": Decimal(2),
    }


def test_each_day_is_told_its_own_unknown_values(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        line(DAYS[0], unit="Furlongs"),
        line(DAYS[0], unit="Furlongs"),
        line(DAYS[0], kind="Surprise"),
        line(DAYS[1]),
        line(DAYS[2], unit="Acres"),
    ]
    fields = [field for field in schemas.USAGE_LINES.arrow_schema if field.name in lines[0]]
    rows = engine.register("usage_lines", pa.Table.from_pylist(lines, schema=pa.schema(fields)))
    monkeypatch.setattr(bills, "rows_of", lambda *_: rows)
    platform: Any = SimpleNamespace(engine=engine)
    found = bills.unknown_values(platform, "acme", schemas.USAGE_LINES, DAYS)
    assert {day: [text.split(", ")[0] for text in finding.split("; ")] for day, finding in found.items()} == {
        DAYS[0]: ["line_item_type 'Surprise': 1 rows", "unit 'Furlongs': 2 rows"],
        DAYS[2]: ["unit 'Acres': 1 rows"],
    }
