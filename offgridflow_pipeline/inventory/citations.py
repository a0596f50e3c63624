"""Citations of factors for the factor rows of an inventory: what an auditor needs to find the figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offgridflow_pipeline.factors.register import FactorSet


def citations(factor_set: FactorSet) -> Callable[[str], Mapping[str, object] | None]:
    """Function from a factor uid to its key, value, unit, validity, source and locator.

    Values whose terms allow no redistribution are masked; key and citation stay.
    """

    def cite(factor_uid: str, /) -> Mapping[str, object] | None:
        factor = factor_set.by_uid(factor_uid)
        source = factor_set.sources[factor.source_id]
        shown = not source.masks_values
        return {
            "factor_key": factor.factor_key,
            "value": str(factor.value) if shown and factor.value is not None else None,
            "unit": factor.unit,
            "valid_from": factor.valid_from.isoformat(),
            "valid_to": factor.valid_to.isoformat() if factor.valid_to else None,
            "publisher": source.publisher,
            "title": source.title,
            "edition": source.edition,
            "locator": factor.source_locator,
            "licence": source.licence,
            "attribution": source.attribution,
        }

    return cite
