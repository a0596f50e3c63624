"""Check of the providers' carbon statements: their parts add up; beside our own estimate, for people to look at."""

from decimal import Decimal
from typing import Any

import dagster as dg

from offgridflow_pipeline.defs.checks.verdict import Failures, rows_of, verdict
from offgridflow_pipeline.defs.partitions import month_tenant, months_by_tenant
from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.months import month_days

#: Providers round every figure: the sum of many may lie this far from the total they state, in kg or of the total.
ROUNDING_KG = Decimal(1)
ROUNDING_SHARE = Decimal("0.001")
LISTED_SERVICES = 40


@dg.asset_check(
    asset="provider_statements",
    name="adds_up",
    description="The totals a provider states are the sums of its scopes; lists statement and estimate per service.",
    partitions_def=month_tenant,
)
def statements_add_up(context: dg.AssetCheckExecutionContext, platform: Platform) -> dg.AssetCheckResult:
    """Totals against their parts, and the statement beside the ledger's estimate of the same month."""
    from offgridflow_pipeline.inventory.statements import compare_with_estimate, control_differences

    failing: Failures = {}
    compared: list[dict[str, Any]] = []
    for tenant, months in months_by_tenant(str(key) for key in context.partition_keys).items():
        for month in months:
            rows = platform.engine.to_arrow(rows_of(platform, "provider_statements", tenant, [month]))
            if findings := [_finding(row) for row in control_differences(rows).to_pylist() if _is_beyond_rounding(row)]:
                failing[f"{month}-01|{tenant}"] = "; ".join(findings)
            totals = rows_of(platform, "scope_totals", tenant, month_days(month))
            compared += compare_with_estimate(platform.engine, rows, totals).to_pylist()
    details = {"statement_and_estimate": dg.MetadataValue.md(_table(compared))}
    return verdict(context, platform, "provider_statements", "adds_up", failing, "WARN", details)


def _is_beyond_rounding(row: dict[str, Any]) -> bool:
    return bool(abs(row["difference_kg"]) > max(ROUNDING_KG, ROUNDING_SHARE * abs(row["stated_total_kg"])))


def _finding(row: dict[str, Any]) -> str:
    return (
        f"{row['connection_id']}, {row['basis']}: states {row['stated_total_kg']} kg, "
        f"its scopes add up to {row['sum_of_scopes_kg']} kg"
    )


def _table(rows: list[dict[str, Any]]) -> str:
    names = ("statement_location_kg", "estimate_location_kg", "statement_market_kg", "estimate_market_kg")
    titles = " | ".join(name.replace("_", " ") for name in names)
    head = f"| provider | account | service | {titles} |\n|---|---|---|{'---:|' * len(names)}\n"
    largest = sorted(rows, key=lambda row: -max(row[name] or Decimal(0) for name in names))[:LISTED_SERVICES]
    return head + "\n".join(
        f"| {row['provider']} | {row['SubAccountId'] or ''} | {row['x_ServiceCode'] or ''} | "
        + " | ".join("" if row[name] is None else f"{row[name]:.3f}" for name in names)
        + " |"
        for row in largest
    )
