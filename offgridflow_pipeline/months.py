"""Calendar months: as text ``YYYY-MM``, which sorts as time does, and as first days. No tenant, no bill, no clock."""

from __future__ import annotations

import re
from datetime import date, timedelta

_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")


def first_day(month: str) -> date:
    """The first day of the month.

    Raises:
        ValueError: not a month as ``YYYY-MM``.
    """
    if not _MONTH.fullmatch(month):
        raise ValueError(f"{month!r} is no month: write it as 2026-08.")
    return date(int(month[:4]), int(month[5:]), 1)


def next_month(day: date) -> date:
    """The first day of the month after that of the day."""
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def shifted(month: str, count: int) -> str:
    """The month so many months later; earlier, when the count is negative."""
    day = first_day(month)
    number = day.year * 12 + day.month - 1 + count
    return f"{number // 12:04d}-{number % 12 + 1:02d}"


def month_days(month: str) -> list[date]:
    """All calendar days of the month.

    Raises:
        ValueError: not a month as ``YYYY-MM``.
    """
    first = first_day(month)
    return [first + timedelta(days=n) for n in range((next_month(first) - first).days)]


def month_of(value: object) -> str | None:
    """The month in which a date, a timestamp or their ISO text begins; None when it is neither."""
    text = str(value)[:7]
    return text if _MONTH.fullmatch(text) else None
