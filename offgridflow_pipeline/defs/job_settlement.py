"""How a job ends: from the state of its run to one transaction of job row, audit event and mail.

Everything is read from Dagster's runs and our own tables at each tick, so that whatever was killed in between is
found afterwards; and only the transaction that ends a job writes its event and its mail.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from offgridflow_pipeline.defs.connection_test import FINDINGS
from offgridflow_pipeline.defs.job_runs import ATTEMPT_TAG, JOB_TAG
from offgridflow_pipeline.defs.run_failures import Failure, failure_of
from offgridflow_pipeline.defs.sensors.changes import Outcome, outcome_of
from offgridflow_pipeline.identity.audit import Action, record
from offgridflow_pipeline.months import month_of
from offgridflow_pipeline.notifications.outbox import enqueue
from offgridflow_pipeline.notifications.templates import MailError

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.database.pipeline.jobs import Job
    from offgridflow_pipeline.database.pipeline.reports import Report

#: A request that was just handed to Dagster may still become a run: its cancellation waits for so long.
LAUNCH_TAKES = timedelta(seconds=30)
#: A refusal of these is tried again all the same: a provider that is down comes back.
RETRIED_REFUSALS = frozenset({"connector_sync"})
SYSTEM = "system"

log = logging.getLogger("offgridflow.jobs")


def runs_of(instance: dg.DagsterInstance, job: Job) -> Sequence[dg.RunRecord]:
    """Runs of the job's newest attempt: the run that was launched, and its automatic retries."""
    tags = {JOB_TAG: str(job.job_id), ATTEMPT_TAG: str(job.attempts)}
    return instance.get_run_records(dg.RunsFilter(tags=tags))


def to_be_launched(job: Job, records: Sequence[dg.RunRecord]) -> bool:
    """Whether the job's request is to be made (again): Dagster has no run of it, or made one and did not queue it.

    Made again under the same run key: Dagster launches a key once.
    """
    never_queued = all(r.dagster_run.status is dg.DagsterRunStatus.NOT_STARTED for r in records)
    return job.status == "launched" and job.run_id is None and never_queued


def settle(
    instance: dg.DagsterInstance, database: Database, tenant: str, job: Job, records: Sequence[dg.RunRecord]
) -> None:
    """Bring one job that is under way to where its runs are."""
    now = datetime.now(UTC)
    since = job.launched_at or job.created_at
    outcome = outcome_of(records, since, now)
    if outcome.verdict == "done":
        complete(instance, database, tenant, job, outcome.run_id)
    elif outcome.verdict == "failed":
        _ended_without_success(instance, database, tenant, job, outcome, [r.dagster_run.run_id for r in records])
    elif outcome.verdict == "lost" or (job.run_id is not None and not records):
        fail_or_retry(database, tenant, job, Failure("No run answered the request.", refused=False))
    elif job.status == "cancelling":
        _cancel_runs(instance, database, tenant, job, records, launching=now - since < LAUNCH_TAKES)
    elif started := [r.dagster_run for r in records if r.dagster_run.status is not dg.DagsterRunStatus.NOT_STARTED]:
        newest = next((run for run in started if not run.is_finished), started[0])
        _note_progress(instance, database, tenant, job, newest)


def complete(instance: dg.DagsterInstance, database: Database, tenant: str, job: Job, run_id: str) -> None:
    """End the job with what its run left behind, tell the audit log, and the person who asked for a report."""
    found = findings_of(instance, run_id) if job.type == "connector_test" else None
    with database.tenant(tenant) as scope:
        bound = database.within(scope)
        report = _report_of(bound, tenant, job, run_id)
        result = {"run_id": run_id, **_report_result(bound, tenant, report), **(found or {})}
        if not bound.jobs.settle(tenant, job, "completed", run_id=run_id, result=result):
            return
        _audit(bound, tenant, job, Action.RUN_COMPLETED, run_id=run_id)
        if report is not None:
            _mail(bound, tenant, job, "report_ready", {"period": report.period, "report_id": f"rep_{report.report_id}"})


def fail_or_retry(database: Database, tenant: str, job: Job, failure: Failure, run_id: str | None = None) -> None:
    """Let the job wait for its next attempt; end it when there is none, when it was refused, or is being cancelled."""
    if job.status == "cancelling":
        end_cancelled(database, tenant, job, run_id)
        return
    final = failure.refused and job.type not in RETRIED_REFUSALS
    if not final and database.jobs.retry(tenant, job, error=failure.message):
        return
    fail(database, tenant, job, failure.message, run_id)


def fail(database: Database, tenant: str, job: Job, error: str, run_id: str | None = None) -> None:
    """End the job without success, tell the audit log and the person who asked."""
    with database.tenant(tenant) as scope:
        bound = database.within(scope)
        if not bound.jobs.settle(tenant, job, "failed", run_id=run_id, error=error):
            return
        _audit(bound, tenant, job, Action.RUN_FAILED, run_id=run_id, outcome="failure")
        if job.type == "report_generation" and (month := month_of(job.payload.get("month"))):
            _mail(bound, tenant, job, "report_failed", {"period": month})
        elif job.type == "connector_sync":
            days = f"{job.payload.get('first', '')}/{job.payload.get('last', '')}"
            connection = str(job.payload.get("connection_id") or days)
            _mail(bound, tenant, job, "sync_failing", {"connection": connection, "error": error})


def end_cancelled(database: Database, tenant: str, job: Job, run_id: str | None = None, error: str = "") -> None:
    """End the job as cancelled and tell the audit log."""
    with database.tenant(tenant) as scope:
        bound = database.within(scope)
        if bound.jobs.settle(tenant, job, "cancelled", run_id=run_id, error=error or None):
            _audit(bound, tenant, job, Action.RUN_CANCELLED, run_id=run_id)


def _ended_without_success(
    instance: dg.DagsterInstance,
    database: Database,
    tenant: str,
    job: Job,
    outcome: Outcome,
    run_ids: Sequence[str],
) -> None:
    run_id, status = outcome.run_id, outcome.status
    published = (found for found in run_ids if database.reports.of_run(tenant, found) is not None)
    if job.type == "report_generation" and (publisher := next(published, None)):
        # One of the runs was killed after its publication: the effect is there.
        complete(instance, database, tenant, job, publisher)
    elif job.status == "cancelling":
        end_cancelled(database, tenant, job, run_id)
    elif status == dg.DagsterRunStatus.CANCELED.value:
        end_cancelled(database, tenant, job, run_id, "An operator cancelled the run.")
    else:
        fail_or_retry(database, tenant, job, failure_of(instance, database, tenant, run_id), run_id)


def _cancel_runs(
    instance: dg.DagsterInstance,
    database: Database,
    tenant: str,
    job: Job,
    records: Sequence[dg.RunRecord],
    *,
    launching: bool,
) -> None:
    """Ask Dagster to stop the runs; the job ends when they have. Asked again at each tick until then."""
    if not records and not launching:
        end_cancelled(database, tenant, job)
    for run in (found.dagster_run for found in records):
        if run.status is dg.DagsterRunStatus.NOT_STARTED:
            instance.report_run_canceled(run, message="Its job was cancelled before it was queued.")
        elif not run.is_finished and run.status is not dg.DagsterRunStatus.CANCELING:
            instance.run_coordinator.cancel_run(run.run_id)


def _note_progress(instance: dg.DagsterInstance, database: Database, tenant: str, job: Job, run: dg.DagsterRun) -> None:
    progress = progress_of(instance, run)
    if (run.run_id, progress) != (job.run_id, job.progress):
        database.jobs.progressed(tenant, job, run_id=run.run_id, progress=progress)


def progress_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> int:
    """Percent of the run's steps that have ended; below 100 until the run itself has."""
    if run.execution_plan_snapshot_id is None:
        return 0
    planned = instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id).step_keys_to_execute
    ended = sum(step.end_time is not None for step in instance.get_run_step_stats(run.run_id))
    return min(99, 100 * ended // max(1, len(planned)))


def _report_of(bound: Database, tenant: str, job: Job, run_id: str) -> Report | None:
    """The report that the run published, or the one that it found to be the same."""
    if job.type != "report_generation":
        return None
    return bound.reports.of_run(tenant, run_id) or bound.reports.newest(tenant, str(job.payload["month"]))


def _report_result(bound: Database, tenant: str, report: Report | None) -> dict[str, Any]:
    if report is None:
        return {}
    return {
        "report_id": f"rep_{report.report_id}",
        "edition": report.edition,
        "artefacts": [
            {"kind": a.kind, "name": a.file_name, "sha256": a.sha256, "size_bytes": a.size_bytes}
            for a in bound.reports.artefacts(tenant, report.report_id)
        ],
    }


def findings_of(instance: dg.DagsterInstance, run_id: str) -> dict[str, Any]:
    """What a test of a connection came to: whether all is well, and each step."""
    outputs = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_OUTPUT).records
    for event in (found.event_log_entry.dagster_event for found in outputs):
        metadata = event.step_output_data.metadata if event is not None else {}
        if FINDINGS in metadata:
            steps: Any = metadata[FINDINGS].value
            return {"ok": all(step["ok"] for step in steps), "findings": steps}
    return {}


def _audit(
    bound: Database, tenant: str, job: Job, action: Action, *, run_id: str | None, outcome: str = "success"
) -> None:
    record(
        bound,
        tenant,
        action,
        actor=SYSTEM,
        target=f"job_{job.job_id}",
        outcome=outcome,
        details={
            "type": job.type,
            "attempt": job.attempts,
            "run_id": run_id or "",
            "requested_by": job.requested_by,
        },
    )


def _mail(bound: Database, tenant: str, job: Job, template: str, variables: Mapping[str, Any]) -> None:
    """Write to the person who asked; a key and the system have nobody to tell."""
    person = bound.jobs.requester(tenant, job)
    if person is None:
        return
    try:
        enqueue(
            bound,
            tenant,
            template,
            to=person.email,
            user_id=person.user_id,
            locale=person.locale,
            vars={"organisation": bound.tenants.get(tenant).display_name, **variables},
            dedupe_key=f"job:{job.job_id}",
        )
    except MailError as error:  # an address that no mail can have must not keep the job from ending
        log.warning("job %s: no mail to its requester: %s", job.job_id, error)
