"""Browser sessions as rows of their person. The cookie holds the token; here stands its HMAC alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A live session as its person sees it in a list."""

    session_id: UUID
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    user_agent: str
    second_factor: bool


_COLUMNS = ", ".join(SessionRow.__dataclass_fields__)
_MINE = "user_id = :user_id and session_id = :session_id"
_LIVE = "revoked_at is null and expires_at > clock_timestamp() and last_seen_at > clock_timestamp() - :idle"


class Sessions:
    """Browser sessions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        user_id: UUID,
        token_hmac: bytes,
        *,
        lifetime: timedelta,
        active_tenant: UUID | None,
        second_factor: bool,
        user_agent: str,
        ip_hash: bytes,
    ) -> UUID:
        """Start a session; signing in counts as proof of identity just now."""
        with self._database.user(user_id) as scope:
            made: UUID = scope.connection.scalar(
                sa.text(
                    "insert into ogf.sessions (user_id, token_hmac, active_tenant, second_factor, expires_at,"
                    " stepped_up_at, user_agent, ip_hash) values (:user_id, :token_hmac, :active_tenant,"
                    " :second_factor, clock_timestamp() + :lifetime, clock_timestamp(), :user_agent, :ip_hash)"
                    " returning session_id"
                ),
                {
                    "user_id": user_id,
                    "token_hmac": token_hmac,
                    "active_tenant": active_tenant,
                    "second_factor": second_factor,
                    "lifetime": lifetime,
                    "user_agent": user_agent,
                    "ip_hash": ip_hash,
                },
            )
        return made

    def forget_old(self, user_id: UUID) -> None:
        """Remove sessions of the person that ended 90 days ago."""
        with self._database.user(user_id) as scope:
            scope.connection.execute(
                sa.text(
                    "delete from ogf.sessions where user_id = :user_id"
                    " and expires_at < clock_timestamp() - interval '90 days'"
                ),
                {"user_id": user_id},
            )

    def touch(self, user_id: UUID, session_id: UUID) -> None:
        """Note that the session was used."""
        self._change(user_id, session_id, "last_seen_at = clock_timestamp()")

    def rotate(self, user_id: UUID, session_id: UUID, token_hmac: bytes) -> bool:
        """Give the session another token: the old one opens nothing any more; False when it has ended."""
        return self._change(user_id, session_id, "token_hmac = :token_hmac", token_hmac=token_hmac)

    def step_up(self, user_id: UUID, session_id: UUID, *, second_factor: bool) -> None:
        """Note that the person proved their identity just now; `second_factor`: with their second factor."""
        self._change(
            user_id,
            session_id,
            "stepped_up_at = clock_timestamp(), second_factor = second_factor or :second_factor",
            second_factor=second_factor,
        )

    def set_active_tenant(self, user_id: UUID, session_id: UUID, tenant_id: UUID) -> None:
        """Let the session work in another tenant."""
        self._change(user_id, session_id, "active_tenant = :tenant_id", tenant_id=tenant_id)

    def last_tenant(self, user_id: UUID) -> UUID | None:
        """The tenant the person worked in last."""
        with self._database.user(user_id) as scope:
            found: UUID | None = scope.connection.scalar(
                sa.text(
                    "select active_tenant from ogf.sessions where user_id = :user_id and active_tenant is not null"
                    " order by last_seen_at desc limit 1"
                ),
                {"user_id": user_id},
            )
        return found

    def knows_device(self, user_id: UUID, *, user_agent: str, ip_hash: bytes) -> bool:
        """Whether the person has a session of this browser or network in the last 90 days, or none at all yet."""
        with self._database.user(user_id) as scope:
            known: bool = scope.connection.scalar(
                sa.text(
                    "select not exists (select from ogf.sessions where user_id = :user_id) or exists (select from"
                    " ogf.sessions where user_id = :user_id and (user_agent = :user_agent or ip_hash = :ip_hash)"
                    " and created_at > clock_timestamp() - interval '90 days')"
                ),
                {"user_id": user_id, "user_agent": user_agent, "ip_hash": ip_hash},
            )
        return known

    def knows_network(self, user_id: UUID, ip_hash: bytes) -> bool:
        """Whether the person signed in from this network in the last 90 days."""
        with self._database.user(user_id) as scope:
            known: bool = scope.connection.scalar(
                sa.text(
                    "select exists (select from ogf.sessions where user_id = :user_id and ip_hash = :ip_hash"
                    " and created_at > clock_timestamp() - interval '90 days')"
                ),
                {"user_id": user_id, "ip_hash": ip_hash},
            )
        return known

    def list(self, user_id: UUID, idle: timedelta) -> list[SessionRow]:
        """Live sessions of the person, the one used last first."""
        with self._database.user(user_id) as scope:
            rows = scope.connection.execute(
                sa.text(
                    f"select {_COLUMNS} from ogf.sessions where user_id = :user_id and {_LIVE}"
                    " order by last_seen_at desc, session_id"
                ),
                {"user_id": user_id, "idle": idle},
            ).all()
        return [SessionRow(*row) for row in rows]

    def revoke(self, user_id: UUID, session_id: UUID) -> bool:
        """End a session of the person; False when they have no such live one."""
        return self._change(user_id, session_id, "revoked_at = clock_timestamp()")

    def revoke_all(self, user_id: UUID, *, but: UUID | None = None) -> int:
        """End every session of the person except `but`; returns how many."""
        with self._database.user(user_id) as scope:
            ended = scope.connection.execute(
                sa.text(
                    "update ogf.sessions set revoked_at = clock_timestamp() where user_id = :user_id"
                    " and revoked_at is null and session_id is distinct from cast(:but as uuid)"
                ),
                {"user_id": user_id, "but": but},
            )
        return ended.rowcount

    def _change(self, user_id: UUID, session_id: UUID, change: str, **values: Any) -> bool:
        with self._database.user(user_id) as scope:
            changed = scope.connection.execute(
                sa.text(f"update ogf.sessions set {change} where {_MINE} and revoked_at is null"),
                {"user_id": user_id, "session_id": session_id, **values},
            )
        return changed.rowcount == 1
