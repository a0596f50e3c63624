"""Which run a job becomes: from a row of the `jobs` table to a run request, or to the reason why it cannot be one.

Pure planning: a row in, a request out. Launching and settling are in `sensors.jobs` and `job_settlement`.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date
from typing import TYPE_CHECKING

import dagster as dg

from offgridflow_pipeline.connectors.changes.detection import DayRange
from offgridflow_pipeline.defs.connection_test import connection_test, try_connection
from offgridflow_pipeline.defs.jobs import MONTHLY_ASSETS, daily_calculation, daily_emissions, monthly_report
from offgridflow_pipeline.defs.range_runs import TRIGGER_TAG, RangeRun
from offgridflow_pipeline.defs.run_coordinator import TENANT_TAG
from offgridflow_pipeline.defs.standings import artefact_tags, without_barred
from offgridflow_pipeline.job_requests import (
    ConnectorSync,
    ConnectorTest,
    DayRangePayload,
    JobRequestError,
    Payload,
    ReportGeneration,
    parsed,
)
from offgridflow_pipeline.subscriptions.entitlements import Entitlement, Standing, check

if TYPE_CHECKING:
    from offgridflow_pipeline.database.pipeline.jobs import Job

#: The job that a run answers, and which of its attempts; automatic retries of the run keep both.
JOB_TAG = "offgridflow/job"
ATTEMPT_TAG = "offgridflow/attempt"
#: Who asked: user:<id>, key:<id> or system.
ACTOR_TAG = "offgridflow/actor"
#: The one connection that the run reads; without it every one.
CONNECTION_TAG = "offgridflow/connection"
#: W3C trace context of the request that asked.
TRACE_TAG = "traceparent"
PRIORITY_TAG = "dagster/priority"
REQUESTED = "request"


def run_request(
    tenant: str, job: Job, *, standing: Standing, today: date, history_start: date, closed_months: Collection[str]
) -> dg.RunRequest:
    """The run of the job's newest attempt; a report in the formats of the plan.

    Raises:
        JobRequestError: the payload is wrong, or what it asks for is not possible or not allowed (any more).
    """
    payload = parsed(job.type, job.payload)
    _require_entitled(payload, standing, job.created_at.astimezone(UTC).date())
    payload.require_possible(today=today, history_start=history_start, closed_months=closed_months)
    tags = {
        JOB_TAG: str(job.job_id),
        ATTEMPT_TAG: str(job.attempts),
        ACTOR_TAG: job.requested_by,
        TRIGGER_TAG: REQUESTED,
        TENANT_TAG: tenant,
        PRIORITY_TAG: str(job.priority),
    }
    if job.traceparent:
        tags[TRACE_TAG] = job.traceparent
    if isinstance(payload, ReportGeneration):
        return dg.RunRequest(
            run_key=job.run_key,
            job_name=monthly_report.name,
            asset_selection=without_barred(standing, MONTHLY_ASSETS),
            partition_key=f"{payload.month}-01|{tenant}",
            tags=tags | artefact_tags(standing),
        )
    if isinstance(payload, ConnectorTest):
        scope = {"tenant": tenant, "connection_id": payload.connection_id}
        config = {"ops": {try_connection.name: {"config": scope}}}
        return dg.RunRequest(run_key=job.run_key, job_name=connection_test.name, run_config=config, tags=tags)
    name = daily_calculation.name
    if isinstance(payload, ConnectorSync):
        name = daily_emissions.name
        if payload.connection_id:
            tags[CONNECTION_TAG] = payload.connection_id
    days = RangeRun(tenant, DayRange(payload.first, payload.last), REQUESTED, job.run_key)
    return dg.RunRequest(run_key=job.run_key, job_name=name, tags={**days.tags, **tags})


def _require_entitled(payload: Payload, standing: Standing, asked_on: date) -> None:
    """Pass what plan and billing state allow; a test of a connection makes nothing.

    History is counted from the day on which the job was asked for: what was allowed then is not too old at midnight.
    """
    if isinstance(payload, ConnectorTest):
        return
    wanted = Entitlement.REPORTS
    if isinstance(payload, DayRangePayload):
        wanted = Entitlement.SYNCS if isinstance(payload, ConnectorSync) else Entitlement.RUNS
    decision = check(standing, wanted)
    if decision.allowed and isinstance(payload, DayRangePayload):
        decision = check(standing, Entitlement.HISTORY_DAYS, (asked_on - payload.first).days)
    if not decision.allowed:
        raise JobRequestError("plan_limit", decision.reason)
