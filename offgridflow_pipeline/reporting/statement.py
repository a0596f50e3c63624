"""The statement's figures: scopes, providers and components of one month, rounded at the leaves.

A leaf is one provider's component (use-phase electricity, embodied, upstream) of Scope 3 category 1. Leaves
are rounded once; every sum over them is a sum of rounded values, so tables and taxonomies add up in both
directions (xbrl.md section 6). Scopes 1 and 2 belong to the company inventory, not to this edition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, localcontext
from typing import Any

import pyarrow as pa

from offgridflow_pipeline.inventory.inventory import month_days, plain
from offgridflow_pipeline.reporting.fact import Fact, metric
from offgridflow_pipeline.reporting.rounding import EXACT, rounded

#: Kilograms in a tonne and kilowatt-hours in a megawatt-hour.
THOUSAND = Decimal(1000)
#: Providers the taxonomy has members for; others are added up as "other".
PROVIDERS = ("aws", "azure", "gcp", "oci")
NOT_IN_EDITION = "Not in this edition: cloud footprint (Scope 3 category 1, cloud services)"
NO_DATA = "No billed usage with a model in this month"

#: Basis of a metric: component to ledger measure.
COMPONENTS: Mapping[str, Mapping[str, str]] = {
    "scope3_location": {
        "use_phase": "co2e_lbm_kg",
        "embodied": "embodied_kg",
        "upstream": "upstream_energy_kg",
    },
    "scope3_market": {
        "use_phase": "co2e_mbm_kg",
        "embodied": "embodied_kg",
        "upstream": "upstream_energy_kg",
    },
}
TOTALS = {"scope3_location": "total_location", "scope3_market": "total_market"}
_NO_VALUE = {
    "use_phase": "No usage of this provider could be modelled",
    "embodied": "No hardware data for this usage",
    "upstream": "No published upstream factor for these regions",
}

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MonthInventory:
    """One month's inventory rows, by breakdown."""

    month: str
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, table: pa.Table) -> MonthInventory:
        """Rows of a `ghg_inventory` table of one month."""
        rows = table.to_pylist()
        return cls(rows[0]["month"] if rows else "", tuple(rows))

    @property
    def days(self) -> tuple[date, date]:
        """First and last day."""
        days = month_days(self.month)
        return days[0], days[-1]

    def breakdown(self, name: str) -> list[Row]:
        """Rows of that breakdown, in order of member."""
        return [row for row in self.rows if row["breakdown"] == name]

    @property
    def total(self) -> Row:
        """The total row."""
        return self.breakdown("total")[0]


class Statement:
    """The figures of one month; `facts` are in order of presentation."""

    def __init__(self, inventory: MonthInventory, decimals: int) -> None:
        self._decimals = decimals
        self._start, self._end = inventory.days
        self._providers = _by_provider(inventory.breakdown("provider"))
        with localcontext(EXACT):
            self.scopes = [self._missing_scope(name) for name in ("scope1", "scope2_location", "scope2_market")]
            self.leaves = {name: self._leaves(name) for name in COMPONENTS}
            self.scope3 = {name: self._scope3(name) for name in COMPONENTS}
            self.totals = {name: self._total(name) for name in COMPONENTS}
            self.electricity = self._electricity()

    @property
    def facts(self) -> list[Fact]:
        """Headline, then providers and components."""
        scope3 = [fact for name in COMPONENTS for fact in self.scope3[name]]
        leaves = [fact for name in COMPONENTS for fact in self.leaves[name].values()]
        return [*self.scopes, *scope3, *self.totals.values(), *self.electricity, *leaves]

    @property
    def comparatives(self) -> list[Fact]:
        """What a later month shows of this one: totals, Scope 3, providers and electricity."""
        scope3 = [f for name in COMPONENTS for f in self.scope3[name] if "component" not in f.dims]
        scope3 = [fact for fact in scope3 if fact.dims.get("s3_category") != "other"]
        return [f for f in (*scope3, *self.totals.values(), *self.electricity) if f.value is not None]

    def number(
        self,
        name: str,
        value: Decimal | None,
        *,
        dims: Mapping[str, str] | None = None,
        exact: Decimal | None = None,
        reason: str = NO_DATA,
        basis: Sequence[Fact] = (),
    ) -> Fact:
        """A fact in the mass unit of `name`, for this month; None is not available for `reason`."""
        return Fact(
            metric=name,
            period_start=self._start,
            period_end=self._end,
            value_type="number",
            value=None if value is None else f"{value:f}",
            dims=dims or {},
            exact=None if exact is None or value is None else plain(exact),
            unit=metric(name).unit,
            decimals=None if value is None else self._decimals,
            reason=reason if value is None else None,
            basis=tuple(fact.fact_id for fact in basis),
        )

    def _missing_scope(self, name: str) -> Fact:
        return self.number(name, None, reason=NOT_IN_EDITION)

    def _leaves(self, name: str) -> dict[tuple[str, str], Fact]:
        found = {}
        for provider, measures in self._providers.items():
            for component, measure in COMPONENTS[name].items():
                kilograms = measures[measure]
                exact = None if kilograms is None else kilograms / THOUSAND
                found[provider, component] = self.number(
                    name,
                    None if exact is None else rounded(exact, self._decimals),
                    dims={"s3_category": "1", "cloud_provider": provider, "component": component},
                    exact=exact,
                    reason=_NO_VALUE[component],
                )
        return found

    def _scope3(self, name: str) -> list[Fact]:
        """Scope 3, its category 1, that category by provider and by component."""
        leaves = self.leaves[name]
        category = {"s3_category": "1"}
        providers = [
            self._sum(
                name,
                [fact for (p, _), fact in leaves.items() if p == provider],
                category | {"cloud_provider": provider},
                NO_DATA,
            )
            for provider in self._providers
        ]
        components = [
            self._sum(
                name,
                [f for (_, c), f in leaves.items() if c == component],
                category | {"component": component},
                _NO_VALUE[component],
            )
            for component in COMPONENTS[name]
        ]
        first = self._sum(name, list(leaves.values()), category, NO_DATA)
        rest = self.number(name, None, dims={"s3_category": "other"}, reason=NOT_IN_EDITION)
        return [self._sum(name, [first], {}, NO_DATA), first, rest, *providers, *components]

    def _total(self, name: str) -> Fact:
        return self._sum(TOTALS[name], [self.scope3[name][0]], {}, NO_DATA)

    def _electricity(self) -> list[Fact]:
        providers = []
        for provider, measures in self._providers.items():
            exact = None if measures["kwh"] is None else measures["kwh"] / THOUSAND
            providers.append(
                self.number(
                    "electricity",
                    None if exact is None else rounded(exact, self._decimals),
                    dims={"cloud_provider": provider},
                    exact=exact,
                    reason=_NO_VALUE["use_phase"],
                )
            )
        return [self._sum("electricity", providers, {}, NO_DATA), *providers]

    def _sum(self, name: str, parts: Sequence[Fact], dims: Mapping[str, str], reason: str) -> Fact:
        """Sum of the parts that have a value; not available when none has."""
        known = [part for part in parts if part.value is not None]
        if not known:
            return self.number(name, None, dims=dims, reason=reason, basis=parts)
        exact = sum((Decimal(part.exact) for part in known if part.exact is not None), Decimal(0))
        value = sum((part.number for part in known), Decimal(0))
        return self.number(name, value, dims=dims, exact=exact, basis=known)


def _by_provider(rows: Sequence[Row]) -> dict[str, dict[str, Decimal | None]]:
    """Measures per reported provider, in the order of `PROVIDERS`; unknown ones are added up as other."""
    measures = ("co2e_lbm_kg", "co2e_mbm_kg", "embodied_kg", "upstream_energy_kg", "kwh")
    found: dict[str, dict[str, Decimal | None]] = {}
    order = [*PROVIDERS, "other"]
    for row in sorted(rows, key=lambda row: order.index(_provider(row))):
        sums = found.setdefault(_provider(row), dict.fromkeys(measures))
        for name in measures:
            if row[name] is not None:
                with localcontext(EXACT):
                    sums[name] = (sums[name] or Decimal(0)) + row[name]
    return found


def _provider(row: Row) -> str:
    return row["member"] if row["member"] in PROVIDERS else "other"
