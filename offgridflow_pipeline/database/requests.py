"""Beginning of a request: from the hash of a credential to a transaction of its tenant and user, in one round trip.

What a credential is, and how its hash is made, is decided in `identity`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from offgridflow_pipeline.database.engine import TenantScope, UserScope, enter
from offgridflow_pipeline.database.prepared import Prepared

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """What an API key proves."""

    tenant_id: UUID
    slug: str
    tenant_name: str
    permissions: list[str]
    data_version: int
    plan: str
    billing_state: str


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """What a session token proves; without a tenant when the person has no membership in the active one."""

    session_id: UUID
    user_id: UUID
    email: str
    display_name: str
    locale: str
    platform_role: str | None
    second_factor: bool
    stepped_up_at: datetime | None
    last_seen_at: datetime
    tenant_id: UUID | None
    slug: str | None
    tenant_name: str | None
    role: str | None
    break_glass: bool
    plan: str
    billing_state: str


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What the tenant of a signed token is now."""

    tenant_name: str
    data_version: int
    plan: str
    billing_state: str


_KEY = ", ".join(KeyRequest.__dataclass_fields__)
_SESSION = ", ".join(SessionRequest.__dataclass_fields__)
_BY_KEY = Prepared(f"select {_KEY} from ogf.begin_request(:key_id, :secret_sha256)")
_BY_SESSION = Prepared(f"select {_SESSION} from ogf.begin_session(:token_hmac, :idle)")

_BY_TOKEN = Prepared(
    "select t.display_name, coalesce(s.data_version, 0), coalesce(s.plan, 'free'),"
    " coalesce(s.billing_state, 'active') from ogf.tenants t"
    " left join ogf.tenant_states s on s.tenant_id = t.tenant_id"
    " where t.tenant_id = :tenant_id and t.status <> 'closed'"
)


class Requests:
    """Transactions that begin with a credential; they commit at the end of the block."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def by_key(self, key_id: str, secret_sha256: bytes) -> Iterator[tuple[KeyRequest, Database] | None]:
        """As the tenant of an API key; None when the key is unknown, revoked or expired."""
        with self._database.application_engine.begin() as connection:
            row = _BY_KEY.row(connection, {"key_id": key_id, "secret_sha256": secret_sha256})
            if row is None:
                yield None
                return
            found = KeyRequest(*row)
            yield found, self._database.within(TenantScope(connection, found.tenant_id, found.slug))

    @contextmanager
    def by_session(self, token_hmac: bytes, idle: timedelta) -> Iterator[tuple[SessionRequest, Database] | None]:
        """As the user and active tenant of a session; None when it has ended or was idle for longer than `idle`."""
        with self._database.application_engine.begin() as connection:
            row = _BY_SESSION.row(connection, {"token_hmac": token_hmac, "idle": idle})
            if row is None:
                yield None
                return
            found = SessionRequest(*row)
            scopes: list[TenantScope | UserScope] = [UserScope(connection, found.user_id)]
            if found.tenant_id is not None and found.slug is not None:
                scopes.append(TenantScope(connection, found.tenant_id, found.slug))
            yield found, self._database.within(*scopes)

    @contextmanager
    def by_token(self, tenant_id: UUID, slug: str) -> Iterator[tuple[TokenRequest, Database] | None]:
        """As the tenant that a signed token names; None when it was closed since."""
        with self._database.application_engine.begin() as connection:
            enter(connection, tenant_id)
            row = _BY_TOKEN.row(connection, {"tenant_id": tenant_id})
            if row is None:
                yield None
                return
            yield TokenRequest(*row), self._database.within(TenantScope(connection, tenant_id, slug))

    @contextmanager
    def by_tenant(self, tenant_id: UUID, slug: str) -> Iterator[Database]:
        """As a tenant that a request has proved before."""
        with self._database.application_engine.begin() as connection:
            enter(connection, tenant_id)
            yield self._database.within(TenantScope(connection, tenant_id, slug))
