"""Facts of the printed breakdowns: services, accounts, regions and days.

Each list shows its heaviest members, adds up the others in one row, and ends in a rounding row when the
rounded parts do not add up to the statement (requirements.md R2). Cost is apportioned to the cent instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, localcontext

from offgridflow_pipeline.reporting.fact import REST, ROUNDING, Fact
from offgridflow_pipeline.reporting.quality import currencies, fact_of
from offgridflow_pipeline.reporting.rounding import EXACT, apportioned, rounded
from offgridflow_pipeline.reporting.statement import THOUSAND, MonthInventory, Row, Statement

#: Members a list shows before the rest is added up.
MEMBERS_SHOWN = 10
#: Metric -> ledger measures, and where the statement has the total.
MEASURED: Mapping[str, tuple[str, ...]] = {
    "scope3_location": ("co2e_lbm_kg", "embodied_kg", "upstream_energy_kg"),
    "scope3_market": ("co2e_mbm_kg", "embodied_kg", "upstream_energy_kg"),
    "electricity": ("kwh",),
}
BREAKDOWNS = ("service", "account", "region")


def breakdown_facts(inventory: MonthInventory, statement: Statement, decimals: int) -> list[Fact]:
    """Services, accounts and regions with both bases, electricity and cost; days location-based."""
    totals = {name: facts[0] for name, facts in statement.scope3.items()} | {"electricity": statement.electricity[0]}
    facts: list[Fact] = []
    with localcontext(EXACT):
        for name in BREAKDOWNS:
            groups = _shown(name, inventory.breakdown(name))
            for metric_name, measures in MEASURED.items():
                facts += _mass(inventory, metric_name, measures, groups, totals[metric_name], decimals)
            for currency in currencies(inventory):
                facts += _costs(inventory, groups, currency)
        days = [({"day": row["member"]}, [row]) for row in inventory.breakdown("day")]
        location = MEASURED["scope3_location"]
        facts += _mass(inventory, "scope3_location", location, days, totals["scope3_location"], decimals)
    return facts


Group = tuple[dict[str, str], Sequence[Row]]


def _shown(axis: str, rows: Sequence[Row]) -> list[Group]:
    """Heaviest members as groups of one row, the rest as one group."""
    ranked = sorted(rows, key=lambda row: (-_weight(row), row["member"], row["submember"]))
    emitting = [row for row in ranked if _weight(row)]
    silent = [row for row in ranked if not _weight(row)]
    shown = emitting[:MEMBERS_SHOWN]
    groups: list[Group] = [({axis: row["member"], "cloud_provider": row["submember"]}, [row]) for row in shown]
    rest = [*emitting[MEMBERS_SHOWN:], *silent]
    return [*groups, ({axis: REST}, rest)] if rest else groups


def _mass(
    inventory: MonthInventory,
    name: str,
    measures: Sequence[str],
    groups: Sequence[Group],
    total: Fact,
    decimals: int,
) -> Iterator[Fact]:
    if total.value is None:
        return
    printed = Decimal(0)
    for dims, rows in groups:
        values = [row[measure] for row in rows for measure in measures if row[measure] is not None]
        if not values:
            yield fact_of(inventory, name, None, decimals=decimals, dims=dims, reason="No usage could be modelled")
            continue
        exact = sum(values, Decimal(0)) / THOUSAND
        value = rounded(exact, decimals)
        printed += value
        yield fact_of(inventory, name, value, decimals=decimals, dims=dims, exact=exact)
    difference = total.number - printed
    if difference and groups:
        axis = next(iter(groups[0][0]))
        yield fact_of(inventory, name, difference, decimals=decimals, dims={axis: ROUNDING}, basis=[total])


def _costs(inventory: MonthInventory, groups: Sequence[Group], currency: str) -> Iterator[Fact]:
    exact = [sum((_cost(row, currency) for row in rows), Decimal(0)) for _, rows in groups]
    values = apportioned(exact, rounded(sum(exact, Decimal(0)), 2), 2)
    for (dims, rows), cost, value in zip(groups, exact, values, strict=True):
        if any(currency in json.loads(row["detail"])["billed_cost"] for row in rows):
            yield fact_of(
                inventory, "billed_cost", value, decimals=2, dims={**dims, "currency": currency}, exact=cost,
                unit=currency,
            )  # fmt: skip


def _cost(row: Row, currency: str) -> Decimal:
    return Decimal(json.loads(row["detail"])["billed_cost"].get(currency, "0"))


def _weight(row: Row) -> Decimal:
    measures = MEASURED["scope3_location"]
    return sum((row[name] for name in measures if row[name] is not None), Decimal(0))
