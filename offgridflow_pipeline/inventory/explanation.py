"""Why a ledger line has its figures: the rule that matched, the arithmetic, and the factors with their sources.

Only what the line itself carries and the pinned factor set knows; nothing is estimated again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from offgridflow_pipeline.emissions.exact import rounded_product
from offgridflow_pipeline.factors.register import FactorSetError
from offgridflow_pipeline.lake.schemas import INTENSITY_MEASURES, MEASURES

if TYPE_CHECKING:
    from offgridflow_pipeline.factors.register import Factor, FactorSet


@dataclass(frozen=True, slots=True)
class Step:
    """One measure: quantity x intensity, rounded half-even to 12 decimals, beside what the ledger holds."""

    measure: str
    meaning: str
    unit: str
    quantity: Decimal
    intensity: Decimal
    product: Decimal
    ledger: Decimal | None

    @property
    def agrees(self) -> bool:
        """Whether the ledger holds the product; a measure that is not available holds none."""
        return self.ledger is None or self.ledger == self.product


@dataclass(frozen=True, slots=True)
class UsedFactor:
    """A factor of the line; `factor` is None when the installed set does not hold it."""

    factor_uid: str
    factor: Factor | None


def arithmetic(line: Mapping[str, Any]) -> list[Step]:
    """The steps of every measure that the line has an intensity for; none without a quantity."""
    quantity = line["norm_quantity"]
    if quantity is None:
        return []
    return [
        Step(
            name,
            MEASURES[name][1],
            MEASURES[name][0],
            quantity,
            intensity,
            rounded_product(quantity, intensity),
            line[name],
        )
        for name in INTENSITY_MEASURES
        if (intensity := line[f"intensity_{name}"]) is not None
    ]


def used_factors(factor_set: FactorSet, uids: Sequence[str] | None) -> list[UsedFactor]:
    """The factors of these uids, in the order of the line."""
    return [UsedFactor(uid, _found(factor_set, uid)) for uid in uids or ()]


def _found(factor_set: FactorSet, uid: str) -> Factor | None:
    try:
        return factor_set.by_uid(uid)
    except FactorSetError:
        return None
