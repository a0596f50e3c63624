"""Laws of the two rounding rules."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offgridflow_pipeline.reporting.rounding import apportioned, ratio, rounded

AMOUNTS = st.decimals(-(10**12), 10**12, places=12, allow_nan=False)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0.0125", "0.012"), ("0.0135", "0.014"), ("-0.0125", "-0.012"), ("-0.0001", "0.000"), ("7", "7.000")],
)
def test_a_leaf_is_rounded_half_even_and_never_to_negative_zero(value, expected):
    assert str(rounded(Decimal(value), 3)) == expected


def test_a_leaf_of_the_widest_ledger_type_keeps_every_digit():
    assert rounded(Decimal("99999999999999999999999999.999499999999"), 3) == Decimal("99999999999999999999999999.999")


@given(st.lists(AMOUNTS, min_size=1, max_size=20), st.integers(0, 6))
def test_apportioned_parts_add_up_and_move_by_less_than_one_unit(parts, decimals):
    total = rounded(sum(parts, Decimal(0)), decimals)
    values = apportioned(parts, total, decimals)
    assert sum(values, Decimal(0)) == total
    unit = Decimal(1).scaleb(-decimals)
    assert all(abs(value - part) <= unit for value, part in zip(values, parts, strict=True))


@given(st.lists(AMOUNTS, min_size=1, max_size=12), st.integers(0, 4))
def test_equal_input_is_apportioned_equally_on_every_call(parts, decimals):
    total = rounded(sum(parts, Decimal(0)), decimals)
    assert apportioned(parts, total, decimals) == apportioned(list(parts), total, decimals)


def test_no_parts_are_apportioned_to_none():
    assert apportioned([], Decimal(0), 2) == []


def test_a_ratio_of_nothing_is_not_available():
    assert ratio(Decimal(1), Decimal(0), 4) is None
    assert ratio(Decimal(1), Decimal(3), 4) == Decimal("0.3333")
