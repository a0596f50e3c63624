"""Answers of creating requests, kept for the same request sent again. What is kept is decided in `sidecar`.

Every statement names the tenant and runs in the tenant transaction of the creation; row level security is the backstop.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from offgridflow_pipeline.database.statements import write

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database, TenantScope

KEPT_FOR = timedelta(hours=24)
#: Answers removed with each new one: more than come in, so that the table does not grow.
REMOVED_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class RequestKey:
    """What a client calls one creation."""

    principal: str
    route: str
    key: str


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer; `fingerprint` is the SHA-256 of the request, `body` is sealed."""

    fingerprint: bytes
    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


_MINE = "tenant_id = :tenant_id and principal = :principal and route = :route and key = :key"


class IdempotencyKeys:
    """Keys of creating requests, each with its answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, tenant: str, key: RequestKey) -> bool:
        """Hold off the same request until this transaction ends; False when another transaction does so already."""
        with self._database.tenant(tenant) as scope:
            text = json.dumps(["idempotency", str(scope.tenant_id), key.principal, key.route, key.key])
            return bool(
                scope.connection.scalar(
                    sa.text("select pg_try_advisory_xact_lock(hashtextextended(:text, 0))"), {"text": text}
                )
            )

    def find(self, tenant: str, key: RequestKey) -> KeptAnswer | None:
        """The answer that was kept within the last 24 hours. A statement after `claim`, to see what it waited for."""
        with self._database.tenant(tenant) as scope:
            row = scope.connection.execute(
                sa.text(
                    f"select fingerprint, status, headers, body from ogf.idempotency_keys where {_MINE}"
                    " and created_at > clock_timestamp() - :kept_for"
                ),
                {**_values(scope, key), "kept_for": KEPT_FOR},
            ).one_or_none()
        return KeptAnswer(bytes(row[0]), row[1], row[2], bytes(row[3])) if row else None

    def keep(self, tenant: str, key: RequestKey, answer: KeptAnswer) -> None:
        """Keep the answer; removes some of the tenant's that are too old.

        Raises:
            RecordError: the key has an answer already, or a value has the wrong form.
        """
        with self._database.tenant(tenant) as scope:
            scope.connection.execute(
                sa.text(
                    f"delete from ogf.idempotency_keys where {_MINE} and created_at <= clock_timestamp() - :kept_for"
                ),
                {**_values(scope, key), "kept_for": KEPT_FOR},
            )
            self._remove_old(scope)
            write(
                scope,
                "idempotency_keys",
                "insert into ogf.idempotency_keys"
                " (tenant_id, principal, route, key, fingerprint, status, headers, body) values"
                " (:tenant_id, :principal, :route, :key, :fingerprint, :status, cast(:headers as jsonb), :body)",
                {
                    **_values(scope, key),
                    "fingerprint": answer.fingerprint,
                    "status": answer.status,
                    "headers": json.dumps(dict(answer.headers)),
                    "body": answer.body,
                },
            )

    @staticmethod
    def _remove_old(scope: TenantScope) -> None:
        scope.connection.execute(
            sa.text(
                "delete from ogf.idempotency_keys where tenant_id = :tenant_id and (principal, route, key) in"
                " (select principal, route, key from ogf.idempotency_keys where tenant_id = :tenant_id"
                " and created_at <= clock_timestamp() - :kept_for order by created_at limit :at_once"
                " for update skip locked)"
            ),
            {"tenant_id": scope.tenant_id, "kept_for": KEPT_FOR, "at_once": REMOVED_AT_ONCE},
        )


def _values(scope: TenantScope, key: RequestKey) -> dict[str, object]:
    return {"tenant_id": scope.tenant_id, "principal": key.principal, "route": key.route, "key": key.key}
