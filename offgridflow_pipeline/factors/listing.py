"""The register as a list: every row of a set by key and uid, filtered and read on behind a row. Nothing is chosen."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offgridflow_pipeline.factors.register import Factor, FactorSet


def listed(
    factor_set: FactorSet,
    *,
    key: str = "",
    region: str = "",
    year: int | None = None,
    after: tuple[str, str] | None = None,
    limit: int,
) -> list[Factor]:
    """Up to `limit` rows behind `after` (factor_key, factor_uid), by these two.

    Args:
        factor_set: the set.
        key: beginning of the factor key, for example ``grid.location/FR``; empty = all.
        region: geography, in any case, for example ``FR`` or ``eu-west-1``; empty = all.
        year: rows that are valid in some part of that calendar year.
        after: key and uid of the last row that was read.
        limit: number of rows at most.
    """
    rows = _sorted(factor_set)
    start = 0 if after is None else bisect_right(rows, after, key=lambda row: (row.factor_key, row.factor_uid))
    return list(islice(_fitting(rows[start:], key, region.casefold(), year), limit))


def _fitting(rows: tuple[Factor, ...], key: str, region: str, year: int | None) -> Iterator[Factor]:
    for row in rows:
        if not row.factor_key.startswith(key) or (region and row.geography.casefold() != region):
            continue
        if year is not None and not row.valid_from.year <= year <= (row.valid_to.year if row.valid_to else year):
            continue
        yield row


@lru_cache(maxsize=2)
def _sorted(factor_set: FactorSet) -> tuple[Factor, ...]:
    rows = (row for kind in factor_set.kinds for row in factor_set.of_kind(kind))
    return tuple(sorted(rows, key=lambda row: (row.factor_key, row.factor_uid)))
