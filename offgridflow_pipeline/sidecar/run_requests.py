"""Asking for runs and cancelling them, for the API and the portal: a row of the `jobs` table and its audit event.

Everything happens in the transaction of the caller. What a payload may hold is decided in `job_requests`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from offgridflow_pipeline.database.pipeline.connections import UnknownConnectionError
from offgridflow_pipeline.identity.audit import Action, record
from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline.job_requests import ConnectorSync, DayRangePayload, JobRequestError, JobType, Payload
from offgridflow_pipeline.sidecar.answering.public_ids import public_id
from offgridflow_pipeline.sidecar.entrance.audit_trail import trail
from offgridflow_pipeline.sidecar.entrance.plan_limits import require_history
from offgridflow_pipeline.sidecar.entrance.problems import FieldProblem, Problem, not_found

if TYPE_CHECKING:
    from uuid import UUID

    from fastapi import Request

    from offgridflow_pipeline.database.pipeline.jobs import Job
    from offgridflow_pipeline.sidecar.entrance.caller import Caller
    from offgridflow_pipeline.sidecar.services import Services

#: Jobs of a tenant that are not settled: each costs every tick of the sensor that all tenants share.
MAXIMUM_OPEN_RUNS = 200
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def permission_for(job_type: str) -> Permission:
    """What a caller needs to ask for a run of that type, or to cancel it."""
    return Permission.REPORTS_CREATE if job_type == "report_generation" else Permission.RUNS_LAUNCH


def request_run(caller: Caller, services: Services, request: Request, job_type: JobType, payload: Payload) -> Job:
    """Write the job; it is taken up within seconds.

    Raises:
        Problem: 409 for days of a closed month, a paused connection, or when too much waits already; 422 for what is
            not possible; 403 for days that lie further back than the plan goes.
    """
    _require_possible(caller, services, payload)
    if caller.database.jobs.open_count(caller.tenant, MAXIMUM_OPEN_RUNS) >= MAXIMUM_OPEN_RUNS:
        raise Problem(409, "too_many_runs", f"{MAXIMUM_OPEN_RUNS} runs wait or go on: let some end, or cancel some.")
    job = caller.database.jobs.add(
        caller.tenant,
        job_type=job_type,
        payload=payload.document(),
        requested_by=caller.principal,
        traceparent=traceparent(request),
    )
    record(
        caller.database,
        caller.tenant,
        Action.REPORT_REQUESTED if job_type == "report_generation" else Action.RUN_REQUESTED,
        actor=caller.principal,
        target=public_id("job", job.job_id),
        details={"type": job_type, **payload.document()},
        **trail(request),
    )
    return job


def cancel_run(caller: Caller, request: Request, job_id: UUID) -> Job:
    """Cancel the job; one under way ends when its run has. Cancelling twice is cancelling once.

    Raises:
        Problem: 404 without such a job, 409 when it is completed or has failed.
    """
    before = caller.database.jobs.get(caller.tenant, job_id)
    if before is None:
        raise not_found()
    if before.status in {"cancelling", "cancelled"}:
        return before
    job = caller.database.jobs.cancel(caller.tenant, job_id)
    if job is None or job.status not in {"cancelling", "cancelled"}:
        raise Problem(409, "already_ended", f"The run is {before.status}: there is nothing to cancel.")
    record(
        caller.database,
        caller.tenant,
        Action.RUN_CANCELLED,
        actor=caller.principal,
        target=public_id("job", job_id),
        outcome="success" if job.status == "cancelled" else "requested",
        details={"type": job.type},
        **trail(request),
    )
    return job


def traceparent(request: Request) -> str | None:
    """W3C trace context of the request: of the span under way, else as the client sent it; None without either."""
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    sent = request.headers.get("traceparent", "")
    return sent if _TRACEPARENT.fullmatch(sent) else None


def _require_possible(caller: Caller, services: Services, payload: Payload) -> None:
    today = datetime.now(UTC).date()
    try:
        payload.require_possible(
            today=today,
            history_start=services.settings.history_start,
            closed_months=caller.database.period_closures.closed_months(caller.tenant),
        )
    except JobRequestError as error:
        raise Problem(409 if error.code == "month_closed" else 422, error.code, str(error)) from None
    if isinstance(payload, DayRangePayload):
        require_history(caller, payload.first, today)
    if isinstance(payload, ConnectorSync) and payload.connection_id is not None:
        _require_readable(caller, payload.connection_id)


def _require_readable(caller: Caller, connection_id: str) -> None:
    try:
        found = caller.database.connections.get(caller.tenant, connection_id)
    except UnknownConnectionError:
        wrong = FieldProblem(
            pointer="/body/connection_id", message="There is no connection of that id.", code="unknown_connection"
        )
        raise Problem(422, "unknown_connection", "There is no such connection.", errors=[wrong]) from None
    if found.status == "paused":
        raise Problem(409, "connection_paused", f"Connection {connection_id} is paused: resume it first.")
