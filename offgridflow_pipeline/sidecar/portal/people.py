"""Names of those who did something, by their id: what tables of the portal show beside a decision or a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offgridflow_pipeline.sidecar.entrance.caller import Caller


def people_of(caller: Caller) -> dict[str, str]:
    """Names of the tenant's members by actor, ``user:<id>``; addresses stay on the members' own page."""
    return {f"user:{member.user_id}": member.display_name for member in caller.database.memberships.list(caller.tenant)}
