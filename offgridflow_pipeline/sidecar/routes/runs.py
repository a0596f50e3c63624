"""Runs: asking the pipeline for work, and seeing what became of it. The work is done by Dagster, never here."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from offgridflow_pipeline.database.pipeline.jobs import Job, Status
from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline.job_requests import ConnectorSync, EmissionsCalculation, JobType, ReportGeneration
from offgridflow_pipeline.sidecar.answering import answers, pagination
from offgridflow_pipeline.sidecar.answering.public_ids import JobId, public_id, uuid_of
from offgridflow_pipeline.sidecar.entrance.authorization import Authorization, requires
from offgridflow_pipeline.sidecar.entrance.idempotency import idempotency_key, idempotent
from offgridflow_pipeline.sidecar.entrance.problems import not_found, problem_responses
from offgridflow_pipeline.sidecar.run_requests import cancel_run, permission_for, request_run
from offgridflow_pipeline.subscriptions.entitlements import Entitlement

router = APIRouter(tags=["runs"])


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AskedSync(_Asked):
    """Read the bills of some days again."""

    type: Literal["connector_sync"]
    payload: ConnectorSync


class AskedCalculation(_Asked):
    """Compute the emissions of some days again."""

    type: Literal["emissions_calculation"]
    payload: EmissionsCalculation


class AskedReport(_Asked):
    """Build the report of a month."""

    type: Literal["report_generation"]
    payload: ReportGeneration


Asked = Annotated[
    AskedSync | AskedCalculation | AskedReport,
    Body(
        discriminator="type",
        openapi_examples={
            "report": {"value": {"type": "report_generation", "payload": {"month": "2026-10"}}},
            "sync": {"value": {"type": "connector_sync", "payload": {"first": "2026-10-01", "last": "2026-10-31"}}},
        },
    ),
]


class RunLinks(BaseModel):
    """Where to go from here."""

    self: str
    report: str | None = Field(None, description="The report that the run published.")


class Run(BaseModel):
    """Work that was asked for, and how far it is."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    id: str = Field(examples=["job_0f8fad5b-d9cb-469f-a165-70867728950e"])
    type: JobType
    status: Status = Field(
        description="pending, launched and running go on; completed, failed and cancelled are final."
    )
    payload: dict[str, Any]
    progress: int = Field(description="Percent of the steps that have ended.")
    result: dict[str, Any] | None = Field(description="What it left behind, once it is completed.")
    error: str | None = Field(description="Why it failed; of a pending run: why its last attempt did.")
    attempts: int
    max_attempts: int
    requested_by: str = Field(description="user:<id>, key:<id> or system.")
    run_id: str | None = Field(description="Run in Dagster that carried out the newest attempt.")
    created_at: datetime
    updated_at: datetime
    scheduled_at: datetime = Field(description="Not attempted before this time.")
    completed_at: datetime | None
    links: RunLinks = Field(alias="_links")


def run_of(job: Job) -> Run:
    """The job as the API shows it."""
    identity = public_id("job", job.job_id)
    report = (job.result or {}).get("report_id")
    return Run(
        id=identity,
        type=job.type,
        status=job.status,
        payload=dict(job.payload),
        progress=job.progress,
        result=dict(job.result) if job.result is not None else None,
        error=job.error,
        attempts=job.attempts,
        max_attempts=job.max_attempts,
        requested_by=job.requested_by,
        run_id=job.run_id,
        created_at=job.created_at,
        updated_at=job.updated_at,
        scheduled_at=job.scheduled_at,
        completed_at=job.completed_at,
        links=RunLinks(self=f"/v1/runs/{identity}", report=f"/v1/reports/{report}" if report else None),
    )


def accepted(job: Job) -> Response:
    """202: the work is asked for, and where to see what becomes of it."""
    run = run_of(job)
    return answers.written(Run, run, status=202, headers={"location": run.links.self})


@router.post(
    "/runs",
    operation_id="create_run",
    summary="Ask for a run",
    status_code=202,
    response_model=Run,
    responses=problem_responses(400, 401, 403, 409, 422, 429),
)
def create_run(
    auth: Annotated[Authorization, requires(Permission.RUNS_LAUNCH, makes=Entitlement.RUNS)],
    body: Asked,
    _key: Annotated[str | None, idempotency_key()] = None,
) -> Response:
    """Ask for a sync, a calculation or a report. Reports need `reports:create`, the others `runs:launch`."""
    allowed = replace(auth, permission=permission_for(body.type))
    with allowed.transaction() as caller, idempotent(caller, auth.request, body) as once:
        if once.replay is not None:
            return once.replay
        return once.keep(accepted(request_run(caller, auth.services, auth.request, body.type, body.payload)))


@router.get(
    "/runs",
    operation_id="list_runs",
    summary="Runs that were asked for",
    response_model=answers.Page[Run],
    responses=problem_responses(400, 401, 403, 422, 429),
)
def list_runs(
    auth: Annotated[Authorization, requires(Permission.RUNS_READ)],
    status: Annotated[Status | None, Query(description="Runs in this state alone.")] = None,
    type: Annotated[JobType | None, Query(description="Runs of this type alone.")] = None,
    limit: pagination.Limit = pagination.DEFAULT_LIMIT,
    cursor: pagination.CursorText = None,
) -> Response:
    """The newest first."""
    with auth.transaction() as caller:
        cursors = pagination.cursors(auth.services, caller, "runs", {"status": status, "type": type})
        jobs = caller.database.jobs.list(
            caller.tenant, limit=limit + 1, after=cursors.read(cursor), status=status, job_type=type
        )
        rows, next_cursor = pagination.page(jobs, limit, cursors, key=lambda job: (job.created_at, job.job_id))
    page = answers.Page[Run](items=[run_of(job) for job in rows], next_cursor=next_cursor)
    return answers.read(answers.Page[Run], page)


@router.get(
    "/runs/{job_id}",
    operation_id="get_run",
    summary="One run",
    response_model=Run,
    responses=problem_responses(401, 403, 404, 429),
)
def get_run(auth: Annotated[Authorization, requires(Permission.RUNS_READ)], job_id: JobId) -> Response:
    """State, progress, result or error."""
    with auth.transaction() as caller:
        job = caller.database.jobs.get(caller.tenant, uuid_of("job", job_id))
    if job is None:
        raise not_found()
    return answers.read(Run, run_of(job))


@router.post(
    "/runs/{job_id}/cancel",
    operation_id="cancel_run",
    summary="Cancel a run",
    status_code=202,
    response_model=Run,
    responses=problem_responses(401, 403, 404, 409, 429),
)
def cancel(auth: Annotated[Authorization, requires(Permission.RUNS_READ)], job_id: JobId) -> Response:
    """Cancel what was asked for; it needs the permission that asking for it needed. One under way is stopped first."""
    identity = uuid_of("job", job_id)
    with auth.transaction() as caller:
        job = caller.database.jobs.get(caller.tenant, identity)
    if job is None:
        raise not_found()
    with replace(auth, permission=permission_for(job.type)).transaction() as caller:
        return answers.written(Run, run_of(cancel_run(caller, auth.request, identity)), status=202)
