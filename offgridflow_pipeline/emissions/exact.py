"""Exact product of a quantity and an intensity, rounded half-even to 12 decimals, as Ibis expressions.

Both factors are DECIMAL(38,18), so their product needs 36 decimals and no engine type holds it. It is
put together from 64-bit integer limbs: q = q0 + q1/10^9 + q2/10^18, and the same for k. Every step is
integer or fixed-point arithmetic; there is no float in the result, so sums do not depend on row order.
Only the arithmetic lives here; which quantity meets which intensity is decided in `calculate.py`.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import TYPE_CHECKING, NamedTuple

import ibis

from offgridflow_pipeline.usage.expressions import builtin, floor, whole_quotient

if TYPE_CHECKING:
    from collections.abc import Sequence

    import ibis.expr.types as ir

#: Bounds within which every intermediate result fits its type (see the comments in `product`).
QUANTITY_BOUND = Decimal(10) ** 12
INTENSITY_BOUND = Decimal(10) ** 6

#: quantity = millions x 10^6 + units + nano x 10^-9 + atto x 10^-18
QUANTITY_LIMBS = ("millions", "units", "nano", "atto")

_LIMB = 10**9
_ZERO = ibis.literal(Decimal(0), type="decimal(38, 12)")
_PICO = ibis.literal(Decimal("1e-12"), type="decimal(12, 12)")
_WIDE = Context(prec=80)


class ExactRangeError(ValueError):
    """An intensity lies outside the range for which products are exact."""


class _QuantityLimbs(NamedTuple):
    """Names of a quantity's limb columns."""

    millions: str
    units: str
    nano: str
    atto: str


def intensity_limb_names(measure: str) -> tuple[str, str, str]:
    """Columns of a measure's intensity: whole + nano x 10^-9 + atto x 10^-18."""
    return f"{measure}_k0", f"{measure}_k1", f"{measure}_k2"


# Ibis types its decorator as Any; without this every function below would be untyped.


# Ibis derives too narrow types for products of decimals, so the engine's own result types are stated.
@builtin(name="multiply", signature=(("decimal(7, 0)", "decimal(19, 0)"), "decimal(26, 0)"))
def _times(left: Decimal, right: Decimal) -> Decimal:
    raise NotImplementedError  # body of a builtin: the engine computes it


@builtin(name="multiply", signature=(("decimal(26, 0)", "decimal(12, 12)"), "decimal(38, 12)"))
def _times_pico(count: Decimal, pico: Decimal) -> Decimal:
    raise NotImplementedError  # body of a builtin: the engine computes it


def quantity_limbs(table: ir.Table, quantity: str, prefix: str = "q_") -> ir.Table:
    """`table` with an int64 column per limb of the DECIMAL(38,18) column `quantity`.

    They are named prefix + `QUANTITY_LIMBS`.

    Exact for an absolute value below `QUANTITY_BOUND`; the engine raises an out-of-range error, never a
    wrong number, where a limb would not fit.
    """
    # Staged selections, so that each step is computed once. Casting a narrow decimal is cheap in DuckDB;
    # dividing a 128-bit one is not: there is exactly one such division (the floor).
    whole = f"{prefix}whole"
    fraction = f"{prefix}fraction"
    staged = table.mutate(**{whole: floor(table[quantity])})
    staged = staged.mutate(
        **{
            fraction: (staged[quantity] - staged[whole]).cast("decimal(18, 18)"),
            whole: staged[whole].cast("decimal(18, 0)").cast("int64"),
        }
    )
    nano = staged[fraction].cast("decimal(18, 9)")
    atto = (staged[fraction] - nano).cast("decimal(18, 18)")
    millions = whole_quotient(staged[whole], 1_000_000)
    return staged.mutate(
        **{
            f"{prefix}millions": millions,
            f"{prefix}units": staged[whole] - millions * 1_000_000,
            # Below 2^53 a decimal becomes the nearest double and back without loss.
            f"{prefix}nano": (nano.cast("float64") * float(_LIMB)).round().cast("int64"),
            f"{prefix}atto": (atto.cast("float64") * float(_LIMB) * float(_LIMB)).round().cast("int64"),
        }
    ).drop(whole, fraction)


def split_intensity(intensity: Decimal) -> tuple[int, int, int]:
    """Whole, nano and atto limb of an intensity with at most 18 decimals.

    Raises:
        ExactRangeError: negative, not finite, `INTENSITY_BOUND` or more, or more than 18 decimals.
    """
    if not intensity.is_finite() or not 0 <= intensity < INTENSITY_BOUND:
        raise ExactRangeError(
            f"Intensity {intensity} is outside [0, {INTENSITY_BOUND}): check the unit of its coefficients."
        )
    scaled = _WIDE.scaleb(intensity, 18)
    atto = int(scaled)
    if atto != scaled:
        raise ExactRangeError(f"Intensity {intensity} has more than 18 decimals: round it before storing it.")
    whole, rest = divmod(atto, _LIMB * _LIMB)
    return whole, *divmod(rest, _LIMB)


def products(table: ir.Table, measures: Sequence[str], quantity: str = "q_") -> ir.Table:
    """`table` with one DECIMAL(38,12) column per measure: quantity x intensity, rounded half-even.

    Needs the limb columns of `quantity_limbs` and, per measure, the int64 columns named by
    `intensity_limb_names`. Null when the quantity or the intensity is null.
    """
    q = _QuantityLimbs(*(f"{quantity}{part}" for part in QUANTITY_LIMBS))
    # Bounds of the parts: |units| < 10^6, nano <= 10^9, |atto| <= 10^9 (10^9/2 in q), whole < 10^6: every sum
    # fits an int64. Stages, so that each intermediate integer is written once. The engine may merge them and
    # then shares equal subexpressions, though not below CASE or COALESCE; hence few uses of each, and no CASE over
    # what is used twice.
    for stage in (_parts, _carried, _shifted, _assembled):
        new: dict[str, ir.Value] = {}
        for measure in measures:
            new.update(stage(table, q, measure))
        table = table.mutate(**new)
    return table.drop(*(f"{measure}{part}" for measure in measures for part in _TEMPORARY))


_TEMPORARY = ("_parts", "_tail", "_least", "_shifted")
#: Added before rounding, so that integer division of the sum rounds down: an even multiple of 10^6.
_SHIFT = 2 * 10**18


def _parts(t: ir.Table, q: _QuantityLimbs, measure: str) -> dict[str, ir.Value]:
    whole, nano, atto = (t[name] for name in intensity_limb_names(measure))
    return {
        f"{measure}_parts": t[q.units] * atto + t[q.nano] * nano + t[q.atto] * whole,  # x 10^-18, below 1.1 x 10^18
        f"{measure}_tail": t[q.nano] * atto + t[q.atto] * nano,  # x 10^-27
        f"{measure}_least": t[q.atto] * atto,  # x 10^-36
    }


def _carried(t: ir.Table, _q: _QuantityLimbs, measure: str) -> dict[str, ir.Value]:
    least = t[f"{measure}_least"]
    return {f"{measure}_tail": t[f"{measure}_tail"] + whole_quotient(least, _LIMB), f"{measure}_least": least % _LIMB}


def _shifted(t: ir.Table, _q: _QuantityLimbs, measure: str) -> dict[str, ir.Value]:
    """Twice the value in 10^-18, shifted to be positive; plus a half of 10^-12 for rounding."""
    tail = t[f"{measure}_tail"]
    # What is left below 10^-18 only decides ties: its sign is enough (a sticky bit).
    below = (tail % _LIMB) * _LIMB + t[f"{measure}_least"]
    doubled = (t[f"{measure}_parts"] + whole_quotient(tail, _LIMB) + _SHIFT) * 2 + below.sign().cast("int64")
    return {f"{measure}_shifted": doubled + 1_000_000}


def _picos(t: ir.Table, q: _QuantityLimbs, measure: str) -> ir.IntegerValue:
    """Parts below 10^-12 rounded half-even to whole picos."""
    shifted = t[f"{measure}_shifted"]
    # An exact multiple of 2 x 10^6 is a tie, rounded up by the division; down again if that made it odd. The
    # millions are added later and may be odd, so they count for the evenness of the last place.
    odd_millions = (t[q.millions] * t[intensity_limb_names(measure)[2]]) & 1
    is_odd_tie = (shifted + odd_millions * 2_000_000) % 4_000_000 == 2_000_000
    return whole_quotient(shifted, 2_000_000) - is_odd_tie.cast("int64") - _SHIFT // 1_000_000


def _assembled(t: ir.Table, q: _QuantityLimbs, measure: str) -> dict[str, ir.Value]:
    whole, nano, atto = (t[name] for name in intensity_limb_names(measure))
    millions, units = t[q.millions], t[q.units]
    # 10^6 x an intensity has 12 decimals, so the millions need no rounding.
    millions_part = _times(millions.cast("decimal(7, 0)"), (nano * _LIMB + atto).cast("decimal(19, 0)"))
    units_part = (units * nano + t[q.nano] * whole) * 1_000 + _picos(t, q, measure)
    large = ((millions * 1_000_000 + units) * whole).cast("decimal(38, 12)") + _times_pico(millions_part, _PICO)
    # 128-bit arithmetic is the dear part: few rows have millions of a unit or a whole kWh or kg per unit.
    return {
        measure: ibis.ifelse((millions == 0) & (whole == 0), _ZERO, large)
        + _times_pico(units_part.cast("decimal(19, 0)"), _PICO)
    }


def rounded_product(quantity: Decimal, intensity: Decimal) -> Decimal:
    """The same product in Python: what any stored line must recompute to."""
    exact = _WIDE.multiply(quantity, intensity)
    return exact.quantize(Decimal("1e-12"), rounding=ROUND_HALF_EVEN, context=_WIDE)
