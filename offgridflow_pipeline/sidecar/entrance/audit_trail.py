"""What an audit event keeps of the request it comes from: its id, and a keyed hash of the client's address."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from offgridflow_pipeline.sidecar.entrance.refusals import visitor_of

if TYPE_CHECKING:
    from fastapi import Request


class Trail(TypedDict):
    """Keyword arguments of `identity.audit.record`."""

    request_id: str
    ip_hash: str


def trail(request: Request) -> Trail:
    """Where the request comes from."""
    visitor = visitor_of(request)
    return {"request_id": visitor.request_id, "ip_hash": visitor.ip_hash}
