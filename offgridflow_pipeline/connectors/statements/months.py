"""Calendar months as text ``YYYY-MM``, which sorts as time does."""

from __future__ import annotations

import re
from datetime import date

_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")


def first_day(month: str) -> date:
    """The first day of the month.

    Raises:
        ValueError: not a month as ``YYYY-MM``.
    """
    if not _MONTH.fullmatch(month):
        raise ValueError(f"{month!r} is no month: write it as 2026-08.")
    return date(int(month[:4]), int(month[5:]), 1)


def following(month: str) -> str:
    """The month after it."""
    day = first_day(month)
    return f"{day.year + day.month // 12:04d}-{day.month % 12 + 1:02d}"


def month_of(value: object) -> str | None:
    """The month in which a date, a timestamp or their ISO text begins; None when it is neither."""
    text = str(value)[:7]
    return text if _MONTH.fullmatch(text) else None
