"""Requests for a new password, as rows of their person. The token is made when the mail is sent; here is its hash."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database

_OPEN = "used_at is null and voided_at is null and expires_at > clock_timestamp()"
_MINE = "user_id = :user_id and reset_id = :reset_id"


class PasswordResets:
    """Requests for a new password."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def request(self, user_id: UUID, lifetime: timedelta) -> UUID:
        """Ask for a reset; older ones are void."""
        with self._database.user(user_id) as scope:
            scope.connection.execute(
                sa.text("select from ogf.users where user_id = :user_id for no key update"), {"user_id": user_id}
            )
            values = {"user_id": user_id, "lifetime": lifetime}
            self._void(scope.connection, user_id)
            scope.connection.execute(
                sa.text(
                    "delete from ogf.password_resets where user_id = :user_id"
                    " and requested_at < clock_timestamp() - interval '90 days'"
                ),
                values,
            )
            made: UUID = scope.connection.scalar(
                sa.text(
                    "insert into ogf.password_resets (user_id, expires_at)"
                    " values (:user_id, clock_timestamp() + :lifetime) returning reset_id"
                ),
                values,
            )
        return made

    def give_token(self, user_id: UUID, reset_id: UUID, token_hash: bytes) -> bool:
        """Store the hash of the token that is sent now; False when the request is used, void or expired."""
        return self._changed(
            user_id, reset_id, f"set token_hash = :token_hash where {_MINE} and {_OPEN}", token_hash=token_hash
        )

    def by_token(self, token_hash: bytes) -> tuple[UUID, UUID] | None:
        """Person and request of a token that is still good; uses nothing."""
        with self._database.application_engine.begin() as connection:
            row = connection.execute(
                sa.text("select user_id, reset_id from ogf.reset_by_token(:token_hash)"), {"token_hash": token_hash}
            ).one_or_none()
        return (row[0], row[1]) if row else None

    def use(self, user_id: UUID, reset_id: UUID, token_hash: bytes) -> bool:
        """Use the token, for one caller only; False when it is used, void or expired."""
        return self._changed(
            user_id,
            reset_id,
            f"set used_at = clock_timestamp() where {_MINE} and token_hash = :token_hash and {_OPEN}",
            token_hash=token_hash,
        )

    def void(self, user_id: UUID) -> None:
        """Void every open request of the person."""
        with self._database.user(user_id) as scope:
            self._void(scope.connection, user_id)

    @staticmethod
    def _void(connection: sa.Connection, user_id: UUID) -> None:
        connection.execute(
            sa.text(
                "update ogf.password_resets set voided_at = clock_timestamp()"
                " where user_id = :user_id and used_at is null and voided_at is null"
            ),
            {"user_id": user_id},
        )

    def _changed(self, user_id: UUID, reset_id: UUID, change: str, **values: Any) -> bool:
        with self._database.user(user_id) as scope:
            changed = scope.connection.execute(
                sa.text(f"update ogf.password_resets {change}"), {"user_id": user_id, "reset_id": reset_id, **values}
            )
        return changed.rowcount == 1
