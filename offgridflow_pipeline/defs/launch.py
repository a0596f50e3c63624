"""Runs jobs without UI or daemon: ``python -m offgridflow_pipeline.defs.launch TENANT YYYY-MM...`` or ``--job NAME``.

The first is the main job of a tenant's months: per month one daily range run, one statements run and one report run;
the second any job that needs no partition. Used by ``offgridflow demo``, on the Dagster instance named by DAGSTER_HOME,
so that the same runs are visible in the UI afterwards.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import dagster as dg

from offgridflow_pipeline.definitions import defs, platform
from offgridflow_pipeline.defs.jobs import MONTHLY_ASSETS
from offgridflow_pipeline.defs.partitions import TENANT_PARTITIONS, valid_tenant
from offgridflow_pipeline.defs.run_coordinator import TENANT_TAG
from offgridflow_pipeline.defs.standings import artefact_tags, without_barred
from offgridflow_pipeline.months import month_days


def run_month(instance: dg.DagsterInstance, tenant: str, month: str) -> bool:
    """Materialise all days of the month in one run, then its statements and its report; False when a run failed."""
    days = month_days(month)
    daily = defs.resolve_job_def("daily_emissions").execute_in_process(
        instance=instance,
        raise_on_error=False,
        tags={
            "dagster/asset_partition_range_start": f"{days[0]}|{tenant}",
            "dagster/asset_partition_range_end": f"{days[-1]}|{tenant}",
            TENANT_TAG: tenant,
            "offgridflow/trigger": "demo",
        },
    )
    standing = platform.standing(tenant)
    return (
        daily.success
        and _run_monthly(instance, "monthly_statements", tenant, month)
        and _run_monthly(
            instance,
            "monthly_report",
            tenant,
            month,
            assets=without_barred(standing, MONTHLY_ASSETS),
            tags=artefact_tags(standing),
        )
    )


def _run_monthly(
    instance: dg.DagsterInstance,
    job: str,
    tenant: str,
    month: str,
    *,
    assets: Sequence[dg.AssetKey] | None = None,
    tags: Mapping[str, str] | None = None,
) -> bool:
    result = defs.resolve_job_def(job).execute_in_process(
        instance=instance,
        raise_on_error=False,
        partition_key=f"{month}-01|{tenant}",
        asset_selection=assets,
        tags={TENANT_TAG: tenant, "offgridflow/trigger": "demo", **(tags or {})},
    )
    return result.success


def main(arguments: list[str]) -> int:
    """Run each named month of the tenant, or the named job; 1 as soon as a run fails."""
    tenant, *months = arguments
    with dg.DagsterInstance.get() as instance:
        if tenant == "--job":
            job = defs.resolve_job_def(*months)
            return 0 if job.execute_in_process(instance=instance, raise_on_error=False).success else 1
        instance.add_dynamic_partitions(TENANT_PARTITIONS, [valid_tenant(tenant)])
        for month in months:
            sys.stdout.write(f"{tenant} {month}\n")
            sys.stdout.flush()
            if not run_month(instance, tenant, month):
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
