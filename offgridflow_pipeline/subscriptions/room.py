"""Room in a plan: how many connections and people a tenant has, and whether one more fits.

Counted in the transaction of the change, one change of a kind at a time, so that two at once do not take the same
place. Paused connections take none; open invitations take one each, of the role they are for.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from offgridflow_pipeline.database.statements import one_at_a_time
from offgridflow_pipeline.subscriptions.entitlements import Decision, Entitlement, Standing, check

if TYPE_CHECKING:
    from uuid import UUID

    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.database.people.memberships import MemberRow


@dataclass(frozen=True, slots=True)
class Use:
    """What a tenant has of what plans count; `invited` of its members and auditors have not come yet."""

    connections: int
    members: int
    auditors: int
    invited: int


def use(database: Database, tenant: str) -> Use:
    """What the tenant has now."""
    now = datetime.now(UTC)
    kinds = [_kind(row.role) for row in database.memberships.list(tenant) if _is_member(row, now)]
    invited = [_kind(row.role) for row in database.invitations.list(tenant) if row.expires_at > now]
    everybody = kinds + invited
    return Use(
        connections=len(database.connections.list(tenant, paused=False)),
        members=everybody.count(Entitlement.MEMBERS),
        auditors=everybody.count(Entitlement.AUDITORS),
        invited=len(invited),
    )


def for_connection(database: Database, tenant: str, standing: Standing, connection_id: str) -> Decision:
    """Whether that connection may be read beside those that are read already."""
    if _is_free(standing, Entitlement.CONNECTIONS):
        return check(standing, Entitlement.CONNECTIONS, 0)
    hold_back_others(database, tenant, Entitlement.CONNECTIONS)
    others = [row for row in database.connections.list(tenant, paused=False) if row.connection_id != connection_id]
    return check(standing, Entitlement.CONNECTIONS, len(others) + 1)


def for_invitation(
    database: Database, tenant: str, standing: Standing, role: str, *, address: str = "", again: UUID | None = None
) -> Decision:
    """Whether one more may be invited in that role; what the invitation takes the place of is not counted.

    `address`: of whom is invited; `again`: the invitation that is sent again.
    """
    kind = _kind(role)
    if _is_free(standing, kind):
        return check(standing, kind, 0)
    hold_back_others(database, tenant, kind)
    now, wanted = datetime.now(UTC), address.strip().lower()
    waiting = sum(
        _kind(row.role) is kind and row.expires_at > now and row.email != wanted and row.invitation_id != again
        for row in database.invitations.list(tenant)
    )
    return check(standing, kind, _members(database, tenant, kind, now) + waiting + 1)


def for_member(database: Database, tenant: str, standing: Standing, role: str) -> Decision:
    """Whether one more may come in that role: whoever comes first, so invitations that are open take no place."""
    kind = _kind(role)
    if _is_free(standing, kind):
        return check(standing, kind, 0)
    hold_back_others(database, tenant, kind)
    return check(standing, kind, _members(database, tenant, kind, datetime.now(UTC)) + 1)


def for_role_change(database: Database, tenant: str, standing: Standing, user_id: UUID, role: str) -> Decision:
    """Whether a member may have that role; who stays a member, or an auditor, takes no other place."""
    row = database.memberships.get(tenant, user_id)
    if row is None or (_is_member(row, datetime.now(UTC)) and _kind(row.role) is _kind(role)):
        return Decision(allowed=True)
    return for_invitation(database, tenant, standing, role)


def _kind(role: str) -> Entitlement:
    return Entitlement.AUDITORS if role == "auditor" else Entitlement.MEMBERS


def _is_member(row: MemberRow, now: datetime) -> bool:
    return row.expires_at is None or row.expires_at > now


def _members(database: Database, tenant: str, kind: Entitlement, now: datetime) -> int:
    return sum(_kind(row.role) is kind and _is_member(row, now) for row in database.memberships.list(tenant))


def _is_free(standing: Standing, entitlement: Entitlement) -> bool:
    """Whether nothing needs to be counted: no limit, or no work in this billing state."""
    return not standing.works or getattr(standing.plan, entitlement) is None


def hold_back_others(database: Database, tenant: str, entitlement: Entitlement) -> None:
    """Let nobody else count or take places of that kind until this transaction ends."""
    with database.tenant(tenant) as scope:
        one_at_a_time(scope, "room", str(entitlement))
