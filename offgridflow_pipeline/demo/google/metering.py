"""How Google Cloud meters: Pacific days and months, base units of usage, and the units that prices are for.

Quantities are physical (seconds, bytes, byte-seconds, counts); amounts in pricing units divide a held gibibyte by
the hours of the Pacific month, so that November has 721 (billing-feeds.md 6.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from zoneinfo import ZoneInfo

from offgridflow_pipeline.months import shifted

PACIFIC = ZoneInfo("America/Los_Angeles")
GIBIBYTE = Decimal(2**30)
_HELD = "gibibyte month"
#: Base units in one pricing unit; held gibibytes depend on the month.
_BASE_UNITS = {
    "second": Decimal(1),
    "hour": Decimal(3600),
    "gibibyte second": GIBIBYTE,
    "gibibyte hour": GIBIBYTE * 3600,
    "gibibyte": GIBIBYTE,
    "tebibyte": Decimal(2**40),
    "count": Decimal(1),
}


@dataclass(frozen=True, slots=True)
class Window:
    """The time that one row measured, UTC."""

    start: datetime
    end: datetime

    @property
    def seconds(self) -> Decimal:
        """How long it is."""
        return Decimal(int((self.end - self.start).total_seconds()))


@cache
def pacific_day(day: date) -> Window:
    """The day as billed: from midnight to midnight in California."""
    return Window(_midnight(day), _midnight(day + timedelta(days=1)))


def hours_of(day: date, hours: int) -> list[Window]:
    """The first hours of a UTC day from two o'clock on; before seven or eight they belong to the Pacific day before."""
    first = datetime(day.year, day.month, day.day, 2, tzinfo=UTC)
    return [Window(first + timedelta(hours=n), first + timedelta(hours=n + 1)) for n in range(hours)]


def invoice_month(moment: datetime) -> str:
    """Month of the invoice (YYYYMM) that usage at a moment belongs to when it is reported in time."""
    return f"{moment.astimezone(PACIFIC):%Y%m}"


def month_after(month: str) -> str:
    """The month (YYYYMM) after a month."""
    return shifted(f"{month[:4]}-{month[4:]}", 1).replace("-", "")


def measured(quantity: Decimal, pricing_unit: str, window: Window) -> tuple[Decimal, Decimal]:
    """Amount in base units and in pricing units of a quantity.

    The quantity is in pricing units, but held gibibytes are just gibibytes: the window says how long.
    """
    if pricing_unit != _HELD:
        return quantity * _BASE_UNITS[pricing_unit], quantity
    return quantity * GIBIBYTE * window.seconds, quantity * window.seconds / _month_seconds(invoice_month(window.start))


@cache
def _month_seconds(month: str) -> Decimal:
    first, following = (date(int(m[:4]), int(m[4:]), 1) for m in (month, month_after(month)))
    return Decimal(int((_midnight(following) - _midnight(first)).total_seconds()))


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=PACIFIC).astimezone(UTC)
