"""Break-glass grants as rows of the tenant they open: platform staff, for hours, with a reason."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import sqlalchemy as sa

from offgridflow_pipeline.database.statements import write

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database


@dataclass(frozen=True, slots=True)
class GrantRow:
    """A grant; it ends at `expires_at` or when it is revoked."""

    grant_id: UUID
    user_id: UUID
    reason: str
    granted_by: str
    granted_at: datetime
    expires_at: datetime
    revoked_at: datetime | None


_COLUMNS = ", ".join(GrantRow.__dataclass_fields__)


class BreakGlassGrants:
    """Reading rights of platform staff in tenants; given by the operator's role alone."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, tenant: str, user_id: UUID, *, reason: str, granted_by: str, lifetime: timedelta) -> GrantRow:
        """Grant reading rights.

        Raises:
            RecordError: no reason, or longer than a day.
        """
        with self._database.tenant(tenant) as scope:
            row = write(
                scope,
                "break_glass_grants",
                "insert into ogf.break_glass_grants (tenant_id, user_id, reason, granted_by, granted_at, expires_at)"
                " values (:tenant_id, :user_id, :reason, :granted_by, now(), now() + :lifetime)"
                f" returning {_COLUMNS}",
                {
                    "tenant_id": scope.tenant_id,
                    "user_id": user_id,
                    "reason": reason,
                    "granted_by": granted_by,
                    "lifetime": lifetime,
                },
            ).one()
        return GrantRow(*row)

    def list(self, tenant: str) -> list[GrantRow]:
        """Every grant of the tenant, the newest first."""
        with self._database.tenant(tenant) as scope:
            rows = scope.connection.execute(
                sa.text(
                    f"select {_COLUMNS} from ogf.break_glass_grants where tenant_id = :tenant_id"
                    " order by granted_at desc, grant_id"
                ),
                {"tenant_id": scope.tenant_id},
            ).all()
        return [GrantRow(*row) for row in rows]

    def revoke(self, tenant: str, user_id: UUID) -> int:
        """End the grants of the person in the tenant; returns how many were in force."""
        with self._database.tenant(tenant) as scope:
            revoked = scope.connection.execute(
                sa.text(
                    "update ogf.break_glass_grants set revoked_at = clock_timestamp() where tenant_id = :tenant_id"
                    " and user_id = :user_id and revoked_at is null and expires_at > now()"
                ),
                {"tenant_id": scope.tenant_id, "user_id": user_id},
            )
        return revoked.rowcount
