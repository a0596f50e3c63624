"""Connections: how fresh each source is, pausing and resuming, and reading it now. Adding one is no page's work."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response

from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline.job_requests import ConnectorSync
from offgridflow_pipeline.sidecar.entrance.authorization import Authorization, requires
from offgridflow_pipeline.sidecar.entrance.problems import Problem, not_found
from offgridflow_pipeline.sidecar.portal.forms import refusal_text
from offgridflow_pipeline.sidecar.portal.people import people_of
from offgridflow_pipeline.sidecar.portal.rendering import page, see_other
from offgridflow_pipeline.sidecar.routes.connectors import ConnectorChange, change_connector
from offgridflow_pipeline.sidecar.run_requests import request_run
from offgridflow_pipeline.subscriptions.entitlements import Entitlement

router = APIRouter(include_in_schema=False)
JOBS_SHOWN = 8


@router.get("/connections")
def connections_page(auth: Annotated[Authorization, requires(Permission.CONNECTORS_READ)]) -> Response:
    """Sources with their last success and error, and the work that was asked for."""
    return _connections(auth)


@router.post("/connections/{connection_id}/sync")
def sync(
    auth: Annotated[Authorization, requires(Permission.RUNS_LAUNCH, makes=Entitlement.SYNCS)], connection_id: str
) -> Response:
    """Read the source again: the days of this month until today."""
    today = datetime.now(UTC).date()
    try:
        payload = ConnectorSync(first=today.replace(day=1), last=today, connection_id=connection_id)
        with auth.transaction() as caller:
            request_run(caller, auth.services, auth.request, "connector_sync", payload)
    except ValueError:
        raise not_found() from None
    except Problem as problem:
        if problem.status not in {409, 422}:
            raise
        return _connections(auth, refused=problem)
    return see_other("/connections?done=sync_requested")


@router.post("/connections/{connection_id}/pause")
def pause(auth: Annotated[Authorization, requires(Permission.CONNECTORS_WRITE)], connection_id: str) -> Response:
    """Stop reading the source."""
    return _set(auth, connection_id, "paused", "paused")


@router.post("/connections/{connection_id}/resume")
def resume(
    auth: Annotated[Authorization, requires(Permission.CONNECTORS_WRITE, makes=Entitlement.CONNECTIONS)],
    connection_id: str,
) -> Response:
    """Read the source again from now on."""
    return _set(auth, connection_id, "active", "resumed")


def _set(auth: Authorization, connection_id: str, status: Literal["active", "paused"], done: str) -> Response:
    """As the API does it, audit event included."""
    change_connector(auth, connection_id, ConnectorChange(status=status))
    return see_other(f"/connections?done={done}")


def _connections(auth: Authorization, refused: Problem | None = None) -> Response:
    with auth.transaction() as caller:
        values: dict[str, Any] = {
            "connections": caller.database.connections.list(caller.tenant),
            "jobs": caller.database.jobs.list(caller.tenant, limit=JOBS_SHOWN, job_type="connector_sync"),
            "people": people_of(caller),
        }
    return page(
        auth.request,
        "connections.html",
        caller,
        status=200 if refused is None else refused.status,
        may_sync=caller.may(Permission.RUNS_LAUNCH),
        refusal=None if refused is None else refusal_text(auth.request, refused.code, caller),
        **values,
    )
