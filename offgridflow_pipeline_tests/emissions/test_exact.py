"""The engine's fixed-point product against Python's Decimal."""

from __future__ import annotations

from decimal import Decimal
from functools import cache

import ibis
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from offgridflow_pipeline.emissions.exact import (
    ExactRangeError,
    intensity_limb_names,
    products,
    quantity_limbs,
    rounded_product,
    split_intensity,
)

ENGINE = ibis.duckdb.connect(threads=1)
DECIMAL = pa.decimal128(38, 18)


def engine_products(pairs: list[tuple[Decimal | None, Decimal | None]]) -> list[Decimal | None]:
    limbs = [(None, None, None) if k is None else split_intensity(k) for _, k in pairs]
    data = pa.table(
        {
            "i": pa.array(range(len(pairs)), pa.int64()),
            "q": pa.array([q for q, _ in pairs], DECIMAL),
            **{
                name: pa.array([limb[n] for limb in limbs], pa.int64())
                for n, name in enumerate(intensity_limb_names("kwh"))
            },
        }
    )
    ENGINE.con.register("pairs", data)
    arrow = ENGINE.con.sql(_products_of_pairs()).to_arrow_table()
    assert arrow["kwh"].type == pa.decimal128(38, 12)
    return arrow["kwh"].to_pylist()


@cache
def _products_of_pairs() -> str:
    table = quantity_limbs(ENGINE.table("pairs"), "q")
    return str(ibis.to_sql(products(table, ["kwh"]).select("i", "kwh").order_by("i"), dialect="duckdb"))


def decimals(bound: int, *, signed: bool) -> st.SearchStrategy[Decimal]:
    sizes = [10**e for e in (3, 9, 12, 18, 21, 24, 27, 30) if e <= len(str(bound)) + 17]
    whole = st.one_of([st.integers(-n if signed else 0, n - 1) for n in sizes])
    return whole.map(lambda n: Decimal(n).scaleb(-18))


# Ties need few digits on both sides: multiples of 5 x 10^-7 times multiples of 10^-6.
SHORT = st.tuples(
    st.integers(-(10**13), 10**13).map(lambda n: Decimal(n * 5).scaleb(-7)),
    st.integers(0, 10**7).map(lambda n: Decimal(n).scaleb(-6)),
)
PAIRS = st.one_of(st.tuples(decimals(10**12, signed=True), decimals(10**6, signed=False)), SHORT)


@given(st.lists(PAIRS, min_size=1, max_size=200))
@example([(Decimal("0.0000005"), Decimal("0.000001")), (Decimal("0.0000015"), Decimal("0.000001"))])
@example([(Decimal("-0.0000005"), Decimal("0.000001")), (Decimal("-0.0000015"), Decimal("0.000001"))])
@example([(Decimal("1000000.5"), Decimal("0.000000000001")), (Decimal("1000001.5"), Decimal("0.000000000001"))])
@example([(Decimal("1000000.0000005"), Decimal("0.000001000000000001"))])
@example([(Decimal("999999999999.999999999999999999"), Decimal("999999.999999999999999999"))])
@example([(Decimal("-999999999999.999999999999999999"), Decimal("999999.999999999999999999"))])
@example([(Decimal("-0.000000000000000001"), Decimal("0.5")), (Decimal("-1e-18"), Decimal("999999"))])
@settings(max_examples=60, deadline=None)
def test_the_engine_product_is_the_decimal_product_rounded_half_even(pairs) -> None:
    assert engine_products(pairs) == [rounded_product(q, k) for q, k in pairs]


def test_halves_go_to_the_even_neighbour() -> None:
    # 0.5, 1.5 and 2.5 units of the last place, with both signs.
    one = Decimal("0.000001")
    quantities = [Decimal(n).scaleb(-7) for n in (5, 15, 25, -5, -15, -25)]
    expected = [Decimal(n).scaleb(-12) for n in (0, 2, 2, 0, -2, -2)]
    assert engine_products([(q, one) for q in quantities]) == expected


@given(decimals(10**12, signed=True), decimals(10**6, signed=False))
@settings(max_examples=30, deadline=None)
def test_a_correction_cancels_its_usage_exactly(quantity, intensity) -> None:
    line, correction = engine_products([(quantity, intensity), (-quantity, intensity)])
    assert line + correction == 0


def test_a_null_quantity_or_intensity_gives_null() -> None:
    assert engine_products([(None, Decimal(1)), (Decimal(1), None)]) == [None, None]


@pytest.mark.parametrize("intensity", ["-0.1", "1000000", "NaN", "Infinity", "1e-19"])
def test_an_intensity_that_cannot_be_exact_is_refused(intensity) -> None:
    with pytest.raises(ExactRangeError):
        split_intensity(Decimal(intensity))


def test_a_quantity_too_large_fails_instead_of_giving_a_wrong_number() -> None:
    with pytest.raises(Exception, match=r"[Oo]ut of [Rr]ange|[Oo]verflow|[Cc]ould not cast"):
        engine_products([(Decimal("99999999999999999999.5"), Decimal("999999.5"))])
