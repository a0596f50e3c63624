"""Facts that say how far the figures can be relied on: cost, coverage, shares, factors and controls.

All from the month's inventory. Cost is apportioned to the cent by largest remainder, so that dispositions
add up to the bill; shares are apportioned so that they add up to one (xbrl.md section 6).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, localcontext

from offgridflow_pipeline.inventory.inventory import NOT_STATED, plain
from offgridflow_pipeline.reporting.fact import Fact, metric
from offgridflow_pipeline.reporting.rounding import EXACT, apportioned, ratio, rounded
from offgridflow_pipeline.reporting.statement import MonthInventory, Row

#: Dispositions in order of presentation; the first two carry emissions.
DISPOSITIONS = ("mapped", "proxied", "no_emission", "unmapped")
#: Share metric -> (inventory breakdown, measures that weigh a member).
SHARES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "data_quality_share": ("dq_score", ("co2e_lbm_kg", "embodied_kg", "upstream_energy_kg")),
    "market_method_share": ("mbm_method", ("co2e_mbm_kg",)),
    "grid_boundary_share": ("lbm_boundary", ("kwh",)),
    "upstream_status_share": ("upstream_status", ("kwh",)),
}
#: Factors of each kind that the report names; the data pack and the ledger have all of them.
FACTORS_SHOWN = 12
_LOCATION = ("co2e_lbm_kg", "embodied_kg", "upstream_energy_kg")


def quality_facts(inventory: MonthInventory) -> list[Fact]:
    """Cost, lines, coverage, quality shares, factors and controls of the month, in that order."""
    with localcontext(EXACT):
        facts = [*_cost(inventory), *_coverage(inventory), *_shares(inventory)]
        return [*facts, *_factors(inventory), *_controls(inventory)]


def fact_of(
    inventory: MonthInventory,
    name: str,
    value: Decimal | None,
    *,
    decimals: int,
    dims: Mapping[str, str] | None = None,
    exact: Decimal | None = None,
    unit: str | None = None,
    reason: str = "",
    basis: Iterable[Fact] = (),
) -> Fact:
    """A number of the month with its own decimals; None is not available for `reason`."""
    start, end = inventory.days
    return Fact(
        metric=name,
        period_start=start,
        period_end=end,
        value_type="number",
        value=None if value is None else f"{value:f}",
        dims=dims or {},
        exact=None if exact is None else plain(exact),
        unit=metric(name).unit if unit is None else unit,
        decimals=None if value is None else decimals,
        reason=reason if value is None else None,
        basis=tuple(fact.fact_id for fact in basis),
    )


def currencies(inventory: MonthInventory) -> list[str]:
    """Currencies the month was billed in, sorted."""
    return sorted({row["submember"] for row in inventory.breakdown("cost")})


def _cost(inventory: MonthInventory) -> Iterator[Fact]:
    """Billed cost per currency, disposition and reason; lines per disposition and reason."""
    for row in inventory.breakdown("cost"):
        currency, exact = row["submember"], row["billed_cost"]
        total = rounded(exact, 2)
        yield _money(inventory, total, exact, {"currency": currency})
        parts = [r for r in _by_disposition(inventory) if r["submember"] == currency]
        values = apportioned([r["billed_cost"] for r in parts], total, 2)
        for part, value in zip(parts, values, strict=True):
            dims = {"currency": currency, "disposition": part["member"]}
            yield _money(inventory, value, part["billed_cost"], dims)
            yield from _reason_costs(inventory, dims, value)
    yield _lines(inventory, inventory.total["line_count"], {})
    for name in DISPOSITIONS:
        counts = [r["line_count"] for r in inventory.breakdown("disposition") if r["member"] == name]
        if counts:
            yield _lines(inventory, sum(counts), {"disposition": name})
    for row in _reasons(inventory):
        yield _lines(inventory, row["line_count"], {"disposition": row["submember"], "reason": row["member"]})


def _reason_costs(inventory: MonthInventory, dims: Mapping[str, str], total: Decimal) -> Iterator[Fact]:
    rows = [r for r in _reasons(inventory) if r["submember"] == dims["disposition"]]
    costs = {r["member"]: _cost_in(r, dims["currency"]) for r in rows}
    known = {reason: cost for reason, cost in costs.items() if cost is not None}
    for (reason, exact), value in zip(known.items(), apportioned([*known.values()], total, 2), strict=True):
        yield _money(inventory, value, exact, {**dims, "reason": reason})


def _coverage(inventory: MonthInventory) -> Iterator[Fact]:
    countable = [d for d in DISPOSITIONS if d != "no_emission"]
    for currency in currencies(inventory):
        costs = {r["member"]: r["billed_cost"] for r in _by_disposition(inventory) if r["submember"] == currency}
        yield _covered(inventory, "coverage_cost", costs, countable, {"currency": currency})
    lines: dict[str, Decimal] = {}
    for row in _by_disposition(inventory):
        lines[row["member"]] = lines.get(row["member"], Decimal(0)) + row["line_count"]
    yield _covered(inventory, "coverage_lines", lines, countable, {})


def _covered(
    inventory: MonthInventory,
    name: str,
    amounts: Mapping[str, Decimal],
    countable: Iterable[str],
    dims: Mapping[str, str],
) -> Fact:
    covered = sum((amounts.get(d, Decimal(0)) for d in DISPOSITIONS[:2]), Decimal(0))
    whole = sum((amounts.get(d, Decimal(0)) for d in countable), Decimal(0))
    return fact_of(
        inventory, name, ratio(covered, whole, 4), decimals=4, dims=dims, reason="No billed usage that could emit"
    )


def _shares(inventory: MonthInventory) -> Iterator[Fact]:
    for name, (breakdown, measures) in SHARES.items():
        weights = {
            row["member"]: _weight(row, measures)
            for row in inventory.breakdown(breakdown)
            if row["member"] != NOT_STATED
        }
        total = sum(weights.values(), Decimal(0))
        members = [member for member, weight in weights.items() if weight] if total > 0 else []
        exact = [weights[member] / total for member in members]
        for member, share, value in zip(members, exact, apportioned(exact, Decimal(1), 4), strict=True):
            yield fact_of(inventory, name, value, decimals=4, dims={breakdown: member}, exact=share)
        if name == "data_quality_share":
            yield _mean_quality(inventory, weights, total)
        if name == "market_method_share":
            fallback = ratio(weights.get("lbm_fallback", Decimal(0)), total, 4)
            yield fact_of(
                inventory, "market_fallback_share", fallback, decimals=4, reason="No market-based emissions this month"
            )


def _mean_quality(inventory: MonthInventory, weights: Mapping[str, Decimal], total: Decimal) -> Fact:
    points = sum((int(score) * weight for score, weight in weights.items()), Decimal(0))
    return fact_of(
        inventory, "data_quality_mean", ratio(points, total, 2), decimals=2, reason="No modelled emissions this month"
    )


def _factors(inventory: MonthInventory) -> Iterator[Fact]:
    """Share of the total that used each factor, heaviest first, with its citation."""
    total = _weight(inventory.total, _LOCATION)
    start, end = inventory.days
    for kind in ("factor", "coefficient"):
        rows = [row for row in inventory.breakdown("factor") if row["submember"] == kind]
        rows.sort(key=lambda row: (-_weight(row, _LOCATION), row["member"]))
        for row in rows[:FACTORS_SHOWN]:
            dims = {"factor_kind": kind, "factor": row["member"]}
            weight = _weight(row, _LOCATION)
            yield fact_of(
                inventory,
                "factor_share",
                ratio(weight, total, 4),
                decimals=4,
                dims=dims,
                reason="No emissions to share",
            )
            citation = json.dumps(json.loads(row["detail"] or "{}"), sort_keys=True, ensure_ascii=False)
            yield Fact("factor_citation", start, end, "text", citation, dims)


def _controls(inventory: MonthInventory) -> Iterator[Fact]:
    for row in inventory.breakdown("control"):
        dims = {"currency": row["submember"]}
        detail = json.loads(row["detail"])
        cost, difference = row["billed_cost"], Decimal(detail["cost_difference"])
        yield fact_of(
            inventory, "ledger_cost", rounded(cost, 2), decimals=2, dims=dims, exact=cost, unit=row["submember"]
        )
        yield fact_of(
            inventory, "cost_difference", rounded(difference, 2), decimals=2, dims=dims, exact=difference,
            unit=row["submember"],
        )  # fmt: skip
        for name, count in (
            ("ledger_lines", row["line_count"]),
            ("line_difference", detail["line_difference"]),
            ("source_objects", detail["source_objects"]),
        ):
            yield fact_of(inventory, name, Decimal(count), decimals=0, dims=dims)


def _by_disposition(inventory: MonthInventory) -> list[Row]:
    return sorted(inventory.breakdown("disposition"), key=lambda r: (DISPOSITIONS.index(r["member"]), r["submember"]))


def _reasons(inventory: MonthInventory) -> list[Row]:
    """Reasons of the dispositions that need one, most lines first."""
    rows = [r for r in inventory.breakdown("reason") if r["submember"] in DISPOSITIONS[2:]]
    return sorted(rows, key=lambda r: (DISPOSITIONS.index(r["submember"]), -r["line_count"], r["member"]))


def _cost_in(row: Row, currency: str) -> Decimal | None:
    text = json.loads(row["detail"])["billed_cost"].get(currency)
    return None if text is None else Decimal(text)


def _weight(row: Row, measures: Iterable[str]) -> Decimal:
    return sum((row[name] for name in measures if row[name] is not None), Decimal(0))


def _money(inventory: MonthInventory, value: Decimal, exact: Decimal, dims: Mapping[str, str]) -> Fact:
    return fact_of(inventory, "billed_cost", value, decimals=2, dims=dims, exact=exact, unit=dims["currency"])


def _lines(inventory: MonthInventory, count: int, dims: Mapping[str, str]) -> Fact:
    return fact_of(inventory, "billed_lines", Decimal(count), decimals=0, dims=dims)
