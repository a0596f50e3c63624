"""Who calls, as the handlers know it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from offgridflow_pipeline.subscriptions.entitlements import UNLIMITED, Standing

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.identity.permissions import Permission

STEP_UP_LASTS = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. `database` is bound to the transaction of the call and to the caller's tenant and user.

    `restricted_at`: when nothing new is made any more unless it is paid; a person's, in the state `grace` only.
    """

    kind: Literal["session", "api_key", "token"]
    principal: str
    tenant: str
    tenant_id: UUID | None
    tenant_name: str
    permissions: frozenset[Permission]
    database: Database
    user_id: UUID | None = None
    session_id: UUID | None = None
    role: str | None = None
    email: str = ""
    display_name: str = ""
    locale: str = "en"
    platform_role: str | None = None
    second_factor: bool = False
    stepped_up_at: datetime | None = None
    break_glass: bool = False
    data_version: int | None = None
    standing: Standing = UNLIMITED
    restricted_at: datetime | None = None

    def may(self, permission: Permission) -> bool:
        """Whether the caller holds the permission."""
        return permission in self.permissions

    @property
    def stepped_up(self) -> bool:
        """Whether the person proved their identity within the last minutes."""
        return self.stepped_up_at is not None and datetime.now(UTC) - self.stepped_up_at < STEP_UP_LASTS
