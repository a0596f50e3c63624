"""What the pages show of published emissions, put together from the repositories' sums.

Nothing is estimated here. A total is the sum of its three published parts, as in the inventory: use phase on one
basis, hardware, energy upstream; the two bases stand side by side and are never mixed or netted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from offgridflow_pipeline.database.pipeline.emissions_reads import DISPOSITIONS
from offgridflow_pipeline.months import first_day, month_days, shifted

if TYPE_CHECKING:
    from offgridflow_pipeline.database.pipeline.emissions_reads import Coverage, GroupTotals
    from offgridflow_pipeline.sidecar.entrance.caller import Caller

MONTHS_OF_TREND = 13
#: How far back figures are looked for when there are none of late.
MONTHS_OF_HISTORY = 120
#: Groups of one list that are read; more than a tenant has, and a bound for one that has too many.
MAXIMUM_GROUPS = 2_000
KNOWN_PROVIDERS = ("aws", "azure", "gcp", "oci")


@dataclass(frozen=True, slots=True)
class Sums:
    """Published sums: energy in kWh, emissions in kgCO2e; None where nothing was computed."""

    kwh: Decimal | None
    use_location_kg: Decimal | None
    use_market_kg: Decimal | None
    embodied_kg: Decimal | None
    upstream_kg: Decimal | None
    lines: int

    @property
    def location_kg(self) -> Decimal | None:
        """Total, location-based."""
        return _added((self.use_location_kg, self.embodied_kg, self.upstream_kg))

    @property
    def market_kg(self) -> Decimal | None:
        """Total, market-based; None where the use phase has no market-based figure."""
        if self.use_market_kg is None:
            return None
        return _added((self.use_market_kg, self.embodied_kg, self.upstream_kg))


@dataclass(frozen=True, slots=True)
class Slice:
    """One member of a breakdown; `share` of the largest member, for its bar."""

    member: str | None
    sums: Sums
    share: float
    kind: str = "member"


@dataclass(frozen=True, slots=True)
class Month:
    """A month of the trend by provider."""

    month: str
    first: date
    providers: dict[str, Sums]
    total: Sums
    closed: bool


@dataclass(frozen=True, slots=True)
class Bill:
    """Billed cost of one currency, and ledger lines, by disposition."""

    currency: str | None
    costs: dict[str, Decimal]
    lines: dict[str, int]

    @property
    def covered(self) -> Decimal | None:
        """Share of the resources' cost that has figures; None where the bill has no resources."""
        with_figures = self.costs["mapped"] + self.costs["proxied"]
        resources = with_figures + self.costs["unmapped"]
        return with_figures / resources if resources > 0 else None


def trend(caller: Caller, last_month: str, count: int = MONTHS_OF_TREND) -> list[Month]:
    """The months up to `last_month` that have figures, oldest first."""
    first = shifted(last_month, 1 - count)
    rows, closed = caller.database.emissions.totals(
        caller.tenant,
        first_day(first),
        month_days(last_month)[-1],
        group_by=("month", "provider"),
        limit=MAXIMUM_GROUPS,
    )
    months: dict[str, dict[str, list[GroupTotals]]] = {}
    for row in rows:
        month, provider = row.group
        name = provider if provider in KNOWN_PROVIDERS else "other"
        months.setdefault(str(month), {}).setdefault(str(name), []).append(row)
    return [
        Month(
            month,
            first_day(month),
            {name: sums(parts) for name, parts in sorted(by_provider.items(), key=lambda found: _place(found[0]))},
            sums(row for parts in by_provider.values() for row in parts),
            month in closed,
        )
        for month, by_provider in sorted(months.items())
    ]


def breakdown(caller: Caller, month: str, dimension: str, limit: int | None = None) -> list[Slice]:
    """The month by members of a dimension, heaviest first; behind `limit` the others together as one."""
    days = month_days(month)
    rows, _ = caller.database.emissions.totals(
        caller.tenant, days[0], days[-1], group_by=(dimension,), limit=MAXIMUM_GROUPS
    )
    found = sorted(((row.group[0], sums([row])) for row in rows), key=lambda part: -(part[1].location_kg or 0))
    shown = found if limit is None or len(found) <= limit + 1 else found[:limit]
    largest = max((part.location_kg or Decimal(0) for _, part in shown), default=Decimal(0))
    slices = [Slice(member, part, _share(part.location_kg, largest)) for member, part in shown]
    if len(shown) < len(found):
        names = {member for member, _ in shown}
        rest = sums(row for row in rows if row.group[0] not in names)
        slices.append(Slice(None, rest, _share(rest.location_kg, max(largest, rest.location_kg or Decimal(0))), "rest"))
    return slices


def with_emissions(slices: Iterable[Slice]) -> list[Slice]:
    """Those for which something was computed: money rows and unmapped lines have no figure to compare."""
    return [part for part in slices if part.sums.location_kg is not None]


def last_day(caller: Caller, month: str) -> date | None:
    """The last day of the month that has figures."""
    days = month_days(month)
    rows, _ = caller.database.emissions.totals(caller.tenant, days[0], days[-1], group_by=("day",), limit=31)
    return max((date.fromisoformat(str(row.group[0])) for row in rows), default=None)


def bills(rows: Iterable[Coverage]) -> list[Bill]:
    """Coverage by currency. Rows without emissions by nature (taxes, credits) are covered; unmapped ones are not."""
    found: dict[str | None, Bill] = {}
    for row in rows:
        bill = found.setdefault(
            row.currency, Bill(row.currency, dict.fromkeys(DISPOSITIONS, Decimal(0)), dict.fromkeys(DISPOSITIONS, 0))
        )
        bill.costs[row.disposition] += Decimal(row.billed_cost)
        bill.lines[row.disposition] += row.line_count
    return sorted(found.values(), key=lambda bill: -sum(bill.costs.values()))


def sums(rows: Iterable[GroupTotals]) -> Sums:
    """The sums of several groups together."""
    found = list(rows)
    return Sums(
        _added(_decimal(row.kwh) for row in found),
        _added(_decimal(row.co2e_location_kg) for row in found),
        _added(_decimal(row.co2e_market_kg) for row in found),
        _added(_decimal(row.embodied_kg) for row in found),
        _added(_decimal(row.upstream_energy_kg) for row in found),
        sum(row.line_count for row in found),
    )


def changed(now: Decimal | None, before: Decimal | None) -> Decimal | None:
    """Relative change; None where there is nothing to compare with."""
    return (now - before) / before if now is not None and before else None


def failing(checks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Checks whose newest verdicts did not all pass, errors first."""
    return sorted(
        (check for check in checks if check["failing"]),
        key=lambda check: (check["severity"] != "ERROR", check["check"]),
    )


def _added(values: Iterable[Decimal | None]) -> Decimal | None:
    known = [value for value in values if value is not None]
    return sum(known, Decimal(0)) if known else None


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _share(value: Decimal | None, largest: Decimal) -> float:
    return float(max(value, Decimal(0)) / largest) if value is not None and largest > 0 else 0.0


def _place(provider: str) -> int:
    return KNOWN_PROVIDERS.index(provider) if provider in KNOWN_PROVIDERS else len(KNOWN_PROVIDERS)
