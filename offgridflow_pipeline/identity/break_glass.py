"""Break-glass: platform staff read a tenant for hours, for a stated reason, told in that tenant's own audit log.

Granted on the operator's command line alone; a grant reads as an auditor does and writes nothing.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from offgridflow_pipeline.identity.audit import Action, record
from offgridflow_pipeline.identity.refusals import RefusedError, not_found

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.database.people.break_glass import GrantRow

LONGEST = timedelta(hours=24)


def grant(
    database: Database, tenant: str, user_id: UUID, *, reason: str, lifetime: timedelta, granted_by: str = "system"
) -> GrantRow:
    """Let a member of the platform's staff read the tenant.

    `database` is connected as the operator.

    Raises:
        RefusedError: `not_found`, the person has no platform role; `invalid_expiry`; `invalid_name`, no reason.
        UnknownTenantError: no tenant has that slug.
    """
    person = database.users.get(user_id)
    if person is None or person.platform_role is None:
        raise not_found()
    if not timedelta(0) < lifetime <= LONGEST:
        raise RefusedError("invalid_expiry", "A break-glass grant lasts at most 24 hours.", field="lifetime")
    if not reason.strip():
        raise RefusedError("invalid_name", "Say why: the tenant reads it in its audit log.", field="reason")
    with database.tenant(tenant) as scope:
        bound = database.within(scope)
        made = bound.break_glass.add(tenant, user_id, reason=reason.strip(), granted_by=granted_by, lifetime=lifetime)
        record(
            bound,
            tenant,
            Action.BREAK_GLASS_GRANTED,
            actor=granted_by,
            target=f"user:{user_id}",
            details={"reason": made.reason, "expires_at": made.expires_at.isoformat()},
        )
    return made


def revoke(database: Database, tenant: str, user_id: UUID, *, revoked_by: str = "system") -> int:
    """End the person's grants in the tenant; returns how many were in force."""
    with database.tenant(tenant) as scope:
        bound = database.within(scope)
        ended = bound.break_glass.revoke(tenant, user_id)
        if ended:
            record(bound, tenant, Action.BREAK_GLASS_REVOKED, actor=revoked_by, target=f"user:{user_id}")
    return ended
