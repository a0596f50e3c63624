"""Invitations into a tenant, as rows of the tenant. The token is made when the mail is sent; its hash stands here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa

from offgridflow_pipeline.database.statements import one_at_a_time, write

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database


@dataclass(frozen=True, slots=True)
class InvitationRow:
    """An invitation; open until it is accepted, revoked, or expires."""

    invitation_id: UUID
    email: str
    role: str
    membership_expires_at: datetime | None
    invited_by: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class InvitationFound:
    """What the token of an invitation proves."""

    tenant_id: UUID
    slug: str
    tenant_name: str
    invitation_id: UUID
    email: str
    role: str


_COLUMNS = ", ".join(InvitationRow.__dataclass_fields__)
_FOUND = ", ".join(InvitationFound.__dataclass_fields__)
_MINE = "tenant_id = :tenant_id and invitation_id = :invitation_id"
_UNDECIDED = "accepted_at is null and revoked_at is null"
_OPEN = f"{_UNDECIDED} and expires_at > clock_timestamp()"


class Invitations:
    """Invitations into tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        tenant: str,
        email: str,
        role: str,
        *,
        invited_by: str,
        lifetime: timedelta,
        membership_expires_at: datetime | None,
    ) -> InvitationRow:
        """Invite an address; an older invitation of it is void.

        Raises:
            RecordError: a value has the wrong form: an auditor's membership has an end.
        """
        with self._database.tenant(tenant) as scope:
            one_at_a_time(scope, "invitations", email)
            scope.connection.execute(
                sa.text(
                    "update ogf.invitations set revoked_at = clock_timestamp()"
                    f" where tenant_id = :tenant_id and email = :email and {_UNDECIDED}"
                ),
                {"tenant_id": scope.tenant_id, "email": email},
            )
            row = write(
                scope,
                "invitations",
                "insert into ogf.invitations (tenant_id, email, role, membership_expires_at, invited_by, expires_at)"
                " values (:tenant_id, :email, :role, :membership_expires_at, :invited_by,"
                f" clock_timestamp() + :lifetime) returning {_COLUMNS}",
                {
                    "tenant_id": scope.tenant_id,
                    "email": email,
                    "role": role,
                    "membership_expires_at": membership_expires_at,
                    "invited_by": invited_by,
                    "lifetime": lifetime,
                },
            ).one()
        return InvitationRow(*row)

    def list(
        self, tenant: str, *, after: tuple[datetime, UUID] | None = None, limit: int | None = None
    ) -> list[InvitationRow]:
        """Undecided invitations, the newest first, expired ones among them; `after`: (created at, id) of the last."""
        created_at, invitation_id = after or (None, None)
        with self._database.tenant(tenant) as scope:
            rows = scope.connection.execute(
                sa.text(
                    f"select {_COLUMNS} from ogf.invitations where tenant_id = :tenant_id and {_UNDECIDED}"
                    " and (cast(:created_at as timestamptz) is null or (created_at, invitation_id)"
                    " < (cast(:created_at as timestamptz), cast(:invitation_id as uuid)))"
                    " order by created_at desc, invitation_id desc limit :limit"
                ),
                {
                    "tenant_id": scope.tenant_id,
                    "created_at": created_at,
                    "invitation_id": invitation_id,
                    "limit": limit,
                },
            ).all()
        return [InvitationRow(*row) for row in rows]

    def get(self, tenant: str, invitation_id: UUID) -> InvitationRow | None:
        """The invitation, when it is undecided; it may have expired."""
        with self._database.tenant(tenant) as scope:
            row = scope.connection.execute(
                sa.text(f"select {_COLUMNS} from ogf.invitations where {_MINE} and {_UNDECIDED}"),
                {"tenant_id": scope.tenant_id, "invitation_id": invitation_id},
            ).one_or_none()
        return InvitationRow(*row) if row else None

    def prolong(self, tenant: str, invitation_id: UUID, lifetime: timedelta) -> bool:
        """Let the invitation begin anew; the token sent before is void. False when it is decided."""
        return self._changed(
            tenant,
            invitation_id,
            f"set expires_at = clock_timestamp() + :lifetime, token_hash = null where {_MINE} and {_UNDECIDED}",
            lifetime=lifetime,
        )

    def revoke(self, tenant: str, invitation_id: UUID) -> bool:
        """Withdraw the invitation; False when it is decided."""
        return self._changed(
            tenant, invitation_id, f"set revoked_at = clock_timestamp() where {_MINE} and {_UNDECIDED}"
        )

    def revoke_of(self, tenant: str, invited_by: str) -> int:
        """Withdraw what somebody invited who may no longer invite; returns how many."""
        with self._database.tenant(tenant) as scope:
            revoked = scope.connection.execute(
                sa.text(
                    "update ogf.invitations set revoked_at = clock_timestamp()"
                    f" where tenant_id = :tenant_id and invited_by = :invited_by and {_UNDECIDED}"
                ),
                {"tenant_id": scope.tenant_id, "invited_by": invited_by},
            )
        return revoked.rowcount

    def give_token(self, tenant: str, invitation_id: UUID, token_hash: bytes) -> bool:
        """Store the hash of the token that is sent now; False when the invitation is decided or expired."""
        return self._changed(
            tenant, invitation_id, f"set token_hash = :token_hash where {_MINE} and {_OPEN}", token_hash=token_hash
        )

    def by_token(self, token_hash: bytes) -> InvitationFound | None:
        """The open invitation of a token; uses nothing."""
        with self._database.application_engine.begin() as connection:
            row = connection.execute(
                sa.text(f"select {_FOUND} from ogf.invitation_by_token(:token_hash)"), {"token_hash": token_hash}
            ).one_or_none()
        return InvitationFound(*row) if row else None

    def accept(self, tenant: str, invitation_id: UUID, token_hash: bytes, user_id: UUID) -> InvitationRow | None:
        """Use the token, for one caller only; None when the invitation is decided or expired."""
        with self._database.tenant(tenant) as scope:
            row = scope.connection.execute(
                sa.text(
                    "update ogf.invitations set accepted_at = clock_timestamp(), accepted_by = :user_id"
                    f" where {_MINE} and token_hash = :token_hash and {_OPEN} returning {_COLUMNS}"
                ),
                {
                    "tenant_id": scope.tenant_id,
                    "invitation_id": invitation_id,
                    "token_hash": token_hash,
                    "user_id": user_id,
                },
            ).one_or_none()
        return InvitationRow(*row) if row else None

    def _changed(self, tenant: str, invitation_id: UUID, change: str, **values: Any) -> bool:
        with self._database.tenant(tenant) as scope:
            changed = scope.connection.execute(
                sa.text(f"update ogf.invitations {change}"),
                {"tenant_id": scope.tenant_id, "invitation_id": invitation_id, **values},
            )
        return changed.rowcount == 1
