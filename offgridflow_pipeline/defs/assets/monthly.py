"""Monthly assets of a tenant: the inventory and the facts every report prints."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from offgridflow_pipeline.defs.catalog import lake_asset
from offgridflow_pipeline.defs.partitions import month_tenant, monthly_backfill, months_by_tenant, reads
from offgridflow_pipeline.defs.resources import Platform

if TYPE_CHECKING:
    import pyarrow as pa

TREND_MONTHS = 24


def _of_each(context: dg.AssetExecutionContext) -> list[tuple[str, str]]:
    return [(t, m) for t, months in months_by_tenant(context.partition_keys).items() for m in months]


@lake_asset(
    "ghg_inventory",
    group="5_reconcile",
    partitions_def=month_tenant,
    backfill_policy=monthly_backfill,
    on_failure="The check whole_month names the days that lack: materialise them first, then re-run.",
    ins={
        "scope_totals": dg.AssetIn(partition_mapping=reads("day", "month")),
        "emission_lines": dg.AssetIn(partition_mapping=reads("day", "month")),
    },
)
def ghg_inventory(
    context: dg.AssetExecutionContext,
    platform: Platform,
    scope_totals: dict[str, Any],
    emission_lines: dict[str, Any],
) -> dict[str, Any]:
    """The month's inventory: totals and breakdowns, each an exact sum of its days."""
    from offgridflow_pipeline.inventory.citations import citations
    from offgridflow_pipeline.inventory.inventory import ghg_inventory as inventory

    (tenant, month), *_ = _of_each(context)
    rows = inventory(
        platform.engine,
        scope_totals[tenant],
        emission_lines[tenant],
        month=month,
        tenant=tenant,
        citations=citations(platform.factor_set),
    )
    return {tenant: platform.engine.register(f"inventory_{month}_{tenant}", rows)}


@lake_asset(
    "report_facts",
    group="6_reports",
    partitions_def=month_tenant,
    backfill_policy=monthly_backfill,
    on_failure="Nothing is published. Compare the failed check's figures with scope_totals of the month.",
    ins={"ghg_inventory": dg.AssetIn(partition_mapping=reads("month", "month", start_offset=1 - TREND_MONTHS))},
)
def report_facts(
    context: dg.AssetExecutionContext, platform: Platform, ghg_inventory: dict[str, Any]
) -> dict[str, Any]:
    """Every figure of the month's report, rounded once, each with the id it has in every artefact.

    Where nothing changed, the rows of the earlier run stand: asking again makes no other report.
    """
    import pyarrow.compute as pc

    from offgridflow_pipeline.defs.assets.reports import profile_of
    from offgridflow_pipeline.reporting.facts import report_facts as facts
    from offgridflow_pipeline.reporting.facts import unchanged_since
    from offgridflow_pipeline.reporting.trail import TrailAnchor

    (tenant, month), *_ = _of_each(context)
    inventory = ghg_inventory[tenant]
    current = platform.engine.to_arrow(inventory.filter(inventory.month == month))
    earlier = platform.engine.to_arrow(inventory.filter(inventory.month < month))
    profile = profile_of(platform, tenant, context.run.run_id)
    previous = [earlier.filter(pc.equal(earlier["month"], past)) for past in pc.unique(earlier["month"])]
    anchored = platform.database.audit_log.newest_anchor(tenant)
    rows = facts(current, profile, previous=previous, anchor=TrailAnchor.of(anchored) if anchored else None)
    built = _built_before(platform, tenant, month)
    if built is not None and unchanged_since(built, rows):
        rows = built
    return {tenant: platform.engine.register(f"facts_{month}_{tenant}", rows)}


def _built_before(platform: Platform, tenant: str, month: str) -> "pa.Table | None":
    """The month's facts as they lie in the lake; None before its first report."""
    if month not in platform.lake.partitions(tenant, "report_facts"):
        return None
    rows = platform.engine.table(platform.lake.slice(tenant, "report_facts", [month]))
    return platform.engine.to_arrow(rows.order_by("sort_order"))
