"""Who belongs to a tenant, in which role, as rows of the tenant. Who may change them is decided in `identity`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa

from offgridflow_pipeline.database.statements import write

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database


class LastOwnerError(ValueError):
    """The tenant would have no owner left."""


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A member with the name they sign in under."""

    user_id: UUID
    email: str
    display_name: str
    status: str
    role: str
    expires_at: datetime | None
    granted_by: str
    created_at: datetime
    locale: str


_COLUMNS = "m.user_id, u.email, u.display_name, u.status, m.role, m.expires_at, m.granted_by, m.created_at, u.locale"
_FROM = "ogf.memberships m join ogf.users u on u.user_id = m.user_id"


class Memberships:
    """Members of tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, tenant: str, *, after: tuple[str, UUID] | None = None, limit: int | None = None) -> list[MemberRow]:
        """Members by address, expired ones among them; `after` is (email, user id) of the last row before."""
        email, user_id = after or (None, None)
        with self._database.tenant(tenant) as scope:
            rows = scope.connection.execute(
                sa.text(
                    f"select {_COLUMNS} from {_FROM} where m.tenant_id = :tenant_id and (cast(:email as text) is null"
                    " or (u.email, m.user_id) > (cast(:email as text), cast(:user_id as uuid)))"
                    " order by u.email, m.user_id limit :limit"
                ),
                {"tenant_id": scope.tenant_id, "email": email, "user_id": user_id, "limit": limit},
            ).all()
        return [MemberRow(*row) for row in rows]

    def get(self, tenant: str, user_id: UUID, *, locked: bool = False) -> MemberRow | None:
        """The member, expired or not; `locked`: nobody else changes them before this transaction ends."""
        with self._database.tenant(tenant) as scope:
            row = scope.connection.execute(
                sa.text(
                    f"select {_COLUMNS} from {_FROM} where m.tenant_id = :tenant_id and m.user_id = :user_id"
                    + (" for update of m" if locked else "")
                ),
                {"tenant_id": scope.tenant_id, "user_id": user_id},
            ).one_or_none()
        return MemberRow(*row) if row else None

    def has_address(self, tenant: str, email: str) -> bool:
        """Whether somebody of that address is a member now."""
        with self._database.tenant(tenant) as scope:
            found: bool = scope.connection.scalar(
                sa.text(
                    f"select exists (select from {_FROM} where m.tenant_id = :tenant_id and u.email = :email"
                    " and (m.expires_at is null or m.expires_at > clock_timestamp()))"
                ),
                {"tenant_id": scope.tenant_id, "email": email},
            )
        return found

    def add(self, tenant: str, user_id: UUID, role: str, *, granted_by: str, expires_at: datetime | None) -> bool:
        """Add a member, or one whose membership has expired again; False when the person is a member now.

        Raises:
            RecordError: a value has the wrong form: an auditor's membership has an end.
        """
        with self._database.tenant(tenant) as scope:
            written = write(
                scope,
                "memberships",
                "insert into ogf.memberships as m (tenant_id, user_id, role, expires_at, granted_by)"
                " values (:tenant_id, :user_id, :role, :expires_at, :granted_by)"
                " on conflict (tenant_id, user_id) do update set role = excluded.role,"
                " expires_at = excluded.expires_at, granted_by = excluded.granted_by, updated_at = clock_timestamp()"
                " where m.tenant_id = :tenant_id and m.expires_at <= clock_timestamp()",
                {
                    "tenant_id": scope.tenant_id,
                    "user_id": user_id,
                    "role": role,
                    "expires_at": expires_at,
                    "granted_by": granted_by,
                },
            )
        return written.rowcount == 1

    def change(self, tenant: str, user_id: UUID, role: str, *, granted_by: str, expires_at: datetime | None) -> None:
        """Give the member another role.

        Raises:
            LastOwnerError: the tenant would have no owner left.
        """
        self._keeping_an_owner(
            tenant,
            "update ogf.memberships set role = :role, expires_at = :expires_at, granted_by = :granted_by,"
            " updated_at = clock_timestamp() where tenant_id = :tenant_id and user_id = :user_id",
            user_id=user_id,
            role=role,
            expires_at=expires_at,
            granted_by=granted_by,
        )

    def remove(self, tenant: str, user_id: UUID) -> None:
        """Remove the member.

        Raises:
            LastOwnerError: the tenant would have no owner left.
        """
        self._keeping_an_owner(
            tenant,
            "delete from ogf.memberships where tenant_id = :tenant_id and user_id = :user_id",
            user_id=user_id,
        )

    def _keeping_an_owner(self, tenant: str, statement: str, **values: Any) -> None:
        with self._database.tenant(tenant) as scope:
            try:
                with scope.connection.begin_nested():
                    scope.connection.execute(sa.text(statement), {"tenant_id": scope.tenant_id, **values})
            except sa.exc.IntegrityError as error:
                constraint = getattr(getattr(error.orig, "diag", None), "constraint_name", "")
                if constraint == "memberships_keep_an_owner":
                    raise LastOwnerError(f"{tenant} would have no owner left.") from None
                raise
