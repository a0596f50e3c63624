"""What the fictional companies run, and how much of it on each day.

The fleets are data (``data/*_fleet.csv``): one row per kind of resource. Prices and quantities are
illustrative, written for this project; names of services, usage types, meters and units are the providers'
own. A day's quantity depends only on (seed, item, copy, day), so any month can be made alone.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Context, Decimal
from functools import cache
from random import Random

from offgridflow_pipeline.data_rows import data_rows

#: Providers bill at most ten decimals; twelve digits survive the DOUBLE columns of a CUR 2.0 Parquet file.
BILLED = Context(prec=12)
TEN_PLACES = Decimal("1e-10")
GROWTH_EPOCH = date(2026, 1, 1)
MONTHLY_UNITS = ("-Mo", "-Month", "/Month")
MACHINE_HOURS = ("Hrs", "1 Hour", "hour")
HOURS_OF_DAY = Decimal(24)


class FleetError(ValueError):
    """A row of the fleet data cannot be used; the message names file, line and cure."""


@dataclass(frozen=True, slots=True, eq=False)
class FleetItem:
    """One kind of resource: `daily` units (or held size, for monthly units) on each of `copies` resources.

    `rate` is the price of a unit, 0 in fleets whose prices stand elsewhere.
    """

    number: int
    fields: dict[str, str]
    copies: int
    daily: Decimal
    rate: Decimal

    def __getitem__(self, name: str) -> str:
        return self.fields[name]


@dataclass(frozen=True, slots=True)
class Consumption:
    """Quantity (in billed units) of one copy of an item on one day."""

    item: FleetItem
    copy: int
    day: date
    quantity: Decimal


def rows(name: str) -> list[dict[str, str]]:
    """Rows of a data file of this package."""
    return data_rows(__file__, name)


@cache
def fleet(name: str) -> tuple[FleetItem, ...]:
    """Items of a fleet file.

    Raises:
        FleetError: a number cannot be read or a pattern is unknown.
    """
    items = []
    for number, row in enumerate(rows(name), start=1):
        if row["pattern"] not in {*_STEADY, *_VARYING}:
            known = sorted({*_STEADY, *_VARYING})
            raise FleetError(f"{name}, line {number + 1}: pattern {row['pattern']!r}; use one of {known}.")
        try:
            items.append(
                FleetItem(number, row, int(row["copies"]), Decimal(row["daily"]), Decimal(row.get("rate", "0")))
            )
        except (ValueError, ArithmeticError) as error:
            raise FleetError(f"{name}, line {number + 1}: copies, daily and rate must be numbers.") from error
    return tuple(items)


def consumption(items: tuple[FleetItem, ...], unit_column: str, days: list[date], seed: int) -> Iterator[Consumption]:
    """Daily quantities, day by day; days on which a resource did not run have no row."""
    for day in days:
        days_in_month = monthrange(day.year, day.month)[1]
        for item in items:
            for copy in range(item.copies):
                share = _share(item, copy, day, seed)
                if share == 0:
                    continue
                quantity = item.daily * _size(item, copy, seed) * Decimal(str(round(share, 4)))
                if item[unit_column].endswith(MONTHLY_UNITS):
                    quantity /= days_in_month
                elif item["instance_type"] and item[unit_column] in MACHINE_HOURS:
                    quantity = min(quantity, max(HOURS_OF_DAY, item.daily))  # no machine runs 25 hours a day
                yield Consumption(item, copy, day, billed(quantity))


def own_seed(seed: int, bill: str) -> int:
    """A seed for one of several bills of the same fleet, so that they differ."""
    return seed * 1_000_000 + sum(bill.encode())


def billed(number: Decimal) -> Decimal:
    """A number as a bill carries it: at most ten decimals and twelve digits."""
    return BILLED.plus(number.quantize(TEN_PLACES))


def _share(item: FleetItem, copy: int, day: date, seed: int) -> float:
    """How much of its ordinary quantity a copy uses on a day; 0 is a day without a row."""
    if steady := _STEADY.get(item["pattern"]):
        return steady(day)
    return _VARYING[item["pattern"]](_random(seed, item.number, copy, day), day)


@cache
def _size(item: FleetItem, copy: int, seed: int) -> Decimal:
    """Copies of a held or counted thing differ in size; hours of a constant resource do not."""
    if item["pattern"] == "constant" or item.copies == 1:
        return Decimal(1)
    return Decimal(str(round(_random(seed, item.number, copy, "size").uniform(0.6, 1.4), 2)))


def _random(*key: object) -> Random:
    return Random("/".join(map(str, key)))  # noqa: S311  repeatable figures, not secrets


def _weekend(day: date) -> bool:
    return day.weekday() > 4


_STEADY: dict[str, Callable[[date], float]] = {
    "constant": lambda day: 1.0,
    "growth": lambda day: 1.0 + 0.0012 * (day - GROWTH_EPOCH).days,
}
_VARYING: dict[str, Callable[[Random, date], float]] = {
    "weekday": lambda random, day: (0.45 if _weekend(day) else 1.0) * random.uniform(0.9, 1.1),
    "office": lambda random, day: 0.0 if _weekend(day) else random.uniform(0.85, 1.1),
    "noisy": lambda random, day: random.lognormvariate(0.0, 0.35),
    "burst": lambda random, day: random.uniform(0.5, 1.6) if random.random() < 0.3 else 0.0,
}
