"""Digests of a day's billed rows: whether a delivery changes a day, whatever order or files its rows came in.

A digest is the row count and the sum modulo 2^256 of the rows' SHA-256 hashes (billing-feeds.md 3): equal for any
permutation or re-chunking, while one changed, added, dropped or doubled row gives another. `source_row_hash` covers
quantity and money. Which days are written because of it is decided in `ingest`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

import ibis

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from offgridflow_pipeline.lake.engine import Engine

#: A hash is 4 words of 16 hexadecimal digits: sums of 64-bit words stay exact in decimals of 38 digits.
_WORDS, _WORD_DIGITS = 4, 16
_MODULUS = 2**256

#: Connection and usage date.
DayOfConnection = tuple[str, date]


class DayDigest(NamedTuple):
    """What one connection billed for one day: number of rows, and the sum of their hashes as 64 hex digits."""

    row_count: int
    cost_digest: str


#: The digest of a day without rows.
EMPTY_DAY = DayDigest(0, "0" * 64)


def day_digests(engine: Engine, rows: ir.Table) -> dict[DayOfConnection, DayDigest]:
    """Digest of every day of every connection that has rows in an extract table; one pass over three columns."""
    words = {f"word_{n}": _word(rows, n).sum() for n in range(_WORDS)}
    totals = rows.group_by("connection_id", "usage_date").aggregate(row_count=rows.count(), **words)
    return {
        (found["connection_id"], found["usage_date"]): DayDigest(found["row_count"], _combined(found))
        for found in engine.to_arrow(totals).to_pylist()
    }


def changed_days(
    committed: Mapping[DayOfConnection, tuple[int, str]],
    delivered: Mapping[DayOfConnection, tuple[int, str]],
    days: Iterable[date],
) -> set[date]:
    """Days, out of those asked for, on which any connection delivered something other than what is committed.

    A day that is in neither has no rows on both sides and is unchanged.
    """
    wanted = set(days)
    differing = {key for key in committed.keys() | delivered.keys() if _of(committed, key) != _of(delivered, key)}
    return {day for _, day in differing if day in wanted}


def _of(digests: Mapping[DayOfConnection, tuple[int, str]], key: DayOfConnection) -> tuple[int, str]:
    return digests.get(key, EMPTY_DAY)


def _word(rows: ir.Table, number: int) -> ir.DecimalColumn:
    digits = rows.source_row_hash.substr(number * _WORD_DIGITS, _WORD_DIGITS)
    return (ibis.literal("0x") + digits).cast("uint64").cast("decimal(38, 0)")


def _combined(found: Mapping[str, Any]) -> str:
    # Added, not joined: the sum of a word carries into the word before it.
    shifted = (int(found[f"word_{n}"]) << (64 * (_WORDS - 1 - n)) for n in range(_WORDS))
    return f"{sum(shifted) % _MODULUS:064x}"
