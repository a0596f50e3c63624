"""Tenant sync: the tenants table is the truth, Dagster's dynamic partitions follow it within a tick.

Partitions are added only; a tenant's key is immutable and never reused. One whose account is closed gets none.
"""

import dagster as dg

from offgridflow_pipeline.defs.jobs import daily_emissions
from offgridflow_pipeline.defs.partitions import TENANT_PARTITIONS, tenants, valid_tenant
from offgridflow_pipeline.settings import load_settings
from offgridflow_pipeline.subscriptions.entitlements import standing_of


@dg.sensor(
    name="tenant_sync",
    job=daily_emissions,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Adds a tenant partition for every active row of the tenants table.",
)
def tenant_sync(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Add partitions for tenants Dagster does not know yet."""
    from offgridflow_pipeline.database.engine import connect

    settings = load_settings()
    database = connect(settings)
    try:
        known = set(context.instance.get_dynamic_partitions(TENANT_PARTITIONS))
        active = {valid_tenant(tenant.slug) for tenant in database.tenants.list()}
        new = sorted(slug for slug in active - known if standing_of(database, settings, slug).state != "offboarded")
    finally:
        database.close()
    if not new:
        return dg.SkipReason("Every tenant has its partition.")
    return dg.SensorResult(dynamic_partitions_requests=[tenants.build_add_request(new)])
