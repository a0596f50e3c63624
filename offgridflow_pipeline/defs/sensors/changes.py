"""Changed sources: recorded changes become range runs, and runs that ended settle their changes.

Reads the database and Dagster's runs, never a cloud. Every tick settles first, from the runs themselves: a run that
ended while no sensor was running, or a request that was never launched, is found at the next tick.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple

import dagster as dg

from offgridflow_pipeline.defs.jobs import daily_emissions
from offgridflow_pipeline.defs.partitions import TENANT_PARTITIONS
from offgridflow_pipeline.defs.range_runs import CHANGES_TAG, RangeRun, change_runs
from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.subscriptions.entitlements import Entitlement, check

if TYPE_CHECKING:
    from uuid import UUID

    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.database.pipeline.changes import SourceChange

#: A request that no run answers after this time was lost between two commits: it is made again.
LOST_AFTER = timedelta(minutes=15)
#: Dagster says that it will run a crashed run again; it has this time to do so.
RETRY_WITHIN = timedelta(hours=1)


class Outcome(NamedTuple):
    """How the runs of one request ended; `run_id` of the run that decided."""

    verdict: Literal["done", "failed", "lost", "open"]
    run_id: str = ""
    status: str = ""


@dg.sensor(
    name="changed_sources",
    job=daily_emissions,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Launches the days that a source delivered anew, and settles the changes whose runs have ended.",
)
def changed_sources(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult | dg.SkipReason:
    """Range runs of every tenant's pending changes."""
    database = platform.database
    known = set(context.instance.get_dynamic_partitions(TENANT_PARTITIONS))
    today = datetime.now(UTC).date()
    requests: list[dg.RunRequest] = []
    barred: list[str] = []
    for tenant in database.tenants.list():
        settle(context.instance, database, tenant.slug)
        if tenant.slug not in known:  # its partition comes with the next tick of tenant_sync
            continue
        standing = platform.standing(tenant.slug)
        decision = check(standing, Entitlement.SYNCS)
        if not decision.allowed:  # its changes wait until it may work again
            barred.append(f" {tenant.slug}: {decision.reason}")
            continue
        earliest = standing.plan.earliest_day(platform.settings.history_start, today)
        runs = claim(database, tenant.slug, earliest)
        requests += [dg.RunRequest(run_key=run.run_key, tags=run.tags) for run in runs]
    if not requests:
        return dg.SkipReason("No source has changed." + "".join(barred))
    return dg.SensorResult(run_requests=requests)


def claim(database: "Database", tenant: str, earliest: date) -> list[RangeRun]:
    """Mark the tenant's pending changes as requested; the runs that are to be launched for them.

    Changes of days that all lie before `earliest` wait for a plan with more history; one whose days go over it is of
    one month, and read whole.
    """
    planned: list[RangeRun] = []

    def run_keys(changes: "Sequence[SourceChange]") -> "dict[UUID, str]":
        planned.extend(change_runs(tenant, [change for change in changes if change.last_day >= earliest]))
        return {change_id: run.run_key for run in planned for change_id in run.change_ids}

    database.source_changes.claim(tenant, run_keys)
    return planned


def settle(instance: dg.DagsterInstance, database: "Database", tenant: str) -> None:
    """Mark requested changes as done or failed by the state of their runs."""
    requested: defaultdict[str, list[SourceChange]] = defaultdict(list)
    for change in database.source_changes.list(tenant, ["requested"]):
        requested[change.run_key or ""].append(change)
    for run_key, changes in requested.items():
        records = instance.get_run_records(dg.RunsFilter(tags={CHANGES_TAG: run_key}))
        since = max(change.requested_at for change in changes if change.requested_at)
        outcome = outcome_of(records, since, datetime.now(UTC))
        if outcome.verdict == "done":
            database.source_changes.done(tenant, run_key, run_id=outcome.run_id)
        elif outcome.verdict == "failed":
            error = f"Run {outcome.run_id} ended as {outcome.status}; its log names the cause."
            database.source_changes.failed(tenant, run_key, error=error)
        elif outcome.verdict == "lost":
            database.source_changes.failed(tenant, run_key, error="No run was launched.", attempted=False)


def outcome_of(records: Sequence[dg.RunRecord], requested_at: datetime, now: datetime) -> Outcome:
    """How a request stands, from all runs that carry its key (the run and its automatic retries)."""
    if not records:
        return Outcome("lost" if now - requested_at > LOST_AFTER else "open")
    runs = [record.dagster_run for record in records]
    if succeeded := [run for run in runs if run.is_success]:
        return Outcome("done", succeeded[0].run_id)
    if any(not run.is_finished for run in runs):
        return Outcome("open")
    newest = max(records, key=lambda record: record.create_timestamp)
    run = newest.dagster_run
    retried_soon = run.tags.get("dagster/will_retry") == "true" and (
        newest.end_time is None or now.timestamp() - newest.end_time < RETRY_WITHIN.total_seconds()
    )
    return Outcome("open") if retried_soon else Outcome("failed", run.run_id, run.status.value)
