"""The Stripe sensor: events that wait in the inbox, and time that passes, become runs of `billing_events`.

Reads the database, never Stripe. One run at a time: it claims the events itself, so that a run that is lost or doubled
does no harm. Steps of onboarding are taken here: they only ask for jobs, and a run for each would cost more than they.
So are accounts closed that owners asked to close: nobody waits for the next hour.
"""

from datetime import UTC, datetime, timedelta

import dagster as dg

from offgridflow_pipeline.database.money.external_events import InboxEvent
from offgridflow_pipeline.defs.billing import NOT_CONFIGURED, billing_events
from offgridflow_pipeline.defs.job_runs import TRACE_TAG
from offgridflow_pipeline.defs.range_runs import TRIGGER_TAG
from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.subscriptions.plans import is_configured

TRIGGER = "stripe"
#: A run that was asked for and never claimed the event is asked for again after this time, under another key. Shorter
#: than the wait after an outage of Stripe, which counts as no attempt: else the event keeps its key, and all behind it.
LOST_AFTER = timedelta(minutes=3)
UNDER_WAY = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]


@dg.sensor(
    name="stripe_inbox",
    job=billing_events,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks for a run when events of Stripe wait, and once an hour for what time alone changes.",
)
def stripe_inbox(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult | dg.SkipReason:
    """At most one run."""
    from offgridflow_pipeline.subscriptions.onboarding import onboard
    from offgridflow_pipeline.subscriptions.passage import close_accounts

    if not is_configured(platform.settings):
        return dg.SkipReason(NOT_CONFIGURED)
    now = datetime.now(UTC)
    for tenant, step in onboard(platform.database, platform.settings, now).items():
        context.log.info(f"Onboarding of {tenant}: {step}.")
    for tenant in close_accounts(platform.database, platform.settings, now):
        context.log.info(f"The account of {tenant} is closed.")
    if context.instance.get_runs_count(dg.RunsFilter(job_name=billing_events.name, statuses=UNDER_WAY)):
        return dg.SkipReason("A run is under way: it takes what is due.")
    hour = f"{now:%Y-%m-%dT%H}"
    event = platform.database.external_events.oldest_due()
    if event is not None:
        request = dg.RunRequest(run_key=run_key(event, now), tags=_tags(event))
        return dg.SensorResult(run_requests=[request], cursor=hour)  # time passes in that run as well
    if context.cursor == hour or not platform.database.subscriptions.customers():
        return dg.SkipReason("No event is due.")
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=f"stripe:time:{hour}", tags=_tags())], cursor=hour)


def run_key(event: InboxEvent, now: datetime) -> str:
    """Key of the run that will claim the event: Dagster launches a key once, a later attempt needs another."""
    waited = max(now - event.received_at, timedelta(0)) // LOST_AFTER
    return f"stripe:{event.external_id}:{event.attempts}:{waited}"


def _tags(event: InboxEvent | None = None) -> dict[str, str]:
    tags = {TRIGGER_TAG: TRIGGER}
    if event is not None and event.traceparent:
        tags[TRACE_TAG] = event.traceparent
    return tags
