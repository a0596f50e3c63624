"""The audit log: newest events, by action, with the chain's head and newest anchor; and the export."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Response

from offgridflow_pipeline.identity.audit import Action
from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline.sidecar.entrance.authorization import Authorization, requires
from offgridflow_pipeline.sidecar.portal.people import people_of
from offgridflow_pipeline.sidecar.portal.rendering import language_for, page
from offgridflow_pipeline.sidecar.portal.texts import Texts
from offgridflow_pipeline.sidecar.routes.audit import export_audit_log

if TYPE_CHECKING:
    from offgridflow_pipeline.database.people.audit_log import AuditEvent

router = APIRouter(include_in_schema=False)
EVENTS_PER_PAGE = 50


@router.get("/audit")
def audit_page(
    auth: Annotated[Authorization, requires(Permission.AUDIT_READ)],
    action: str = "",
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
) -> Response:
    """Events, newest first."""
    chosen = action if action in set(Action) else ""
    with auth.transaction() as caller:
        rows = caller.database.audit_log.newest(
            caller.tenant, before=before, limit=EVENTS_PER_PAGE + 1, action=chosen or None
        )
        head = caller.database.audit_log.head(caller.tenant)
        anchor = caller.database.audit_log.newest_anchor(caller.tenant)
        people = people_of(caller)
    texts = Texts(language_for(auth.request, caller))
    shown = rows[:EVENTS_PER_PAGE]
    actions = sorted(((str(one), texts.label("action", one)) for one in Action), key=lambda named: named[1].casefold())
    return page(
        auth.request,
        "audit.html",
        caller,
        events=[_event(row) for row in shown],
        before=shown[-1].seq if len(rows) > EVENTS_PER_PAGE else None,
        head=head,
        anchor=anchor,
        actions=[("", texts("audit.every")), *actions],
        action=chosen,
        people=people,
    )


@router.get("/audit/export")
def export(auth: Annotated[Authorization, requires(Permission.AUDIT_EXPORT)]) -> Response:
    """The whole chain, as the API exports it."""
    return export_audit_log(auth)


def _event(row: AuditEvent) -> dict[str, Any]:
    body = json.loads(row.body)
    actor = body["actor"]
    return {
        "seq": row.seq,
        "at": datetime.fromisoformat(body["at"]),
        "action": body["action"],
        "actor": f"{actor['type']}:{actor['id']}" if actor["id"] else actor["type"],
        "target": body["target"],
        "outcome": body["outcome"],
    }
