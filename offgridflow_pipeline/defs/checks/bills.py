"""Checks of what was billed: extracts complete, usage lines whole, and equal to the provider's own totals."""

from typing import Any

from offgridflow_pipeline.connectors.feeds import EXTRACT_TABLES
from offgridflow_pipeline.defs.checks.lines import compare, cost_by_currency, line_checks
from offgridflow_pipeline.defs.checks.verdict import lake_check, listed, rows_of
from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.lake import schemas


@lake_check(
    "usage_lines",
    "cost_reconciles",
    "Billed cost and rows equal the extracts', per day and currency, to the last digit.",
)
def usage_cost(platform: Platform, tenant: str, table: schemas.Table, partitions: list[Any]) -> dict[Any, str]:
    """Cost of usage_lines against the extracts."""
    from offgridflow_pipeline.usage.reconcile import extract_cost

    extracts = {spoken: rows_of(platform, name, tenant, partitions) for spoken, name in EXTRACT_TABLES.items()}
    filled = {spoken: rows for spoken, rows in extracts.items() if not platform.engine.is_known_empty(rows)}
    lines = cost_by_currency(rows_of(platform, table.name, tenant, partitions), "BilledCost")
    return compare(platform, extract_cost(filled or extracts), lines, ("the extracts", "usage_lines"))


@lake_check(
    "usage_lines",
    "provider_total",
    "Billed cost per account, day and currency equals the provider's own final total, within its stated rounding.",
    additional_deps=("control_totals",),
)
def usage_provider_total(
    platform: Platform, tenant: str, table: schemas.Table, partitions: list[Any]
) -> dict[Any, str]:
    """Usage lines against control totals; figures a provider still calls estimated inform in `provider_estimate`."""
    return _provider_findings(platform, tenant, table, partitions, final=True)


@lake_check(
    "usage_lines",
    "provider_estimate",
    "Billed cost equals the provider's total also where the provider still calls it an estimate.",
    severity="WARN",
    additional_deps=("control_totals",),
)
def usage_provider_estimate(
    platform: Platform, tenant: str, table: schemas.Table, partitions: list[Any]
) -> dict[Any, str]:
    """Usage lines of open periods against control totals."""
    return _provider_findings(platform, tenant, table, partitions, final=False)


def _provider_findings(
    platform: Platform, tenant: str, table: schemas.Table, partitions: list[Any], *, final: bool
) -> dict[Any, str]:
    from offgridflow_pipeline.usage.control import provider_differences

    differing = provider_differences(
        rows_of(platform, table.name, tenant, partitions), rows_of(platform, "control_totals", tenant, partitions)
    )
    asked = {c.id: c.aws.account_ids for c in platform.connections(tenant) if c.aws.account_ids}
    found: dict[Any, list[str]] = {}
    for row in listed(platform, differing.filter(differing.is_final == final).order_by("x_ConnectionId")):
        if row["SubAccountId"] not in asked.get(row["x_ConnectionId"], (row["SubAccountId"],)):
            continue  # the provider was not asked for this account
        found.setdefault(row["usage_date"], []).append(
            f"{row['x_ConnectionId']}, account {row['SubAccountId'] or '(none)'}: {row['source'] or 'the provider'} "
            f"states {row['stated']} {row['BillingCurrency']}, billed rows come to {row['billed']}"
        )
    return {day: "; ".join(findings) for day, findings in found.items()}


@lake_check(
    "usage_lines",
    "one_feed_of_record",
    "No billing account is billed by two connections: two feeds of one account would count everything twice.",
)
def usage_feed_of_record(
    platform: Platform, tenant: str, table: schemas.Table, partitions: list[Any]
) -> dict[Any, str]:
    """Feeds per billing account and day."""
    from offgridflow_pipeline.usage.control import several_feeds

    rows = listed(platform, several_feeds(rows_of(platform, table.name, tenant, partitions)))
    return {
        row["usage_date"]: f"account {row['BillingAccountId']} is billed by {row['first']} and {row['last']}: "
        "remove one of them, or let it reconcile only (the rows of a paused connection stay)"
        for row in rows
    }


def unknown_values(platform: Platform, tenant: str, table: schemas.Table, partitions: list[Any]) -> dict[Any, str]:
    """Units and line types that no rule knows; they stay visible as unmapped or as fees."""
    from offgridflow_pipeline.usage.reconcile import unexplained

    unknown = unexplained(rows_of(platform, table.name, tenant, partitions))
    found: dict[Any, list[str]] = {}
    for r in listed(platform, unknown.order_by("finding", "value", "currency")):
        text = f"{r['finding']} {r['value']!r}: {r['rows']} rows, {r['cost']} {r['currency']}"
        found.setdefault(r["usage_date"], []).append(text)
    return {day: "; ".join(texts) for day, texts in found.items()}


usage_known_values = lake_check(
    "usage_lines", "known_values", "Every unit and line item type is known to the rule data.", severity="WARN"
)(unknown_values)

USAGE_CHECKS = [
    *line_checks("usage_lines"),
    usage_cost,
    usage_provider_total,
    usage_provider_estimate,
    usage_feed_of_record,
    usage_known_values,
]
