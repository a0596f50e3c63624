"""The audit log of the tenant: read it page by page, or export the whole chain for an auditor."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import Field
from typing_extensions import TypedDict

from offgridflow_pipeline.database.people.audit_log import AuditEvent
from offgridflow_pipeline.identity.audit import Action, record
from offgridflow_pipeline.identity.audit_export import export_lines
from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline.sidecar.answering import answers, caching, pagination
from offgridflow_pipeline.sidecar.entrance.audit_trail import trail
from offgridflow_pipeline.sidecar.entrance.authorization import Authorization, requires
from offgridflow_pipeline.sidecar.entrance.problems import problem_responses

router = APIRouter(tags=["audit"])
EXPORT_TYPE = "application/x-ndjson"
_EXPORT = {
    EXPORT_TYPE: {
        "schema": {"type": "string"},
        "example": '{"format":1,"hash":"267c13c140226a84…","seq":5,"tenant":"alder","type":"chain"}\n…\n'
        '{"events":5,"sha256":"9f86d081884c7d65…","type":"end"}\n',
    }
}


class Actor(TypedDict):
    """Who acted: a `user`, a `key`, a `run` or the `system`. Names are with the members."""

    type: str
    id: str


class AuditEntry(TypedDict):
    """One event of the chain."""

    seq: Annotated[int, Field(description="Place in the chain, from 1, without gaps.")]
    at: datetime
    action: str
    actor: Actor
    target: str
    outcome: str
    request_id: str
    ip_hash: Annotated[str, Field(description="Equal networks (an IPv4 address, a /64 of IPv6) look equal, no more.")]
    details: dict[str, Any]
    hash: Annotated[str, Field(description="SHA-256 over the hash before, `seq` and the body, hexadecimal.")]


@router.get(
    "/audit",
    operation_id="list_audit_events",
    summary="Audit events, newest first",
    response_model=answers.Page[AuditEntry],
    responses={**caching.NOT_MODIFIED, **problem_responses(400, 401, 403, 422, 429)},
)
def list_audit_events(
    auth: Annotated[Authorization, requires(Permission.AUDIT_READ)],
    action: Annotated[Action | None, Query(description="Events of this action only.")] = None,
    actor: Annotated[
        str | None,
        Query(
            max_length=200,
            pattern="^[a-z]+(:[A-Za-z0-9._-]+)?$",
            description="Events of this actor only: user:<id>, key:<id>, run:<id> or system.",
        ),
    ] = None,
    limit: pagination.Limit = pagination.DEFAULT_LIMIT,
    cursor: pagination.CursorText = None,
) -> Response:
    """What happened in the organisation: who, what, when, with which outcome."""
    with auth.transaction() as caller:
        tag = caching.tag(auth.request, caller, caller.database.audit_log.head(caller.tenant).seq)
        if caching.matches(auth.request, tag):
            return caching.not_modified(tag)
        cursors = pagination.cursors(auth.services, caller, "audit", {"action": action, "actor": actor})
        after = cursors.read(cursor)
        events = caller.database.audit_log.newest(
            caller.tenant,
            before=after[0] if after else None,
            limit=limit + 1,
            action=str(action) if action else None,
            actor=actor,
        )
    page, next_cursor = pagination.page(events, limit, cursors, key=lambda event: (event.seq,))
    return answers.read(
        answers.Page[AuditEntry],
        answers.Page(items=[_shown(event) for event in page], next_cursor=next_cursor),
        tag,
    )


@router.get(
    "/audit/export",
    operation_id="export_audit_log",
    summary="The whole chain with its anchors",
    response_class=StreamingResponse,
    responses={
        200: {"description": "JSON Lines, one record a line; see docs/audit.md.", "content": _EXPORT},
        **problem_responses(401, 403, 429),
    },
)
def export_audit_log(auth: Annotated[Authorization, requires(Permission.AUDIT_EXPORT)]) -> Response:
    """For `offgridflow audit verify`, which needs no access to us. The export is itself an event, the last of it."""
    with auth.transaction() as caller:
        record(
            caller.database,
            caller.tenant,
            Action.AUDIT_EXPORTED,
            actor=caller.principal,
            **trail(auth.request),
        )
        tenant = caller.tenant
    name = f"audit-{tenant}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.jsonl"
    return StreamingResponse(
        export_lines(auth.services.database, tenant),
        media_type=EXPORT_TYPE,
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )


def _shown(event: AuditEvent) -> AuditEntry:
    body = json.loads(event.body)
    return {
        "seq": event.seq,
        "at": datetime.fromisoformat(body["at"]),
        "action": body["action"],
        "actor": body["actor"],
        "target": body["target"],
        "outcome": body["outcome"],
        "request_id": body["request_id"],
        "ip_hash": body["ip_hash"],
        "details": body["details"],
        "hash": event.hash.hex(),
    }
