"""API keys of tenants, as rows. How a key is made and who may make one is decided in `identity.api_keys`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import sqlalchemy as sa

from offgridflow_pipeline.database.statements import one_at_a_time, write

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database


class UnknownKeyError(LookupError):
    """The tenant has no API key of that id."""


@dataclass(frozen=True, slots=True)
class ApiKeyRow:
    """An API key without its secret."""

    key_id: str
    name: str
    permissions: list[str]
    created_by: str
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None
    revoked_by: str | None

    @property
    def live(self) -> bool:
        """Whether the key opens anything now."""
        return self.state == "live"

    @property
    def state(self) -> Literal["live", "expired", "revoked"]:
        """Whether the key opens anything now, and why not."""
        if self.revoked_at is not None:
            return "revoked"
        return "live" if self.expires_at > datetime.now(UTC) else "expired"


_COLUMNS = ", ".join(ApiKeyRow.__dataclass_fields__)
_MINE = "tenant_id = :tenant_id and key_id = :key_id"


class ApiKeys:
    """API keys of machines."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        tenant: str,
        key_id: str,
        secret_sha256: bytes,
        *,
        name: str,
        permissions: Sequence[str],
        created_by: str,
        expires_at: datetime,
    ) -> ApiKeyRow:
        """Add a key.

        Raises:
            RecordError: the id is taken, or a value has the wrong form.
        """
        with self._database.tenant(tenant) as scope:
            row = write(
                scope,
                "api_keys",
                "insert into ogf.api_keys (tenant_id, key_id, secret_sha256, name, permissions, created_by, expires_at)"
                " values (:tenant_id, :key_id, :secret_sha256, :name, :permissions, :created_by, :expires_at)"
                f" returning {_COLUMNS}",
                {
                    "tenant_id": scope.tenant_id,
                    "key_id": key_id,
                    "secret_sha256": secret_sha256,
                    "name": name,
                    "permissions": list(permissions),
                    "created_by": created_by,
                    "expires_at": expires_at,
                },
            ).one()
        return ApiKeyRow(*row)

    def get(self, tenant: str, key_id: str) -> ApiKeyRow:
        """The key, live or not.

        Raises:
            UnknownKeyError: the tenant has none of that id.
        """
        with self._database.tenant(tenant) as scope:
            row = scope.connection.execute(
                sa.text(f"select {_COLUMNS} from ogf.api_keys where {_MINE}"),
                {"tenant_id": scope.tenant_id, "key_id": key_id},
            ).one_or_none()
        if row is None:
            raise UnknownKeyError(f"Tenant {tenant} has no API key {key_id!r}.")
        return ApiKeyRow(*row)

    def newest(self, tenant: str, *, after: tuple[datetime, str] | None, limit: int) -> list[ApiKeyRow]:
        """Keys newest first, those behind the time of creation and id `after`."""
        behind = "" if after is None else " and (created_at, key_id) < (:created_at, :key_id)"
        with self._database.tenant(tenant) as scope:
            rows = scope.connection.execute(
                sa.text(
                    f"select {_COLUMNS} from ogf.api_keys where tenant_id = :tenant_id{behind}"
                    " order by created_at desc, key_id desc limit :limit"
                ),
                {
                    "tenant_id": scope.tenant_id,
                    "limit": limit,
                    **(dict(zip(("created_at", "key_id"), after, strict=True)) if after else {}),
                },
            ).all()
        return [ApiKeyRow(*row) for row in rows]

    def list(self, tenant: str) -> list[ApiKeyRow]:
        """Every key of the tenant, newest first, those that have ended among them."""
        with self._database.tenant(tenant) as scope:
            rows = scope.connection.execute(
                sa.text(
                    f"select {_COLUMNS} from ogf.api_keys where tenant_id = :tenant_id"
                    " order by created_at desc, key_id desc"
                ),
                {"tenant_id": scope.tenant_id},
            ).all()
        return [ApiKeyRow(*row) for row in rows]

    def hold(self, tenant: str) -> None:
        """Hold back others who add keys of the tenant until this transaction ends."""
        with self._database.tenant(tenant) as scope:
            one_at_a_time(scope, "api_keys")

    def revoke(self, tenant: str, key_id: str, *, by: str) -> bool:
        """End the key; False when it was revoked before or is not there."""
        with self._database.tenant(tenant) as scope:
            changed = scope.connection.execute(
                sa.text(
                    "update ogf.api_keys set revoked_at = clock_timestamp(), revoked_by = :by"
                    f" where {_MINE} and revoked_at is null"
                ),
                {"tenant_id": scope.tenant_id, "key_id": key_id, "by": by},
            )
        return changed.rowcount == 1

    def touch(self, tenant: str, key_id: str) -> None:
        """Note that the key was used now; a row that another process writes at this moment is left to it."""
        with self._database.tenant(tenant) as scope:
            scope.connection.execute(
                sa.text(
                    "update ogf.api_keys set last_used_at = clock_timestamp() where tenant_id = :tenant_id"
                    " and key_id = (select k.key_id from ogf.api_keys k where k.tenant_id = :tenant_id"
                    " and k.key_id = :key_id for update skip locked)"
                ),
                {"tenant_id": scope.tenant_id, "key_id": key_id},
            )
