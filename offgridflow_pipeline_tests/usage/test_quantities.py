"""Billed quantities in canonical units: every rule against Python's decimals, none through a float."""

from __future__ import annotations

import calendar
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline.usage.quantities import quotient
from offgridflow_pipeline_tests.connectors.bills import cur_row, one_line

ATTO = Decimal(1).scaleb(-18)


def _days(month: str) -> int:
    return calendar.monthrange(*map(int, month.split("-")))[1]


def _row(unit: str, amount: str, month: str = "2026-10") -> dict[str, str]:
    interval = f"{month}-05T00:00:00Z/{month}-06T00:00:00Z"
    return cur_row(pricing__unit=unit, lineItem__UsageAmount=amount, identity__TimeInterval=interval)


@pytest.mark.parametrize(
    ("unit", "canonical", "factor"),
    [
        ("Hrs", "Hours", 1),
        ("vCPU-Hours", "vCPU-Hours", 1),
        ("GB", "GiB", 1),
        ("GB-Hours", "GiB-Hours", 1),
        ("GB-Mo", "GiB-Hours", 31 * 24),
        ("Obj-Month", "Hours", 31 * 24),
        ("Lambda-GB-Second", "GiB-Hours", Decimal(1) / 3600),
        ("Requests", "Requests", 1),
    ],
)
def test_each_unit_has_its_rule(engine: Engine, tmp_path: Path, unit: str, canonical: str, factor: Decimal) -> None:
    line = one_line(engine, tmp_path, "cur", _row(unit, "7.2"))
    assert line["x_NormUnit"] == canonical
    assert line["x_NormQuantity"] == (Decimal("7.2") * factor).quantize(ATTO)
    assert line["x_SourceUnit"] == unit
    assert line["x_UnitRule"]


@pytest.mark.parametrize("month", ["2026-02", "2028-02", "2026-04", "2026-12"])
def test_a_month_has_the_hours_of_its_calendar(engine: Engine, tmp_path: Path, month: str) -> None:
    line = one_line(engine, tmp_path, "cur", _row("GB-Mo", "0.25", month))
    assert line["x_NormQuantity"] == Decimal("0.25") * _days(month) * 24


def test_thirteen_objects_held_a_november_day_are_thirteen_objects(engine: Engine, tmp_path: Path) -> None:
    # Measured (billing-feeds.md 4.5): a catalog of 13 objects shows 0.4333333344 Obj-Month every day.
    line = one_line(engine, tmp_path, "cur", _row("Obj-Month", "0.4333333344", "2026-11"))
    assert round(line["x_NormQuantity"] / 24) == 13


def test_an_unknown_unit_leaves_the_canonical_quantity_open_and_keeps_the_row(engine: Engine, tmp_path: Path) -> None:
    line = one_line(engine, tmp_path, "cur", _row("Furlongs", "7"))
    assert (line["x_NormUnit"], line["x_NormQuantity"], line["x_UnitRule"]) == (None, None, None)
    assert (line["ConsumedQuantity"], line["x_Disposition"]) == (7, "countable")
    assert line["BilledCost"] == Decimal("5.52")


def test_a_negative_quantity_stays_negative(engine: Engine, tmp_path: Path) -> None:
    assert one_line(engine, tmp_path, "cur", _row("Lambda-GB-Second", "-7200"))["x_NormQuantity"] == -2


@settings(max_examples=8, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.decimals(min_value=-(10**12), max_value=10**12, places=18, allow_nan=False),
            st.sampled_from([60, 1024, 3600, 2**30, 3_865_470_566_400]),
        ),
        min_size=20, max_size=60,
    )
)  # fmt: skip
def test_a_division_is_exact_and_rounded_half_even(cases: list[tuple[Decimal, int]]) -> None:
    with Engine(128, 1) as engine:
        table = engine.register(
            "cases",
            pa.table(
                {
                    "quantity": pa.array([q for q, _ in cases], pa.decimal128(38, 18)),
                    "divisor": pa.array([d for _, d in cases], pa.int64()),
                }
            ),
        )
        found = engine.to_arrow(
            table.mutate(result=quotient(table.quantity, table.divisor)).select("quantity", "divisor", "result")
        ).to_pylist()
    with localcontext() as context:
        context.prec = 80
        for row in found:
            expected = (row["quantity"] / row["divisor"]).quantize(ATTO, ROUND_HALF_EVEN)
            assert row["result"] == expected, row


def test_the_day_decides_the_month_not_the_billing_period(engine: Engine, tmp_path: Path) -> None:
    line = one_line(engine, tmp_path, "cur", _row("GB-Mo", "1", "2026-02"))
    assert line["usage_date"] == date(2026, 2, 5)
    assert line["x_NormQuantity"] == 28 * 24
