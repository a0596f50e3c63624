"""Line ids: the same after re-delivery, shuffling and re-chunking; usage keys: equal for equal use."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline_tests.connectors.bills import (
    CUR_ROW,
    cur_row,
    extracted,
    lines,
    mapped_lines,
    write_bill,
)


def _ids(engine: Engine, paths: list[Path], connection_id: str = "billing") -> Counter[str]:
    found = mapped_lines(engine, extracted(engine, paths, "cur", connection_id=connection_id), "cur")
    return Counter(engine.to_arrow(found.select("x_LineId"))[0].to_pylist())


@settings(max_examples=4, deadline=None)
@given(order=st.randoms(use_true_random=False), parts=st.integers(1, 7), version=st.text("ab", max_size=3))
def test_line_ids_survive_shuffling_and_rechunking(order: random.Random, parts: int, version: str) -> None:
    import tempfile

    rows = [cur_row(lineItem__ResourceId=f"i-{n % 9}", lineItem__UsageAmount=str(n % 3)) for n in range(40)]
    again = [row | {"identity/LineItemId": version + str(n)} for n, row in enumerate(rows)]
    order.shuffle(again)
    with tempfile.TemporaryDirectory(prefix="ogf-ids-") as folder, Engine(512, 1) as engine:
        whole = write_bill(Path(folder) / "whole.csv", rows)
        chunks = [write_bill(Path(folder) / f"{n}.csv.gz", again[n::parts], list(CUR_ROW)) for n in range(parts)]
        first = _ids(engine, [whole])
        assert max(first.values()) == 1
        assert len(first) == 40
        assert _ids(engine, chunks) == first


def test_equal_rows_are_told_apart(engine: Engine, tmp_path: Path) -> None:
    path = write_bill(tmp_path / "bill.csv", [cur_row()] * 5)
    assert len(_ids(engine, [path])) == 5


def test_connections_and_periods_have_line_ids_of_their_own(engine: Engine, tmp_path: Path) -> None:
    path = write_bill(tmp_path / "a.csv", [cur_row()])
    later = write_bill(tmp_path / "b.csv", [cur_row(bill__BillingPeriodStartDate="2026-11-01T00:00:00Z")])
    assert len(_ids(engine, [path]) + _ids(engine, [path], "other") + _ids(engine, [later])) == 3


def test_rows_of_equal_use_share_a_usage_key_whoever_uses_it(engine: Engine, tmp_path: Path) -> None:
    rows = [
        cur_row(),
        cur_row(lineItem__ResourceId="i-2", lineItem__UsageAccountId="9", lineItem__UsageAmount="3", product__regionCode="us-east-1"),
        cur_row(lineItem__Operation="RunInstances:0002"),
    ]  # fmt: skip
    keys = lines(engine, write_bill(tmp_path / "bill.csv", rows), "cur")["x_UsageKey"].to_pylist()
    assert keys[0] == keys[1] != keys[2]
