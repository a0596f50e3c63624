"""Keyset paging: `limit`, and an opaque cursor that holds the sort keys of the last row of a page.

A cursor is base64url of an HMAC and those keys. The HMAC also covers tenant, route and filters, so a cursor that was
altered, belongs to another tenant or to another question is refused with 400. Nothing is counted. A list route::

    cursors = pagination.cursors(services, caller, "runs", {"status": status})
    rows = repository.list(caller.tenant, after=cursors.read(cursor), limit=limit + 1)
    items, next_cursor = pagination.page(rows, limit, cursors, key=lambda row: (row.created_at, row.run_id))
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from uuid import UUID

from fastapi import Query

from offgridflow_pipeline.sidecar.entrance.problems import Problem

if TYPE_CHECKING:
    from offgridflow_pipeline.sidecar.entrance.caller import Caller
    from offgridflow_pipeline.sidecar.services import Services

MAXIMUM_LIMIT = 200
DEFAULT_LIMIT = 50
_MAC_BYTES = 16
_PURPOSE = b"offgridflow cursor 1"
_list_of = json.JSONEncoder(sort_keys=True).encode
_keys_of = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode

#: Query parameters of a list route.
Limit = Annotated[int, Query(ge=1, le=MAXIMUM_LIMIT, description="Rows of a page.")]
CursorText = Annotated[
    str | None, Query(alias="cursor", max_length=2048, description="`next_cursor` of the page before.")
]

#: One sort key of a row.
SortKey = str | int | None | date | datetime | UUID
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Cursors:
    """Reads and writes the cursors of one list: of one tenant, route and set of filters."""

    pepper: bytes
    bound: bytes

    def read(self, text: str | None) -> tuple[Any, ...] | None:
        """The sort keys after which the page begins, typed as they were written; None for the first page.

        Raises:
            Problem: 400, the cursor is not one of this list.
        """
        if text is None:
            return None
        try:
            raw = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        except (UnicodeEncodeError, binascii.Error):
            raise _refused() from None
        mac, keys = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        # Compared as text too: base64 has several spellings of the same bytes, and one only is ours.
        if not hmac.compare_digest(mac, self._mac(keys)) or _encoded(raw) != text:
            raise _refused()
        return tuple(_typed(key) for key in json.loads(keys))

    def write(self, keys: Sequence[SortKey]) -> str:
        """The cursor of the row with these sort keys."""
        text = _keys_of([_tagged(key) for key in keys]).encode()
        return _encoded(self._mac(text) + text)

    def _mac(self, keys: bytes) -> bytes:
        mac = _keyed(self.pepper).copy()
        mac.update(self.bound + keys)
        return mac.digest()[:_MAC_BYTES]


def cursors(services: Services, caller: Caller, route: str, filters: Mapping[str, Any] | None = None) -> Cursors:
    """The cursors of a list; `filters` is what the client asked for besides limit and cursor (None = not asked)."""
    asked = {name: str(value) for name, value in (filters or {}).items() if value is not None}
    bound = _list_of([str(caller.tenant_id), str(caller.user_id or ""), route, asked]).encode()
    return Cursors(services.pepper, _PURPOSE + len(bound).to_bytes(4, "big") + bound)


def page(
    rows: Sequence[Row], limit: int, bound: Cursors, key: Callable[[Row], Sequence[SortKey]]
) -> tuple[Sequence[Row], str | None]:
    """The rows of the page and the cursor of the next one, from up to `limit + 1` rows."""
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], bound.write(key(rows[limit - 1]))


@lru_cache(4)
def _keyed(pepper: bytes) -> hmac.HMAC:
    """An HMAC that has taken in the key: its copies need not look for the hash function again."""
    return hmac.new(pepper, digestmod="sha256")


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _tagged(key: SortKey) -> str | int | None:
    """JSON of a key; what JSON has no type for gets a letter in front, and so does every text."""
    match key:
        case None | int():
            return key
        case datetime():
            return f"t{key.isoformat()}"
        case date():
            return f"d{key.isoformat()}"
        case UUID():
            return f"u{key.hex}"
        case _:
            return f"s{key}"


def _typed(key: str | int | None) -> SortKey:
    if key is None or isinstance(key, int):
        return key
    kind, text = key[0], key[1:]
    match kind:
        case "t":
            return datetime.fromisoformat(text)
        case "d":
            return date.fromisoformat(text)
        case "u":
            return UUID(text)
        case _:
            return text


def _refused() -> Problem:
    return Problem(
        400,
        "bad_cursor",
        "The cursor is not one of this list: send `next_cursor` unchanged and with the same filters, or begin without.",
    )
