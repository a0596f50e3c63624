"""The month's inventory against sums made in plain Python."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offgridflow_pipeline.inventory.inventory import (
    InventoryError,
    control_differences,
    ghg_inventory,
    month_days,
)
from offgridflow_pipeline.lake.schemas import GHG_INVENTORY, MEASURES
from offgridflow_pipeline_tests.inventory.ledgers import (
    InProcess,
    Ledger,
    citation,
    line,
    money_line,
    realistic,
    unmapped_line,
)


def inventory_of(ledger: Ledger, **values: object) -> pa.Table:
    totals, lines = ledger.expressions()
    arguments = {"month": "2026-10", "tenant": "acme"} | values
    return ghg_inventory(InProcess(), totals, lines, **arguments)


def rows(table: pa.Table, breakdown: str) -> list[dict]:
    return [row for row in table.to_pylist() if row["breakdown"] == breakdown]


@pytest.fixture(scope="module")
def month() -> tuple[Ledger, pa.Table]:
    """A realistic ledger and its inventory."""
    ledger = realistic()
    return ledger, inventory_of(ledger)


def test_the_total_is_the_sum_of_the_lines_to_the_last_digit(month):
    ledger, table = month
    (total,) = rows(table, "total")
    for name in MEASURES:
        emitting = [row for row in ledger.lines if row["disposition"] != "no_emission"]
        values = [row[name] for row in emitting if row.get(name) is not None]
        assert total[name] == (sum(values, Decimal(0)) if values else None), name
    assert total["line_count"] == len(ledger.lines)


@pytest.mark.parametrize(
    "breakdown",
    [
        "provider", "service", "account", "region", "day", "reason", "mbm_method", "lbm_boundary",
        "upstream_status", "dq_score", "disposition", "cost",
    ],
)  # fmt: skip
def test_every_breakdown_adds_up_to_the_total(month, breakdown):
    _, table = month
    (total,) = rows(table, "total")
    parts = rows(table, breakdown)
    for name in (*MEASURES, "line_count"):
        values = [row[name] for row in parts if row[name] is not None]
        assert sum(values) == (total[name] or 0), name


def test_dispositions_partition_the_billed_cost_of_each_currency(month):
    ledger, table = month
    for currency in ("USD", "EUR"):
        billed = sum(row["billed_cost"] for row in ledger.lines if row["BillingCurrency"] == currency)
        parts = [r["billed_cost"] for r in rows(table, "disposition") if r["submember"] == currency]
        (cost,) = (r["billed_cost"] for r in rows(table, "cost") if r["submember"] == currency)
        assert sum(parts) == billed == cost


def test_breakdown_rows_carry_their_cost_per_currency():
    ledger = Ledger([line(1), line(2, BillingCurrency="EUR", billed_cost=Decimal("2.50"))])
    (provider,) = rows(inventory_of(ledger), "provider")
    assert json.loads(provider["detail"]) == {"billed_cost": {"USD": "1.1", "EUR": "2.5"}}


def test_unmapped_lines_have_cost_but_no_kilograms():
    ledger = Ledger([unmapped_line(1, "9.99")])
    table = inventory_of(ledger)
    (total,) = rows(table, "total")
    assert total["co2e_lbm_kg"] is None
    (unmapped,) = rows(table, "disposition")
    assert (unmapped["member"], unmapped["billed_cost"]) == ("unmapped", Decimal("9.99"))


def test_money_rows_do_not_turn_a_missing_measure_into_zero():
    ledger = Ledger([line(1, upstream_energy_kg=None), money_line(2, "5")])
    (total,) = rows(inventory_of(ledger), "total")
    assert total["upstream_energy_kg"] is None


def test_a_factor_weighs_what_the_lines_that_used_it_weigh_and_counts_once_per_line():
    ledger = Ledger([line(1, factor_ids=["a", "b", "a"]), line(2, factor_ids=["b"]), money_line(3, "4")])
    factors = {r["member"]: r for r in rows(inventory_of(ledger, citations=citation), "factor")}
    assert factors["a"]["line_count"] == 1
    assert factors["b"]["line_count"] == 2
    assert factors["b"]["co2e_lbm_kg"] == Decimal("1.800000000002")
    assert json.loads(factors["a"]["detail"])["source"] == "Example grid statistics 2025"
    assert factors["host.power.m5"]["submember"] == "coefficient"


def test_the_control_names_a_ledger_line_that_the_totals_lack():
    whole, short = Ledger([line(1), line(2)]), Ledger([line(1)])
    table = ghg_inventory(InProcess(), short.expressions()[0], whole.expressions()[1], month="2026-10", tenant="acme")
    assert control_differences(table) == [
        "2026-10 acme USD: line_difference of the ledger differs by 1",
        "2026-10 acme USD: cost_difference of the ledger differs by 1.1",
    ]
    assert control_differences(inventory_of(whole)) == []


def test_an_empty_month_has_one_total_row_and_no_measures():
    table = inventory_of(Ledger())
    assert table.schema == GHG_INVENTORY.arrow_schema
    (total,) = table.to_pylist()
    assert (total["breakdown"], total["line_count"], total["kwh"]) == ("total", 0, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tenant_id": "other"}, "tenant 'other'"),
        ({"usage_date": date(2026, 11, 1)}, "outside 2026-10"),
        ({"factor_set_sha": "00"}, "mixes factor_set_sha"),
        ({"method_id": "ccf-compat"}, "mixes method_id"),
        ({"scope": "1"}, "Scope 1"),
    ],
)
def test_rows_that_do_not_belong_together_are_refused(change, message):
    with pytest.raises(InventoryError, match=message):
        inventory_of(Ledger([line(1), line(2, **change)]))


@pytest.mark.parametrize("text", ["2026-13", "2026-1", "26-01", "", "2026-10-01"])
def test_a_text_that_is_no_month_is_refused(text):
    with pytest.raises(InventoryError, match="YYYY-MM"):
        month_days(text)


def test_the_days_of_a_leap_february_are_twenty_nine():
    assert (len(month_days("2024-02")), len(month_days("2026-12"))) == (29, 31)


KILOGRAMS = st.decimals(-1000, 1000, places=12, allow_nan=False)
LINES = st.lists(
    st.tuples(st.sampled_from(["aws", "azure"]), st.integers(1, 31), st.none() | KILOGRAMS, KILOGRAMS),
    min_size=1,
    max_size=12,
)


@settings(max_examples=15, deadline=None)
@given(entries=LINES, order=st.randoms())
def test_month_equals_days_equals_accounts_in_any_order_of_rows(entries, order):
    ledger = Ledger(
        [
            line(
                n,
                x_Provider=provider,
                SubAccountId=f"{provider}-{day % 3}",
                usage_date=date(2026, 10, day),
                co2e_lbm_kg=kilograms,
                billed_cost=cost,
            )
            for n, (provider, day, kilograms, cost) in enumerate(entries)
        ]
    )
    expected = inventory_of(ledger)
    order.shuffle(ledger.lines)
    shuffled = inventory_of(ledger)
    assert shuffled == expected
    known = [kilograms for _, _, kilograms, _ in entries if kilograms is not None]
    for breakdown in ("total", "day", "account"):
        parts = [r["co2e_lbm_kg"] for r in rows(expected, breakdown) if r["co2e_lbm_kg"] is not None]
        assert sum(parts, Decimal(0)) == sum(known, Decimal(0))
