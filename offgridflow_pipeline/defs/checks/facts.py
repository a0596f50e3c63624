"""Check of the report's facts against the ledger."""

from typing import Any

from offgridflow_pipeline.defs.checks.verdict import lake_check, rows_of
from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.months import month_days


@lake_check("report_facts", "equals_ledger", "The facts equal the ledger of the month, rounded once.")
def facts_equal(platform: Platform, tenant: str, table: schemas.Table, partitions: list[Any]) -> dict[Any, str]:
    """Facts against the ledger, read independently of the inventory."""
    from offgridflow_pipeline.inventory.inventory import control_differences, ghg_inventory
    from offgridflow_pipeline.reporting.facts import tie_out

    found: dict[Any, str] = {}
    for month in partitions:
        days = month_days(month)
        inventory = ghg_inventory(
            platform.engine,
            rows_of(platform, "scope_totals", tenant, days),
            rows_of(platform, "emission_lines", tenant, days),
            month=month,
            tenant=tenant,
        )
        facts = platform.engine.to_arrow(rows_of(platform, table.name, tenant, [month]).order_by("sort_order"))
        if differences := control_differences(inventory) + tie_out(facts, inventory):
            found[month] = "; ".join(differences)
    return found
