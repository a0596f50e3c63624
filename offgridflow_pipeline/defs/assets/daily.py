"""Daily assets of a tenant: usage lines, the ledger of emission lines, their totals and the serving table.

Each takes and returns one lazily evaluated table per tenant; the work is in `usage` and `emissions`.
"""

from typing import TYPE_CHECKING, Any

import dagster as dg

from offgridflow_pipeline import __version__
from offgridflow_pipeline.defs.catalog import description, lake_asset
from offgridflow_pipeline.defs.closed_periods import require_open
from offgridflow_pipeline.defs.partitions import daily_backfill, day_tenant, days_by_tenant
from offgridflow_pipeline.defs.resources import Platform

if TYPE_CHECKING:
    from offgridflow_pipeline.connectors.feeds import Dialect

METHOD = "ofg-1"


@lake_asset(
    "usage_lines",
    group="2_normalize",
    partitions_def=day_tenant,
    backfill_policy=daily_backfill,
    on_failure="Read the failed check's findings; mend the rule data of usage/ or the connection, re-run the day.",
)
def usage_lines(
    context: dg.AssetExecutionContext,
    platform: Platform,
    aws_billing_extract: dict[str, Any],
    azure_billing_extract: dict[str, Any],
    gcp_billing_extract: dict[str, Any],
    focus_billing_extract: dict[str, Any],
) -> dict[str, Any]:
    """One row per billed row of any feed, in FOCUS 1.4 names with canonical quantity and disposition."""
    from offgridflow_pipeline.usage.normalise import united_lines

    require_open(platform.database, context.partition_keys, context.run.tags)
    extracts: dict[Dialect, dict[str, Any]] = {
        "cur": aws_billing_extract,
        "azure": azure_billing_extract,
        "gcp": gcp_billing_extract,
        "focus": focus_billing_extract,
    }
    return {
        tenant: united_lines({dialect: rows[tenant] for dialect, rows in extracts.items()}, platform.engine.has_rows)
        for tenant in aws_billing_extract
    }


@lake_asset(
    "emission_lines",
    group="4_emissions",
    partitions_def=day_tenant,
    backfill_policy=daily_backfill,
    on_failure="The old ledger of the day stays readable. Read the error: it names the usage key or factor.",
    code_version=__version__,
)
def emission_lines(
    context: dg.AssetExecutionContext, platform: Platform, usage_lines: dict[str, Any]
) -> dict[str, Any]:
    """The ledger: one row per usage line, with disposition, energy and emissions on both bases."""
    from offgridflow_pipeline.emissions.calculate import calculate

    require_open(platform.database, context.partition_keys, context.run.tags)
    return {
        tenant: calculate(
            platform.engine,
            lines,
            platform.factor_set,
            as_of=platform.knowledge_date,
            method=METHOD,
            run_id=context.run.run_id,
        )
        for tenant, lines in usage_lines.items()
    }


@lake_asset(
    "scope_totals",
    group="4_emissions",
    partitions_def=day_tenant,
    backfill_policy=daily_backfill,
    on_failure="Re-run the day; totals are exact sums of the ledger and hold nothing of their own.",
)
def scope_totals(emission_lines: dict[str, Any]) -> dict[str, Any]:
    """Exact sums of the ledger per account, service, region, disposition and basis."""
    from offgridflow_pipeline.emissions.totals import scope_totals as totals

    return {tenant: totals(lines) for tenant, lines in emission_lines.items()}


@dg.asset(
    group_name="4_emissions",
    partitions_def=day_tenant,
    backfill_policy=daily_backfill,
    kinds={"postgres"},
    description=description(
        "Daily scope totals in PostgreSQL, the table that the API and the portal will read.",
        "day x tenant x scope x service x region x account",
        "scope_totals, after its checks",
        "Re-run; the days are replaced in one transaction.",
    ),
    owners=["team:data-engineering"],
    tags={"tier": "1", "cost_class": "low", "pii": "false"},
    deps=["scope_totals"],
)
def daily_scope_totals(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult[None]:
    """Replace the days in the serving table."""
    from offgridflow_pipeline.defs.serving import publish_scope_totals

    served = [
        publish_scope_totals(platform, tenant, days, context.run.run_id)
        for tenant, days in days_by_tenant(context.partition_keys).items()
    ]
    return dg.MaterializeResult(metadata={"served_rows": sum(rows for rows, _ in served)})
