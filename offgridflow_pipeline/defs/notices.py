"""Hourly notices: keys that are about to end, closed months with changed data. What is told is in `notifications`."""

from datetime import UTC, datetime

import dagster as dg

from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.defs.schedules import IN_PRODUCTION


@dg.op(description="Writes the mails that are due; the outbox sends them. Each is written once.")
def write_due_notices(context: dg.OpExecutionContext, platform: Platform) -> None:
    """Every tenant by itself: a fault of one leaves the others theirs, and fails the run at the end."""
    from offgridflow_pipeline.notifications.notices import write_notices

    now, failed = datetime.now(UTC), []
    for tenant in platform.database.tenants.list():
        if platform.standing(tenant.slug).state == "offboarded":  # nobody can do anything there any more
            continue
        try:
            written = write_notices(platform.database, tenant.slug, now)
        except Exception:
            context.log.exception("No notices for %s.", tenant.slug)
            failed.append(tenant.slug)
        else:
            context.log.info("%s: %d new notices.", tenant.slug, written)
    if failed:
        raise dg.Failure(f"No notices for {', '.join(failed)}: see the log.")


@dg.job(description="Tells owners and admins of keys that are about to end and of closed months with changed data.")
def notices() -> None:
    """One op."""
    write_due_notices()


hourly_notices = dg.ScheduleDefinition(
    name="hourly_notices",
    job=notices,
    cron_schedule="43 * * * *",
    execution_timezone="UTC",
    default_status=IN_PRODUCTION,
    description="Writes the notices that are due.",
)
