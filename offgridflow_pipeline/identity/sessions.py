"""Browser sessions: started at sign-in, rotated when rights change, ended by the person, a new password or time.

The token is 256 random bits in a cookie; the database keeps its HMAC. Every function that takes a bound `database`
works in the transaction of the session's person.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from offgridflow_pipeline.database.scopes import turned_to
from offgridflow_pipeline.identity.audit import Action
from offgridflow_pipeline.identity.keyed_hashes import keyed_hash, new_token
from offgridflow_pipeline.identity.refusals import RefusedError, not_found
from offgridflow_pipeline.identity.visits import tell

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.database.people.sessions import SessionRow
    from offgridflow_pipeline.database.people.users import MyTenant
    from offgridflow_pipeline.database.requests import SessionRequest
    from offgridflow_pipeline.identity.visits import Visitor

IDLE = timedelta(hours=12)
LIFETIME = timedelta(days=7)
_TOUCHED_AFTER = timedelta(minutes=1)


def token_hmac(token: str, pepper: bytes) -> bytes:
    """What the database knows a token by."""
    return keyed_hash("session", token, pepper)


def start(
    database: Database, user_id: UUID, visitor: Visitor, *, active_tenant: UUID | None, second_factor: bool
) -> str:
    """Start a session of the person; returns its token, which is always a new one (no fixation)."""
    token = new_token()
    database.sessions.add(
        user_id,
        token_hmac(token, visitor.pepper),
        lifetime=LIFETIME,
        active_tenant=active_tenant,
        second_factor=second_factor,
        user_agent=visitor.browser,
        ip_hash=visitor.ip_hash.encode(),
    )
    return token


def touch(database: Database, found: SessionRequest) -> None:
    """Note that the session is used, at most once a minute."""
    if datetime.now(UTC) - found.last_seen_at > _TOUCHED_AFTER:
        database.sessions.touch(found.user_id, found.session_id)


def rotate(database: Database, user_id: UUID, session_id: UUID, pepper: bytes) -> str:
    """Give the session another token, as its rights change; the old one opens nothing any more.

    Raises:
        RefusedError: `not_found`, the session has ended meanwhile.
    """
    token = new_token()
    if not database.sessions.rotate(user_id, session_id, token_hmac(token, pepper)):
        raise not_found()
    return token


def live(database: Database, user_id: UUID) -> list[SessionRow]:
    """Live sessions of the person, the one used last first."""
    return database.sessions.list(user_id, IDLE)


def revoke(database: Database, tenant: str, user_id: UUID, session_id: UUID, visitor: Visitor) -> None:
    """End one session of the person.

    Raises:
        RefusedError: `not_found`, they have no such session.
    """
    if not database.sessions.revoke(user_id, session_id):
        raise not_found()
    tell(database, tenant, user_id, Action.SESSION_REVOKED, visitor, target=f"session:{session_id}")


def revoke_others(database: Database, tenant: str, user_id: UUID, session_id: UUID, visitor: Visitor) -> int:
    """End every session of the person but this one; returns how many."""
    ended = database.sessions.revoke_all(user_id, but=session_id)
    tell(database, tenant, user_id, Action.SESSION_REVOKED, visitor, details={"sessions": ended})
    return ended


def sign_out(database: Database, tenant: str, user_id: UUID, session_id: UUID, visitor: Visitor) -> None:
    """End the session that the request came with."""
    database.sessions.revoke(user_id, session_id)
    tell(database, tenant, user_id, Action.SIGN_OUT, visitor, target=f"session:{session_id}")


def discard(database: Database, token: str, pepper: bytes) -> None:
    """End the session of a token that somebody replaces by signing in again; nothing when it is none."""
    with database.requests.by_session(token_hmac(token, pepper), IDLE) as begun:
        if begun is not None:
            found, bound = begun
            bound.sessions.revoke(found.user_id, found.session_id)


def switch_tenant(
    database: Database, user_id: UUID, session_id: UUID, slug: str, visitor: Visitor
) -> tuple[str, MyTenant]:
    """Let the session work in another of the person's tenants; returns its new token and the tenant.

    Told in the log of the tenant that is entered: its own people see who of the platform's staff came in.

    Raises:
        RefusedError: `not_found`, the person may not work there.
    """
    wanted = next((tenant for tenant in database.users.tenants(user_id) if tenant.slug == slug), None)
    if wanted is None:
        raise not_found()
    database.sessions.set_active_tenant(user_id, session_id, wanted.tenant_id)
    token = rotate(database, user_id, session_id, visitor.pepper)
    with turned_to(database, user_id, wanted.tenant_id, wanted.slug) as there:
        action = Action.BREAK_GLASS_USED if wanted.break_glass else Action.TENANT_SWITCHED
        tell(there, wanted.slug, user_id, action, visitor, target=f"session:{session_id}")
    return token, wanted


def require_step_up(stepped_up: bool) -> None:
    """Pass when the person proved their identity within the last minutes.

    Raises:
        RefusedError: `step_up_required`.
    """
    if not stepped_up:
        raise RefusedError("step_up_required", "Confirm your password again: this needs a fresh proof.")
