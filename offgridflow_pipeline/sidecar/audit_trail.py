"""What an audit event keeps of the request it comes from: its id, and a keyed hash of the client's address."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from offgridflow_pipeline.identity.keyed_hashes import network_hash

if TYPE_CHECKING:
    from fastapi import Request

    from offgridflow_pipeline.sidecar.services import Services


class Trail(TypedDict):
    """Keyword arguments of `identity.audit.record`."""

    request_id: str
    ip_hash: str


def trail(request: Request, services: Services) -> Trail:
    """Where the request comes from."""
    return {
        "request_id": request.state.request_id,
        "ip_hash": network_hash(request.state.client_ip, services.pepper),
    }
