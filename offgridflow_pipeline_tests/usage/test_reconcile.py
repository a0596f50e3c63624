"""Reconciliation of usage lines with extracts: planted faults are found, whole bills tie."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import ibis
import pytest

from offgridflow_pipeline.connectors.feeds import FEEDS
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline.usage.reconcile import differences, extract_cost, unexplained
from offgridflow_pipeline_tests.connectors.bills import cur_row, extracted, focus_row, mapped_lines, write_bill

ROWS = {
    "cur": [cur_row(), cur_row(lineItem__UnblendedCost="-0.02"), cur_row(lineItem__LineItemType="Tax")],
    "focus": [focus_row(), focus_row(BilledCost="-0.02"), focus_row(ChargeCategory="Tax")],
}


@pytest.mark.parametrize("feed", ["cur", "focus"])
def test_whole_bills_tie_and_a_lost_row_is_found(engine: Engine, tmp_path: Path, feed: str) -> None:
    rows = extracted(engine, [write_bill(tmp_path / "bill.csv", ROWS[feed])], feed)
    lines = mapped_lines(engine, rows, feed)
    assert engine.to_arrow(differences(rows, lines, feed)).num_rows == 0
    [lost] = engine.to_arrow(differences(rows, lines.filter(lines.x_SourceRow != 2), feed)).to_pylist()
    assert (lost["missing_cost"], lost["missing_rows"]) == (Decimal("-0.02"), 1)


def test_a_row_without_known_disposition_does_not_tie(engine: Engine, tmp_path: Path) -> None:
    rows = extracted(engine, [write_bill(tmp_path / "bill.csv", ROWS["cur"])], "cur")
    lines = mapped_lines(engine, rows, "cur").mutate(x_Disposition=ibis.literal("forgotten"))
    [found] = engine.to_arrow(differences(rows, lines, "cur")).to_pylist()
    assert found["missing_rows"] == 3


def test_the_cost_of_both_feeds_is_summed_per_day_and_currency(engine: Engine, tmp_path: Path) -> None:
    both = {
        FEEDS[feed].dialect: extracted(engine, [write_bill(tmp_path / f"{feed}.csv", rows)], feed)
        for feed, rows in ROWS.items()
    }
    found = {r["BillingCurrency"]: (r["cost"], r["n"]) for r in engine.to_arrow(extract_cost(both)).to_pylist()}
    assert found == {"USD": (Decimal("11.02"), 3), "EUR": (Decimal("9.18"), 3)}


def test_unknown_units_and_line_types_stay_visible(engine: Engine, tmp_path: Path) -> None:
    bill = [
        cur_row(),
        cur_row(pricing__unit="Furlongs"),
        cur_row(lineItem__LineItemType="Surprise", lineItem__UnblendedCost="2"),
        cur_row(lineItem__LineItemType="NewDiscount"),
    ]
    rows = extracted(engine, [write_bill(tmp_path / "bill.csv", bill)], "cur")
    found = engine.to_arrow(unexplained(mapped_lines(engine, rows, "cur"))).to_pylist()
    assert sorted((r["finding"], r["value"], r["rows"], r["cost"]) for r in found) == [
        ("line_item_type", "Surprise", 1, Decimal(2)),
        ("unit", "Furlongs", 1, Decimal("5.52")),
    ]


def test_what_no_rule_knows_is_told_for_each_day(engine: Engine, tmp_path: Path) -> None:
    days = ("2026-10-05T00:00:00Z/2026-10-06T00:00:00Z", "2026-10-06T00:00:00Z/2026-10-07T00:00:00Z")
    bill = [cur_row(pricing__unit="Furlongs", identity__TimeInterval=day) for day in days]
    rows = extracted(engine, [write_bill(tmp_path / "bill.csv", bill)], "cur")
    found = engine.to_arrow(unexplained(mapped_lines(engine, rows, "cur")).order_by("usage_date")).to_pylist()
    assert [(r["usage_date"].isoformat(), r["value"], r["rows"]) for r in found] == [
        ("2026-10-05", "Furlongs", 1),
        ("2026-10-06", "Furlongs", 1),
    ]
