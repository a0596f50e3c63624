"""Billing: the job that consumes Stripe's events and lets time pass, and the daily comparison with Stripe itself.

What an event, a day or a difference means is decided in `subscriptions`. Everything may be run twice, at once or
after it was killed: events are leased, and what is applied is what Stripe says at that time.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from offgridflow_pipeline.defs.catalog import OWNERS, asset_tags, description
from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.defs.schedules import IN_PRODUCTION
from offgridflow_pipeline.defs.telemetry import trace_context
from offgridflow_pipeline.settings import load_settings
from offgridflow_pipeline.subscriptions.plans import is_configured

NOT_CONFIGURED = "Stripe is not configured, nobody subscribes here: set STRIPE_SECRET_KEY."
#: For so long one run consumes events; what is left is the next run's.
BUDGET = timedelta(minutes=4)
#: Stripe itself tries an event for three days; so far back it is asked for those that did not arrive.
BACKFILLED = timedelta(days=4)
#: Events that were given up, as far as a check counts and lists them.
LISTED = 100


@dg.op(
    out=dg.Out(dg.Nothing),
    description="Consumes the events that are due, in batches; then what time alone changes; then steps of onboarding.",
)
def consume_events(
    context: dg.OpExecutionContext, platform: Platform
) -> Iterator[dg.AssetCheckEvaluation | dg.Output[None]]:
    """Bring every customer to where Stripe and the time say it is, and say whether an event is given up by now."""
    from offgridflow_pipeline.subscriptions.consumer import drain
    from offgridflow_pipeline.subscriptions.onboarding import onboard
    from offgridflow_pipeline.subscriptions.passage import pass_time

    _require_configured(platform)
    database, settings = platform.database, platform.settings
    trace = trace_context(context.run, settings.trace_sample_rate)
    drained = drain(database, platform.stripe, settings, datetime.now(UTC), budget=BUDGET, traceparent=trace)
    passed = pass_time(database, settings, datetime.now(UTC), platform.stripe)
    onboarded = onboard(database, settings, datetime.now(UTC), traceparent=trace)
    changed = sorted({change.tenant for change in (*drained.changes, *passed.changes)} | set(onboarded))
    context.add_output_metadata(
        {
            "events": drained.events,
            "batches": drained.batches,
            "customers": drained.customers,
            "ignored": drained.ignored,
            "failed": drained.failed,
            "postponed": drained.postponed,
            "dead": drained.dead,
            "tenants_that_wait_for_stripe": passed.waiting,
            "tenants_changed": changed,
        }
    )
    if drained.dead:
        context.log.error(f"Given up: {', '.join(drained.dead)}. `offgridflow billing status` says why.")
    yield _evaluation(_inbox_verdict(platform))
    if passed.failed:
        raise dg.Failure(f"Could not bring {', '.join(passed.failed)} forward: see the log.", allow_retries=False)
    yield dg.Output(None)


@dg.job(description="Consumes the events of Stripe that are due; asked for by the sensor stripe_inbox.")
def billing_events() -> None:
    """One op."""
    consume_events()


@dg.asset(
    group_name="7_billing",
    kinds={"stripe", "postgres"},
    owners=OWNERS,
    tags=asset_tags("low"),
    description=description(
        "What Stripe says of every customer, after events that never arrived were fetched and consumed.",
        "customer",
        "Stripe's events of the last days",
        "The last states stay. Check STRIPE_SECRET_KEY and that Stripe answers, then re-run.",
    ),
)
def billing_snapshots(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult[None]:
    """Fetch what never arrived, consume it, and forget bodies of events settled long ago."""
    from offgridflow_pipeline.subscriptions.consumer import drain
    from offgridflow_pipeline.subscriptions.passage import pass_time
    from offgridflow_pipeline.subscriptions.reconciliation import backfill

    _require_configured(platform)
    database, settings = platform.database, platform.settings
    now = datetime.now(UTC)
    found = backfill(database, platform.stripe, settings, now - BACKFILLED, now)
    trace = trace_context(context.run, settings.trace_sample_rate)
    drained = drain(database, platform.stripe, settings, now, budget=BUDGET, traceparent=trace)
    passed = pass_time(database, settings, datetime.now(UTC), platform.stripe)  # else what merely waits is drift
    return dg.MaterializeResult(
        metadata={
            "customers": passed.customers,
            "events_listed": found.listed,
            "events_that_never_arrived": found.added,
            "events_unreadable": found.unreadable,
            "events": drained.events,
            "failed": drained.failed,
            "postponed": drained.postponed,
            "dead": len(drained.dead),
            "payloads_forgotten": database.external_events.forget_payloads(),
        }
    )


@dg.asset_check(
    asset=billing_snapshots,
    description="Billing drift = 0: plan and state of every tenant are those that follow from what Stripe says now.",
)
def drift(context: dg.AssetCheckExecutionContext, platform: Platform) -> dg.AssetCheckResult:
    """Name every tenant that is elsewhere than Stripe says, with both states."""
    from offgridflow_pipeline.subscriptions.reconciliation import drift as drifts

    _require_configured(platform)
    now = datetime.now(UTC)
    found = drifts(platform.database, platform.stripe, platform.settings, now)
    # The ledger is by tenant: a customer who is nobody's here stands in the check's own findings alone.
    keys = {tenant: f"{now.date()}|{tenant}" for tenant in platform.database.subscriptions.customers()}
    failing: dict[str, str] = {}
    for difference in found:
        if key := keys.get(difference.tenant):
            failing[key] = "; ".join(filter(None, (failing.get(key, ""), difference.text)))
    platform.database.check_ledger.record(
        run_id=context.run.run_id,
        check_name="billing_snapshots.drift",
        partition_keys=sorted(keys.values()),
        failing=failing,
    )
    metadata: dict[str, Any] = {"drift": len(found)}
    if found:
        metadata["findings"] = dg.MetadataValue.md("\n".join(f"- {difference.text}" for difference in found))
    return dg.AssetCheckResult(passed=not found, metadata=metadata)


@dg.asset_check(
    asset=billing_snapshots,
    description="No event is given up: those that failed ten times are named here until they are replayed. Evaluated "
    "by every run of billing_events as well.",
)
def no_event_given_up(platform: Platform) -> dg.AssetCheckResult:
    """Name the events that were given up, and why."""
    return _inbox_verdict(platform)


def _inbox_verdict(platform: Platform) -> dg.AssetCheckResult:
    events = platform.database.external_events.given_up(LISTED)
    metadata: dict[str, Any] = {"given_up": len(events)}
    if not events:
        return dg.AssetCheckResult(passed=True, metadata=metadata)
    lines = (f"- `{event.external_id}`, {event.event_type}: {event.last_error}" for event in events)
    metadata["findings"] = dg.MetadataValue.md("\n".join(lines))
    cure = "Mend what the findings name, then: offgridflow billing replay EVENT_ID (runbook OgfBillingEventsDead)."
    return dg.AssetCheckResult(passed=False, metadata=metadata, description=cure)


def _evaluation(result: dg.AssetCheckResult) -> dg.AssetCheckEvaluation:
    """The result as an op tells it, which has no asset of its own."""
    (spec,) = no_event_given_up.check_specs
    return dg.AssetCheckEvaluation(
        asset_key=spec.asset_key,
        check_name=spec.name,
        passed=bool(result.passed),
        metadata=result.metadata,
        description=result.description,
    )


billing_reconcile = dg.define_asset_job(
    "billing_reconcile",
    selection=dg.AssetSelection.assets(billing_snapshots),
    description="Fetches events that never arrived, and holds every tenant's state against Stripe's.",
)


@dg.schedule(
    name="daily_billing_reconcile",
    job=billing_reconcile,
    cron_schedule="20 5 * * *",
    execution_timezone="UTC",
    default_status=IN_PRODUCTION if is_configured(load_settings()) else dg.DefaultScheduleStatus.STOPPED,
    description="Fetches Stripe's events that never arrived, and holds every tenant's state against Stripe's.",
)
def daily_billing_reconcile(
    context: dg.ScheduleEvaluationContext, platform: Platform
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """One run a day, where tenants subscribe."""
    if is_configured(platform.settings):
        yield dg.RunRequest(run_key=f"billing|{context.scheduled_execution_time.date()}")
    else:
        yield dg.SkipReason(NOT_CONFIGURED)


def _require_configured(platform: Platform) -> None:
    if not is_configured(platform.settings):
        raise dg.Failure(NOT_CONFIGURED, allow_retries=False)
