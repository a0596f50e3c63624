"""Usage lines against the provider's own totals, and one feed of record per billing account."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import ibis.expr.types as ir
import pyarrow as pa
import pytest

from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline.usage.control import provider_differences, several_feeds, tolerances

DAY = date(2026, 10, 5)
LINE = {
    "usage_date": DAY,
    "x_ConnectionId": "payer",
    "BillingAccountId": "1",
    "SubAccountId": "11",
    "BillingCurrency": "USD",
    "BilledCost": Decimal("10"),
}
TOTAL = {
    "usage_date": DAY,
    "connection_id": "payer",
    "source": "cost_explorer",
    "SubAccountId": "11",
    "BillingCurrency": "USD",
    "BilledCost": Decimal("10"),
    "is_final": True,
}


def _table(engine: Engine, table: schemas.Table, rows: list[dict[str, Any]], columns: dict[str, Any]) -> ir.Table:
    schema = pa.schema([table.arrow_schema.field(name) for name in columns])
    return engine.register(table.name, pa.Table.from_pylist(rows, schema=schema))


def _differences(engine: Engine, lines: list[dict[str, Any]], totals: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = provider_differences(
        _table(engine, schemas.USAGE_LINES, lines, LINE), _table(engine, schemas.CONTROL_TOTALS, totals, TOTAL)
    )
    return engine.to_arrow(found.order_by("SubAccountId")).to_pylist()


def test_a_bill_that_ties_has_no_differences(engine: Engine) -> None:
    lines = [LINE | {"BilledCost": Decimal("12.5")}, LINE | {"BilledCost": Decimal("-2.5")}]
    assert _differences(engine, lines, [TOTAL]) == []


def test_a_missing_row_is_told_with_account_and_both_figures(engine: Engine) -> None:
    (found,) = _differences(engine, [LINE], [TOTAL | {"BilledCost": Decimal("11")}])
    assert (found["x_ConnectionId"], found["SubAccountId"], found["source"]) == ("payer", "11", "cost_explorer")
    assert (found["stated"], found["billed"], found["is_final"]) == (11, 10, True)


def test_an_account_only_one_side_knows_is_a_difference(engine: Engine) -> None:
    lines = [LINE, LINE | {"SubAccountId": None, "BilledCost": Decimal("3")}]
    totals = [TOTAL, TOTAL | {"SubAccountId": "12", "BilledCost": Decimal("7")}]
    found = {row["SubAccountId"]: (row["stated"], row["billed"]) for row in _differences(engine, lines, totals)}
    assert found == {"12": (7, 0), None: (0, 3)}


def test_currencies_are_compared_each_for_itself(engine: Engine) -> None:
    totals = [TOTAL | {"BillingCurrency": "EUR"}]
    found = _differences(engine, [LINE], totals)
    assert {row["BillingCurrency"] for row in found} == {"EUR", "USD"}


@pytest.mark.parametrize(
    ("stated", "differs"), [("10.01", False), ("10.02", True), ("100000", True)]
)  # 0.01 USD or 0.01 % of the total, whichever is more
def test_the_rounding_of_cost_explorer_is_no_difference(engine: Engine, stated: str, differs: bool) -> None:
    assert bool(_differences(engine, [LINE], [TOTAL | {"BilledCost": Decimal(stated)}])) == differs


def test_a_large_bill_may_differ_by_its_ten_thousandth(engine: Engine) -> None:
    lines = [LINE | {"BilledCost": Decimal("1000000")}]
    assert _differences(engine, lines, [TOTAL | {"BilledCost": Decimal("1000099")}]) == []
    assert _differences(engine, lines, [TOTAL | {"BilledCost": Decimal("1000101")}]) != []


def test_a_source_without_a_tolerance_must_agree_to_the_last_digit(engine: Engine) -> None:
    total = TOTAL | {"source": "manifest", "BilledCost": Decimal("10.000000000000000001")}
    assert len(_differences(engine, [LINE], [total])) == 1


def test_connections_without_totals_are_not_compared(engine: Engine) -> None:
    lines = [LINE, LINE | {"x_ConnectionId": "other", "BilledCost": Decimal("99")}]
    assert _differences(engine, lines, [TOTAL]) == []


def test_an_estimate_stays_an_estimate_where_any_part_is_one(engine: Engine) -> None:
    totals = [TOTAL | {"BilledCost": Decimal("4")}, TOTAL | {"BilledCost": Decimal("5"), "is_final": False}]
    (found,) = _differences(engine, [LINE], totals)
    assert found["is_final"] is False


def test_two_feeds_of_one_account_are_found_and_two_accounts_are_not(engine: Engine) -> None:
    lines = [
        LINE,
        LINE | {"x_ConnectionId": "focus"},
        LINE | {"BillingAccountId": "2", "x_ConnectionId": "focus"},
        LINE | {"usage_date": date(2026, 10, 6)},
    ]
    (found,) = engine.to_arrow(several_feeds(_table(engine, schemas.USAGE_LINES, lines, LINE))).to_pylist()
    assert (found["usage_date"], found["BillingAccountId"], found["first"], found["last"]) == (
        DAY, "1", "focus", "payer",
    )  # fmt: skip


def test_every_tolerance_is_small_and_has_a_source() -> None:
    assert {t.source for t in tolerances()} == {"cost_explorer", "cost_management_query", "bigquery"}
    assert all(t.absolute <= Decimal("0.01") and t.one_in in (0, 10_000) for t in tolerances())


@pytest.mark.parametrize("is_final", [True, False])
def test_an_account_without_a_total_is_as_final_as_its_day(engine: Engine, is_final: bool) -> None:
    lines = [LINE, LINE | {"SubAccountId": "12", "BilledCost": Decimal("3")}]
    (found,) = _differences(engine, lines, [TOTAL | {"is_final": is_final}])
    assert (found["SubAccountId"], found["source"], found["is_final"]) == ("12", None, is_final)


def test_a_day_that_was_stated_and_has_no_billed_row_is_a_difference(engine: Engine) -> None:
    (found,) = _differences(engine, [], [TOTAL])
    assert (found["stated"], found["billed"], found["is_final"]) == (10, 0, True)


@pytest.mark.parametrize(
    ("one", "other", "twice"),
    [
        ({"BillingAccountId": "8611537"}, {"BillingAccountId": "/providers/Microsoft.Billing/billingAccounts/8611537"}, True),
        ({"BillingAccountId": None, "SubAccountId": "a"}, {"BillingAccountId": None, "SubAccountId": "b"}, False),
        ({"BillingAccountId": None, "SubAccountId": "a"}, {"BillingAccountId": None, "SubAccountId": "a"}, True),
    ],
)  # fmt: skip
def test_feeds_of_one_account_are_found_however_they_name_it(
    engine: Engine, one: dict[str, Any], other: dict[str, Any], twice: bool
) -> None:
    lines = [LINE | one, LINE | other | {"x_ConnectionId": "other"}]
    found = several_feeds(_table(engine, schemas.USAGE_LINES, lines, LINE))
    assert bool(engine.to_arrow(found).num_rows) == twice
