"""Schedules: the hourly survey of sources, and the nightly window that reads the newest days again unasked.

They call clouds, so they run by default in production only; elsewhere a person switches them on.
"""

from collections.abc import Iterator
from datetime import date

import dagster as dg

from offgridflow_pipeline.defs.jobs import daily_emissions
from offgridflow_pipeline.defs.partitions import TENANT_PARTITIONS
from offgridflow_pipeline.defs.range_runs import RangeRun, window_runs
from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.defs.source_survey import source_survey
from offgridflow_pipeline.settings import load_settings
from offgridflow_pipeline.subscriptions.entitlements import Entitlement, check

IN_PRODUCTION = (
    dg.DefaultScheduleStatus.RUNNING
    if load_settings().environment == "production"
    else dg.DefaultScheduleStatus.STOPPED
)

hourly_survey = dg.ScheduleDefinition(
    name="hourly_survey",
    job=source_survey,
    cron_schedule="17 * * * *",
    execution_timezone="UTC",
    default_status=IN_PRODUCTION,
    description="Asks every connection what is new; changed_sources launches the days that differ.",
)


@dg.schedule(
    name="nightly_window",
    job=daily_emissions,
    cron_schedule="30 3 * * *",
    execution_timezone="UTC",
    default_status=IN_PRODUCTION,
    description="Per tenant the last 3 days, on Sundays the last 35, without days of closed months.",
)
def nightly_window(
    context: dg.ScheduleEvaluationContext, platform: Platform
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Range runs over the restatement window of every tenant that has a feed, and a subscription that lets it work."""
    today = context.scheduled_execution_time.date()
    known = set(context.instance.get_dynamic_partitions(TENANT_PARTITIONS))
    requested, barred = False, []
    for tenant in platform.database.tenants.list():
        if tenant.slug not in known or not _has_feed(platform, tenant.slug):
            continue
        standing = platform.standing(tenant.slug)
        decision = check(standing, Entitlement.SYNCS)
        if not decision.allowed:
            barred.append(f"{tenant.slug}: {decision.reason}")
            context.log.info(barred[-1])
            continue
        for run in _window(
            platform, tenant.slug, today, standing.plan.earliest_day(platform.settings.history_start, today)
        ):
            requested = True
            yield dg.RunRequest(run_key=run.run_key, tags=run.tags)
    if barred and not requested:
        yield dg.SkipReason("\n".join(barred))


def _window(platform: Platform, tenant: str, today: date, earliest: date) -> list[RangeRun]:
    closed = platform.database.period_closures.closed_months(tenant)
    return window_runs(tenant, today, closed_months=closed, history_start=earliest)


def _has_feed(platform: Platform, tenant: str) -> bool:
    """Whether a run would find anything to read: it refuses the days of a tenant without connections."""
    from offgridflow_pipeline.connectors.feeds import FEEDS

    rows = platform.database.connections.list(tenant, paused=False)
    return any(row.kind in FEEDS and row.role == "record" for row in rows)
