"""Conditional and partial requests for one immutable representation (RFC 9110, 13 and 14). No tenant, no storage."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.datastructures import Headers

_RANGE = re.compile(r"bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*", re.IGNORECASE)


class UnsatisfiableRangeError(ValueError):
    """The range begins after the last byte: 416."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be sent: nothing (304), all of it (200), or bytes `start` to `stop` (206; `stop` excluded)."""

    status: int
    start: int
    stop: int


def wanted(method: str, headers: Headers, etag: str, size_bytes: int) -> Wanted:
    """What a GET or HEAD asks for of a representation with the strong `etag`.

    Several ranges at once, other units and malformed ranges are answered with all of it, as the standard allows;
    HEAD knows no ranges.

    Raises:
        UnsatisfiableRangeError: the range begins after the last byte.
    """
    if _any_matches(headers.get("if-none-match"), etag):
        return Wanted(304, 0, 0)
    everything = Wanted(200, 0, size_bytes)
    condition = headers.get("if-range")
    if method != "GET" or (condition is not None and condition.strip() != etag):
        return everything
    return _range(headers.get("range", ""), size_bytes) or everything


def _range(header: str, size_bytes: int) -> Wanted | None:
    """The one range of the header, cut to what there is; None where all is to be sent."""
    found = _RANGE.fullmatch(header)
    first, last = found.groups() if found else ("", "")
    if not first and not last:
        return None
    start = int(first) if first else max(0, size_bytes - int(last))
    stop = min(int(last) + 1, size_bytes) if first and last else size_bytes
    if first and last and int(last) < int(first):
        return None
    if start >= size_bytes:
        raise UnsatisfiableRangeError
    return Wanted(206, start, stop)


def _any_matches(held: str | None, etag: str) -> bool:
    """Weak comparison, as If-None-Match wants it."""
    if held is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in held.split(",")]
    return "*" in tags or etag in tags
