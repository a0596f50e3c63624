"""The two rounding rules of every report: leaves once half-even, and parts of a total already rounded.

Method: xbrl.md section 6. Display scale is no rounding and lives in `display`.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal, localcontext

#: Wide enough for DECIMAL(38,18) sums; the default context of 28 digits would round silently.
EXACT = Context(prec=76, rounding=ROUND_HALF_EVEN)


def rounded(value: Decimal, decimals: int) -> Decimal:
    """The value half-even at that many decimal places, never as negative zero."""
    return EXACT.add(value.quantize(Decimal(1).scaleb(-decimals), context=EXACT), Decimal(0))


def apportioned(parts: Sequence[Decimal], total: Decimal, decimals: int) -> list[Decimal]:
    """Parts at that many places that add up to `total`, by largest remainder.

    Args:
        parts: exact parts; they add up to what `total` is the rounding of.
        total: the rounded total.
        decimals: places of the total.

    Returns:
        One rounded part per part, in order; each within one unit of the last place of its exact value
        (more only if `total` is not the rounding of the sum of the parts). No parts give an empty list.
    """
    if not parts:
        return []
    unit = Decimal(1).scaleb(-decimals)
    with localcontext(EXACT):
        floors = [part.quantize(unit, rounding=ROUND_FLOOR) for part in parts]
        missing = int(((total - sum(floors, Decimal(0))) / unit).to_integral_value())
        whole, extra = divmod(missing, len(parts))
        by_remainder = sorted(range(len(parts)), key=lambda n: (floors[n] - parts[n], n))
        raised = set(by_remainder[:extra])
        return [floor + unit * (whole + (n in raised)) + Decimal(0) for n, floor in enumerate(floors)]


def ratio(part: Decimal, whole: Decimal, decimals: int) -> Decimal | None:
    """Part over whole at that many places; None where the whole is zero or negative."""
    return rounded(EXACT.divide(part, whole), decimals) if whole > 0 else None
