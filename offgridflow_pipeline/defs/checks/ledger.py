"""Checks of the ledger and its totals."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from offgridflow_pipeline.defs.checks.lines import compare, cost_by_currency, line_checks
from offgridflow_pipeline.defs.checks.verdict import Failures, lake_check, listed, rows_of, verdict
from offgridflow_pipeline.defs.partitions import day_key, day_tenant, days_by_tenant
from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.lake import schemas

if TYPE_CHECKING:
    import ibis.expr.types as ir

#: Share of the usage cost below which a person should look at what is unmapped.
COVERAGE_PERCENT = 90.0
LISTED_USAGES = 40


@lake_check(
    "emission_lines", "cost_reconciles", "The four dispositions add up to the billed cost and rows of usage_lines."
)
def ledger_cost(platform: Platform, tenant: str, table: schemas.Table, partitions: list[Any]) -> dict[Any, str]:
    """Cost of the ledger against usage_lines."""
    ledger = rows_of(platform, table.name, tenant, partitions)
    four = ledger.filter(ledger.disposition.isin(["mapped", "proxied", "no_emission", "unmapped"]))
    return compare(
        platform,
        cost_by_currency(rows_of(platform, "usage_lines", tenant, partitions), "BilledCost"),
        cost_by_currency(four, "billed_cost"),
        ("usage_lines", "the ledger"),
    )


@lake_check(
    "emission_lines", "no_silent_row", "A reason where nothing is counted; scope and factors where something is."
)
def ledger_silent(platform: Platform, tenant: str, table: schemas.Table, partitions: list[Any]) -> dict[Any, str]:
    """Rows without reason, scope or factors."""
    import ibis

    rows = rows_of(platform, table.name, tenant, partitions)
    counted = rows.disposition.isin(["mapped", "proxied"])
    silent = rows.filter(
        (~counted & rows.reason.isnull())
        | (counted & (rows.scope.isnull() | rows.co2e_lbm_kg.isnull() | (rows.factor_ids.length() == 0)))
        | (rows.co2e_mbm_kg.isnull() & rows.co2e_lbm_kg.notnull())
    )
    summary = silent.group_by("usage_date").aggregate(n=ibis._.count(), example=ibis._.line_id.min())
    return {
        r["usage_date"]: f"{r['n']} rows lack reason, scope or factor, for example {r['example']}"
        for r in listed(platform, summary)
    }


@lake_check("scope_totals", "equals_ledger", "Cost, rows, kWh and emissions equal the ledger's to the last digit.")
def totals_equal(platform: Platform, tenant: str, table: schemas.Table, partitions: list[Any]) -> dict[Any, str]:
    """Totals against the ledger."""
    measures = list(schemas.MEASURES)
    ledger = rows_of(platform, "emission_lines", tenant, partitions)
    totals = rows_of(platform, table.name, tenant, partitions)
    a = ledger.group_by("usage_date").aggregate(line_count=ledger.count(), **{m: ledger[m].sum() for m in measures})
    b = totals.group_by("usage_date").aggregate(
        line_count=totals.line_count.sum().cast("int64"), **{m: totals[m].sum() for m in measures}
    )
    left = {r["usage_date"]: r for r in listed(platform, a)}
    right = {r["usage_date"]: r for r in listed(platform, b)}
    return {
        d: f"ledger {left.get(d)} but totals {right.get(d)}"
        for d in left.keys() | right.keys()
        if left.get(d) != right.get(d)
    }


@lake_check("emission_lines", "plausible", "No watts per vCPU or stored TB and no kg per money beyond the caps (P12).")
def ledger_plausible(platform: Platform, tenant: str, table: schemas.Table, partitions: list[Any]) -> dict[Any, str]:
    """Figures that cannot be right; the days are told apart only when there are any."""
    from offgridflow_pipeline.emissions.plausibility import implausible

    def findings(days: list[Any]) -> list[dict[str, Any]]:
        ledger, lines = (rows_of(platform, name, tenant, days) for name in (table.name, "usage_lines"))
        return listed(platform, implausible(ledger, lines, platform.factor_set))

    if not findings(partitions):
        return {}
    return {
        day: "; ".join(
            f"{f['check']} of {f['service']}, {f['subject']}: {f['value']:.4g}, plausible is {f['low']} to {f['high']}"
            for f in found[:5]
        )
        for day in partitions
        if (found := findings([day]))
    }


@dg.asset_check(
    asset="emission_lines",
    name="coverage",
    description=f"At least {COVERAGE_PERCENT} % of the usage cost is mapped or proxied; lists what is unmapped.",
    partitions_def=day_tenant,
)
def ledger_coverage(context: dg.AssetCheckExecutionContext, platform: Platform) -> dg.AssetCheckResult:
    """Share of the usage cost with a figure, per day, and the unmapped usage of the run, the most expensive first."""
    from offgridflow_pipeline.emissions.unmapped import unmapped_usage

    failing: Failures = {}
    unmapped: list[dict[str, Any]] = []
    for tenant, days in days_by_tenant(str(key) for key in context.partition_keys).items():
        ledger, lines = (rows_of(platform, name, tenant, days) for name in ("emission_lines", "usage_lines"))
        for day, percent in _coverage(platform, ledger).items():
            if percent < COVERAGE_PERCENT:
                failing[day_key(day, tenant)] = f"{percent:.1f} % of the usage cost has a figure"
        unmapped += listed(platform, unmapped_usage(ledger, lines).limit(LISTED_USAGES))
    details = {"unmapped_usage": dg.MetadataValue.md(_usage_table(unmapped))}
    return verdict(context, platform, "emission_lines", "coverage", failing, "WARN", details)


def _coverage(platform: Platform, ledger: "ir.Table") -> dict[Any, float]:
    """Percent of the usage cost that is mapped or proxied, per day with such cost."""
    usage = ledger.filter(ledger.disposition != "no_emission")
    covered = usage.billed_cost.sum(where=usage.disposition != "unmapped")
    sums = usage.group_by("usage_date").aggregate(all=usage.billed_cost.sum(), covered=covered)
    return {
        row["usage_date"]: 100.0 * float(row["covered"] or 0) / float(row["all"])
        for row in listed(platform, sums)
        if row["all"]
    }


def _usage_table(rows: list[dict[str, Any]]) -> str:
    head = "| provider | service | usage | unit | reason | rows | cost |\n|---|---|---|---|---|---:|---:|\n"
    return head + "\n".join(
        f"| {r['provider']} | {r['service']} | {r['usage']} | {r['source_unit']} | {r['reason']} | {r['rows']} "
        f"| {r['cost']:.2f} {r['currency']} |"
        for r in rows
    )


LEDGER_CHECKS = [
    *line_checks("emission_lines"),
    ledger_cost,
    ledger_silent,
    ledger_plausible,
    ledger_coverage,
    totals_equal,
]
