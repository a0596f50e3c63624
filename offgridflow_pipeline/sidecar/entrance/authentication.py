"""Authentication: session cookie, API key or exchange token into a `Caller`, in one round trip where possible."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from offgridflow_pipeline.identity import api_keys, sessions
from offgridflow_pipeline.identity.permissions import Permission, permissions_of
from offgridflow_pipeline.sidecar.entrance.caller import Caller
from offgridflow_pipeline.sidecar.entrance.problems import unauthenticated
from offgridflow_pipeline.subscriptions.derivation import GRACE
from offgridflow_pipeline.subscriptions.entitlements import standing

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from datetime import datetime

    from fastapi import Request

    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.sidecar.services import Services


def authenticated(request: Request, services: Services) -> AbstractContextManager[Caller]:
    """A transaction as the caller whom the request's credential proves; commits at the end of the block.

    Entering raises Problem 401 without a valid credential.
    """
    header = request.headers.get("authorization")
    if header is None:
        return _by_session(services, request.cookies.get(services.session_cookie, ""))
    scheme, _, credential = header.partition(" ")
    if scheme.lower() != "bearer":
        raise unauthenticated()
    return _by_key(services, credential) if credential.startswith(api_keys.PREFIX) else _by_token(services, credential)


@contextmanager
def _by_key(services: Services, credential: str) -> Iterator[Caller]:
    key = api_keys.parse(credential)
    if key is None:
        raise unauthenticated()
    with services.database.requests.by_key(key.key_id, key.secret_sha256) as begun:
        if begun is None:
            raise unauthenticated()
        found, bound = begun
        yield Caller(
            kind="api_key",
            principal=f"key:{key.key_id}",
            tenant=found.slug,
            tenant_id=found.tenant_id,
            tenant_name=found.tenant_name,
            permissions=frozenset(map(Permission, found.permissions)),
            database=bound,
            data_version=found.data_version,
            standing=standing(services.settings, found.plan, found.billing_state),
        )
    services.key_uses.note(services.database, found.slug, key.key_id)


@contextmanager
def _by_token(services: Services, credential: str) -> Iterator[Caller]:
    claims = services.token_keys.verify(credential)
    if claims is None:
        raise unauthenticated()
    with services.database.requests.by_token(claims.tenant_id, claims.tenant) as begun:
        if begun is None:
            raise unauthenticated()
        found, bound = begun
        yield Caller(
            kind="token",
            principal=claims.principal,
            tenant=claims.tenant,
            tenant_id=claims.tenant_id,
            tenant_name=found.tenant_name,
            permissions=claims.permissions,
            database=bound,
            data_version=found.data_version,
            standing=standing(services.settings, found.plan, found.billing_state),
        )


@contextmanager
def _by_session(services: Services, cookie: str) -> Iterator[Caller]:
    if not cookie:
        raise unauthenticated()
    token_hmac = sessions.token_hmac(cookie, services.pepper)
    with services.database.requests.by_session(token_hmac, sessions.IDLE) as begun:
        if begun is None:
            raise unauthenticated("Your session has ended: sign in again.")
        found, bound = begun
        sessions.touch(bound, found)
        stands = standing(services.settings, found.plan, found.billing_state)
        yield Caller(
            kind="session",
            principal=f"user:{found.user_id}",
            tenant=found.slug or "",
            tenant_id=found.tenant_id,
            tenant_name=found.tenant_name or "",
            permissions=permissions_of(found.role or ""),
            database=bound,
            user_id=found.user_id,
            session_id=found.session_id,
            role=found.role,
            email=found.email,
            display_name=found.display_name,
            locale=found.locale,
            platform_role=found.platform_role,
            second_factor=found.second_factor,
            stepped_up_at=found.stepped_up_at,
            break_glass=found.break_glass,
            standing=stands,
            restricted_at=_end_of_grace(bound, found.slug) if found.slug and stands.state == "grace" else None,
        )


def _end_of_grace(bound: Database, tenant: str) -> datetime | None:
    """When the grace ends; None when it did since the request began."""
    now = bound.subscriptions.standing(tenant)
    return now.since + GRACE if now.state == "grace" and now.since else None
