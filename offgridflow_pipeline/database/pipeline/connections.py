"""Cloud connections of tenants and their sealed secrets, as rows. What a row means is decided in `connectors`.

Nothing here can open a secret: `SealedSecret` holds ciphertext only. Every statement names the tenant and runs
in a tenant transaction; row level security is the backstop.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa

from offgridflow_pipeline.database.statements import RecordError, one_at_a_time, write

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database, TenantScope

Status = Literal["active", "paused", "failing"]
MAXIMUM_ERROR_LENGTH = 4000


class UnknownConnectionError(LookupError):
    """The tenant has no connection of that id."""


@dataclass(frozen=True, slots=True)
class ConnectionRow:
    """A stored connection. `config` holds no secret; `secret_ref` is None where the ambient identity is used."""

    connection_id: str
    provider: str
    kind: str
    role: str
    uri: str
    config: Mapping[str, Any]
    secret_ref: str | None
    status: Status
    last_attempt_at: datetime | None
    last_success_at: datetime | None
    last_error: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """A secret under a data key that `key_id` wraps (AES-256-GCM; nonces of 12 bytes, tags of 16)."""

    key_id: str
    nonce: bytes = field(repr=False)
    ciphertext: bytes = field(repr=False)
    wrapped_key: bytes = field(repr=False)
    wrapped_key_nonce: bytes = field(repr=False)


_COLUMNS = ", ".join(ConnectionRow.__dataclass_fields__)
_SEALED = ", ".join(SealedSecret.__dataclass_fields__)
_MINE = "tenant_id = :tenant_id and connection_id = :connection_id"


class CloudConnections:
    """Cloud connections of tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        tenant: str,
        connection_id: str,
        *,
        provider: str,
        kind: str,
        uri: str = "",
        role: str = "record",
        config: Mapping[str, Any] | None = None,
        secret_ref: str | None = None,
        sealed: SealedSecret | None = None,
        replace: bool = False,
    ) -> None:
        """Add an active connection, its sealed secret with it or not at all.

        With `replace` an existing one of that id gets these values: it becomes active, its history stays, and
        an older sealed secret goes unless a new one comes or `secret_ref` is unchanged. With another kind, uri or
        role it is read from the beginning.

        Raises:
            RecordError: the id is taken (without `replace`), or a value has the wrong form.
        """
        values = {
            "provider": provider,
            "kind": kind,
            "uri": uri,
            "role": role,
            "config": json.dumps(dict(config or {}), sort_keys=True),
            "secret_ref": secret_ref or None,
        }
        with self._database.tenant(tenant) as scope:
            one_at_a_time(scope, "cloud_connections", connection_id)
            before = self._find(scope, connection_id)
            if before is not None and not replace:
                raise RecordError(
                    f"Connection {connection_id!r} of {tenant} is there already: choose another id, or replace it."
                )
            write(
                scope,
                "cloud_connections",
                "insert into ogf.cloud_connections as c (tenant_id, connection_id, provider, kind, uri, role, config,"
                " secret_ref) values (:tenant_id, :connection_id, :provider, :kind, :uri, :role,"
                " cast(:config as jsonb), :secret_ref) on conflict (tenant_id, connection_id) do update set"
                " provider = excluded.provider, kind = excluded.kind, uri = excluded.uri, role = excluded.role,"
                " config = excluded.config, secret_ref = excluded.secret_ref, status = 'active', last_error = null,"
                " updated_at = clock_timestamp() where c.tenant_id = :tenant_id",
                {**values, "tenant_id": scope.tenant_id, "connection_id": connection_id},
            )
            if before is not None and (before.kind, before.uri, before.role) != (kind, uri, role):
                scope.connection.execute(
                    sa.text(f"delete from ogf.feed_states where {_MINE}"),
                    {"tenant_id": scope.tenant_id, "connection_id": connection_id},
                )
            if sealed is not None:
                self._put_secret(scope, connection_id, sealed)
            elif before is not None and before.secret_ref != values["secret_ref"]:
                scope.connection.execute(
                    sa.text(f"delete from ogf.sealed_secrets where {_MINE}"),
                    {"tenant_id": scope.tenant_id, "connection_id": connection_id},
                )

    def get(self, tenant: str, connection_id: str) -> ConnectionRow:
        """The connection.

        Raises:
            UnknownConnectionError: the tenant has none of that id.
        """
        with self._database.tenant(tenant) as scope:
            found = self._find(scope, connection_id)
        if found is None:
            raise _unknown(tenant, connection_id)
        return found

    def list(self, tenant: str, *, paused: bool = True) -> list[ConnectionRow]:
        """Connections of the tenant by id; with `paused=False` those that are to be read."""
        with self._database.tenant(tenant) as scope:
            rows = scope.connection.execute(
                sa.text(
                    f"select {_COLUMNS} from ogf.cloud_connections where tenant_id = :tenant_id"
                    " and (:paused or status <> 'paused') order by connection_id"
                ),
                {"tenant_id": scope.tenant_id, "paused": paused},
            ).all()
        return [ConnectionRow(*row) for row in rows]

    def remove(self, tenant: str, connection_id: str) -> None:
        """Remove the connection, its sealed secret and the state of its source; end its open changes.

        The raw objects stay.

        Its rows leave the lake when their days are read again; a connection added under the same id starts anew.

        Raises:
            UnknownConnectionError: the tenant has none of that id.
        """
        self._change(
            tenant,
            connection_id,
            f"with states as (delete from ogf.feed_states where {_MINE}),"
            f" digests as (delete from ogf.day_digests where {_MINE}),"
            " changes as (update ogf.source_changes set status = 'failed', settled_at = clock_timestamp(),"
            f" error = 'The connection was removed.' where {_MINE} and settled_at is null)"
            f" delete from ogf.cloud_connections where {_MINE}",
        )

    def pause(self, tenant: str, connection_id: str) -> None:
        """Stop reading the connection until `resume`.

        Raises:
            UnknownConnectionError: the tenant has none of that id.
        """
        self._set_status(tenant, connection_id, "paused")

    def resume(self, tenant: str, connection_id: str) -> None:
        """Read the connection again.

        Raises:
            UnknownConnectionError: the tenant has none of that id.
        """
        self._set_status(tenant, connection_id, "active")

    def record_success(self, tenant: str, connection_id: str) -> None:
        """Note that the connection was read; a paused one stays paused, a removed one is no error."""
        self._attempted(
            tenant, connection_id, "last_success_at = clock_timestamp(), last_error = null", status="active"
        )

    def record_failure(self, tenant: str, connection_id: str, error: str) -> None:
        """Note why the connection could not be read; `error` must hold no secret.

        A paused connection stays paused, a removed one is no error.
        """
        self._attempted(
            tenant, connection_id, "last_error = :error", status="failing", error=error[:MAXIMUM_ERROR_LENGTH]
        )

    def put_secret(self, tenant: str, connection_id: str, sealed: SealedSecret) -> None:
        """Store the connection's sealed secret, in place of an older one.

        Raises:
            RecordError: the connection is not there, or a value has the wrong form.
        """
        with self._database.tenant(tenant) as scope:
            self._put_secret(scope, connection_id, sealed)

    def secret(self, tenant: str, connection_id: str) -> SealedSecret | None:
        """The connection's sealed secret; None when it has none."""
        with self._database.tenant(tenant) as scope:
            row = scope.connection.execute(
                sa.text(f"select {_SEALED} from ogf.sealed_secrets where {_MINE}"),
                {"tenant_id": scope.tenant_id, "connection_id": connection_id},
            ).one_or_none()
        return SealedSecret(*row) if row else None

    def secrets(self, tenant: str) -> dict[str, SealedSecret]:
        """All sealed secrets of the tenant by connection id."""
        with self._database.tenant(tenant) as scope:
            rows = scope.connection.execute(
                sa.text(
                    f"select connection_id, {_SEALED} from ogf.sealed_secrets where tenant_id = :tenant_id"
                    " order by connection_id"
                ),
                {"tenant_id": scope.tenant_id},
            ).all()
        return {row[0]: SealedSecret(*row[1:]) for row in rows}

    def rewrap(self, tenant: str, connection_id: str, old: SealedSecret, new: SealedSecret) -> bool:
        """Replace the wrapped data key; False when the secret was changed since `old` was read."""
        with self._database.tenant(tenant) as scope:
            changed = write(
                scope,
                "sealed_secrets",
                "update ogf.sealed_secrets set key_id = :key_id, wrapped_key = :wrapped_key,"
                " wrapped_key_nonce = :wrapped_key_nonce, rotated_at = clock_timestamp()"
                f" where {_MINE} and wrapped_key = :before and nonce = :nonce",
                {
                    "tenant_id": scope.tenant_id,
                    "connection_id": connection_id,
                    "key_id": new.key_id,
                    "wrapped_key": new.wrapped_key,
                    "wrapped_key_nonce": new.wrapped_key_nonce,
                    "before": old.wrapped_key,
                    "nonce": old.nonce,
                },
            )
            return changed.rowcount == 1

    @staticmethod
    def _put_secret(scope: TenantScope, connection_id: str, sealed: SealedSecret) -> None:
        write(
            scope,
            "sealed_secrets",
            "insert into ogf.sealed_secrets as s (tenant_id, connection_id, key_id, nonce, ciphertext, wrapped_key,"
            " wrapped_key_nonce) values (:tenant_id, :connection_id, :key_id, :nonce, :ciphertext, :wrapped_key,"
            " :wrapped_key_nonce) on conflict (tenant_id, connection_id) do update set key_id = excluded.key_id,"
            " nonce = excluded.nonce, ciphertext = excluded.ciphertext, wrapped_key = excluded.wrapped_key,"
            " wrapped_key_nonce = excluded.wrapped_key_nonce, rotated_at = clock_timestamp()"
            " where s.tenant_id = :tenant_id",
            {
                "tenant_id": scope.tenant_id,
                "connection_id": connection_id,
                **{name: getattr(sealed, name) for name in SealedSecret.__dataclass_fields__},
            },
        )

    @staticmethod
    def _find(scope: TenantScope, connection_id: str) -> ConnectionRow | None:
        row = scope.connection.execute(
            sa.text(f"select {_COLUMNS} from ogf.cloud_connections where {_MINE}"),
            {"tenant_id": scope.tenant_id, "connection_id": connection_id},
        ).one_or_none()
        return ConnectionRow(*row) if row else None

    def _set_status(self, tenant: str, connection_id: str, status: Status) -> None:
        self._change(
            tenant,
            connection_id,
            f"update ogf.cloud_connections set status = :status, updated_at = clock_timestamp() where {_MINE}",
            status=status,
        )

    def _attempted(self, tenant: str, connection_id: str, outcome: str, **values: str) -> None:
        with self._database.tenant(tenant) as scope:
            scope.connection.execute(
                sa.text(
                    "with attempted as (update ogf.cloud_connections set last_attempt_at = clock_timestamp(),"
                    f" {outcome}, status = case status when 'paused' then status else :status end"
                    f" where {_MINE} returning provider)"
                    " insert into ogf.sync_ledger (tenant_id, connection_id, provider, outcome)"
                    " select :tenant_id, :connection_id, provider,"
                    " case :status when 'active' then 'success' else 'failure' end from attempted"
                ),
                {"tenant_id": scope.tenant_id, "connection_id": connection_id, **values},
            )

    def _change(self, tenant: str, connection_id: str, statement: str, **values: str) -> None:
        with self._database.tenant(tenant) as scope:
            changed = scope.connection.execute(
                sa.text(statement), {"tenant_id": scope.tenant_id, "connection_id": connection_id, **values}
            )
            if not changed.rowcount:
                raise _unknown(tenant, connection_id)


def _unknown(tenant: str, connection_id: str) -> UnknownConnectionError:
    return UnknownConnectionError(
        f"Tenant {tenant} has no connection {connection_id!r}: `offgridflow connections list {tenant}` shows its own."
    )
