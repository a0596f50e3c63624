"""Usage lines with some columns only: the same values, and no needless work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline.usage.keys import key_columns, key_text
from offgridflow_pipeline.usage.normalise import UnknownFeedError, usage_lines
from offgridflow_pipeline.usage.pruning import pruned_over
from offgridflow_pipeline_tests.connectors.bills import cur_row, extracted, focus_row, write_bill

ROWS = {
    "cur": [cur_row(), cur_row(lineItem__LineItemType="Tax", pricing__unit=""), cur_row(pricing__unit="GB-Mo")],
    "focus": [focus_row(), focus_row(ChargeCategory="Tax"), focus_row(ConsumedUnit="GB-Seconds")],
}


def _sorted(table: pa.Table) -> pa.Table:
    return table.sort_by("x_SourceRow")


@pytest.fixture(scope="module")
def whole_lines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Engine, ir.Table, pa.Table]]]:
    """For each feed an engine, the bill's extract rows in it, and their whole lines."""
    folder = tmp_path_factory.mktemp("bills")
    with Engine(memory_mb=256, threads=1) as engine:
        found = {}
        for feed, billed in ROWS.items():
            rows = extracted(engine, [write_bill(folder / f"{feed}.csv", billed)], feed)
            found[feed] = engine, rows, _sorted(engine.to_arrow(usage_lines(rows, feed)))
        yield found


@settings(max_examples=12, deadline=None)
@given(
    feed=st.sampled_from(["cur", "focus"]),
    columns=st.lists(st.sampled_from(schemas.USAGE_LINES.column_names), unique=True, max_size=9),
)
def test_asked_columns_have_the_values_of_the_whole_line(
    whole_lines: dict[str, tuple[Engine, ir.Table, pa.Table]], feed: str, columns: list[str]
) -> None:
    wanted = [*(c for c in columns if c != "x_SourceRow"), "x_SourceRow"]
    engine, rows, whole = whole_lines[feed]
    some = _sorted(engine.to_arrow(usage_lines(rows, feed, wanted)))
    assert some.column_names == wanted
    assert some.equals(whole.select(wanted))


def test_few_columns_need_no_hash_of_the_row(engine: Engine, tmp_path: Path) -> None:
    rows = extracted(engine, [write_bill(tmp_path / "bill.csv", ROWS["cur"])], "cur")
    few = str(engine.connection.compile(usage_lines(rows, "cur", ["x_UsageKey", "BilledCost"]))).lower()
    assert "md5" in few
    assert "sha256" not in few
    assert "row_number" not in few


@pytest.mark.parametrize("feed", ["cur", "focus"])
def test_a_key_text_gives_its_columns_back(engine: Engine, tmp_path: Path, feed: str) -> None:
    rows = extracted(engine, [write_bill(tmp_path / "bill.csv", ROWS[feed])], feed)
    lines = usage_lines(rows, feed, [*schemas.USAGE_KEY_COLUMNS, "x_SourceRow"])
    lines = lines.mutate(text=key_text(lines))
    again = engine.to_arrow(lines.select("x_SourceRow", **key_columns(lines.text)))
    assert _sorted(again).equals(_sorted(engine.to_arrow(lines.drop("text")).select(again.column_names)))


def test_an_unknown_feed_is_named(engine: Engine, tmp_path: Path) -> None:
    rows = extracted(engine, [write_bill(tmp_path / "bill.csv", ROWS["cur"])], "cur")
    with pytest.raises(UnknownFeedError, match="'gcp' is unknown: use one of focus, cur2, cur, azure_amortized"):
        usage_lines(rows, "gcp")


def test_a_carried_column_that_a_projection_has_too_is_refused() -> None:
    table = ibis.table({"a": "string", "b": "string"}, name="rows")
    staged = table.mutate(_kind=table.a.lower())
    with pytest.raises(ValueError, match="_kind"):
        pruned_over(staged.select("_kind"), table.mutate(_kind=table.b), ["_kind"])
