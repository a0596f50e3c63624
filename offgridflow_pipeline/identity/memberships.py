"""Members of a tenant: who may change whom. A change is in force with the next request of the person it concerns.

Nobody grants what they do not hold, only owners make or remove owners, and a tenant keeps an owner. What somebody
gave while they held more goes with it: open invitations, and API keys that may do what their maker may not any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from offgridflow_pipeline.database.people.memberships import LastOwnerError
from offgridflow_pipeline.identity import api_keys
from offgridflow_pipeline.identity.audit import Action
from offgridflow_pipeline.identity.permissions import ROLES, permissions_of
from offgridflow_pipeline.identity.refusals import RefusedError, not_found
from offgridflow_pipeline.identity.visits import tell, user_actor

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.database.people.memberships import MemberRow
    from offgridflow_pipeline.identity.visits import Visitor

LONGEST_AUDIT = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Granter:
    """Who changes members: a person with a role in the tenant."""

    user_id: UUID
    role: str


def require_grantable(granter: Granter, role: str, expires_at: datetime | None) -> None:
    """Pass when the granter may give the role, and its end fits it: an auditor has one, others have none.

    Raises:
        RefusedError: `role_not_grantable`, `expiry_required`, `invalid_expiry`.
    """
    if not permissions_of(role) <= permissions_of(granter.role) or (role == "owner" and granter.role != "owner"):
        raise RefusedError("role_not_grantable", f"The role {role} may do more than yours: ask an owner.", field="role")
    require_fitting_end(role, expires_at)


def require_fitting_end(role: str, expires_at: datetime | None) -> None:
    """Pass when the role exists and the membership's end fits it.

    Raises:
        RefusedError: `role_not_grantable`, `expiry_required`, `invalid_expiry`.
    """
    if role not in ROLES:
        raise RefusedError("role_not_grantable", f"There is no role {role}: {', '.join(ROLES)}.", field="role")
    if role != "auditor":
        if expires_at is not None:
            raise RefusedError("invalid_expiry", "Only an auditor's membership ends by itself.", field="expires_at")
        return
    if expires_at is None:
        raise RefusedError("expiry_required", "Say when the auditor's access ends.", field="expires_at")
    if expires_at.tzinfo is None or not timedelta(0) < expires_at - datetime.now(UTC) <= LONGEST_AUDIT:
        raise RefusedError(
            "invalid_expiry",
            f"The end lies ahead, at most {LONGEST_AUDIT.days} days, and names its time zone.",
            field="expires_at",
        )


def change_role(
    bound: Database,
    tenant: str,
    granter: Granter,
    user_id: UUID,
    role: str,
    expires_at: datetime | None,
    visitor: Visitor,
) -> MemberRow:
    """Give a member another role; what it does not cover any more of what they gave is withdrawn.

    Raises:
        RefusedError: `not_found`, `role_not_grantable`, `expiry_required`, `invalid_expiry`, `last_owner`.
    """
    member = _changeable(bound, tenant, granter, user_id)
    require_grantable(granter, role, expires_at)
    try:
        bound.memberships.change(tenant, user_id, role, granted_by=user_actor(granter.user_id), expires_at=expires_at)
    except LastOwnerError:
        raise _last_owner() from None
    if role != member.role:
        withdraw(bound, tenant, user_id, role, by=user_actor(granter.user_id), visitor=visitor)
    tell(
        bound, tenant, granter.user_id, Action.MEMBER_ROLE_CHANGED, visitor, target=f"user:{user_id}",
        details={"from": member.role, "to": role, "expires_at": expires_at.isoformat() if expires_at else None},
    )  # fmt: skip
    changed = bound.memberships.get(tenant, user_id)
    if changed is None:
        raise not_found()
    return changed


def remove(bound: Database, tenant: str, granter: Granter, user_id: UUID, visitor: Visitor) -> None:
    """Remove a member, or leave; their open invitations are withdrawn, the API keys they made are revoked.

    Raises:
        RefusedError: `not_found`, `role_not_grantable`, `last_owner`.
    """
    member = _changeable(bound, tenant, granter, user_id)
    try:
        bound.memberships.remove(tenant, user_id)
    except LastOwnerError:
        raise _last_owner() from None
    withdraw(bound, tenant, user_id, "", by=user_actor(granter.user_id), visitor=visitor)
    tell(
        bound, tenant, granter.user_id, Action.MEMBER_REMOVED, visitor, target=f"user:{user_id}",
        details={"role": member.role},
    )  # fmt: skip


def withdraw(bound: Database, tenant: str, user_id: UUID, role: str, *, by: str, visitor: Visitor) -> None:
    """Take back what the person gave and their role ("" = none) does not cover: invitations and API keys."""
    giver, held = user_actor(user_id), {str(permission) for permission in permissions_of(role)}
    bound.invitations.revoke_of(tenant, giver)
    for key in bound.api_keys.list(tenant):
        if key.created_by == giver and key.live and not held.issuperset(key.permissions):
            api_keys.revoke(
                bound,
                tenant,
                key.key_id,
                by=by,
                ip_hash=visitor.ip_hash,
                request_id=visitor.request_id,
            )


def _changeable(bound: Database, tenant: str, granter: Granter, user_id: UUID) -> MemberRow:
    """The member, held until the transaction ends; an owner is changed by owners alone."""
    member = bound.memberships.get(tenant, user_id, locked=True)
    if member is None:
        raise not_found()
    if member.role == "owner" and granter.role != "owner":
        raise RefusedError("role_not_grantable", "Only an owner changes or removes an owner.")
    return member


def _last_owner() -> RefusedError:
    return RefusedError("last_owner", "The organisation would have no owner left: make somebody else owner first.")
