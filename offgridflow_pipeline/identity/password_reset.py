"""New passwords: changed by who knows the old one, or reset by mail. Either way every other session ends.

The link works for 30 minutes and once; asking again voids it. Whether an address has an account is never said.

Anybody may ask for anybody's mail: each network has an allowance of its own for an address, and what strangers of
many networks ask for together is bounded in silence, so that it neither tells anything nor keeps anybody out.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from offgridflow_pipeline.database.engine import PLATFORM_SLUG
from offgridflow_pipeline.database.scopes import NOBODY, of_address, of_person, turned_to
from offgridflow_pipeline.identity import passwords, sessions
from offgridflow_pipeline.identity.audit import Action
from offgridflow_pipeline.identity.keyed_hashes import keyed_hash
from offgridflow_pipeline.identity.profiles import address
from offgridflow_pipeline.identity.rate_limits import network_of
from offgridflow_pipeline.identity.refusals import RefusedError, invalid_token, not_found
from offgridflow_pipeline.identity.visits import notify, now_text, require_rate, tell

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.database.people.users import PersonRow
    from offgridflow_pipeline.identity.visits import Means, Visitor

LIFETIME = timedelta(minutes=30)


def require_request_rate(means: Means, visitor: Visitor, email: str) -> str:
    """Count a request for a reset, whether or not somebody has the address; returns its one spelling.

    Counted for the network of the visitor alone: what strangers elsewhere asked for refuses nobody.

    Raises:
        RefusedError: `invalid_address`, `too_many_attempts`.
    """
    known = address(email)
    require_rate(means.rate_limiter, "password_reset.address", visitor.ip)
    require_rate(means.rate_limiter, "password_reset", f"{known} {network_of(visitor.ip)}")
    return known


def request(means: Means, visitor: Visitor, email: str) -> None:
    """Write the mail with the link, when an active person has the address.

    Run it after the answer is sent (a background task): then its time tells nothing.
    """
    with of_address(means.database, email) as (user_id, bound):
        person = bound.users.get(user_id)
        is_mailed = person is not None and _brings_a_mail(means, bound, user_id, visitor)
        reset_id = bound.password_resets.request(user_id, LIFETIME) if is_mailed else None
        outcome = "success" if reset_id else "unknown_address" if person is None else "too_many"
        target = f"user:{user_id}" if user_id != NOBODY else ""
        tell(bound, PLATFORM_SLUG, NOBODY, Action.PASSWORD_RESET_REQUESTED, visitor, target=target, outcome=outcome)
        if person is not None and reset_id is not None:
            notify(bound, person, "password_reset", key=str(reset_id), reset_id=str(reset_id))


def reset(means: Means, visitor: Visitor, token: str, new_password: str) -> None:
    """Set a new password with the token of the mail; the person signs in afterwards, as nobody is signed in here.

    A password that is refused does not use the token up.

    Raises:
        RefusedError: `invalid_token`, `weak_password`, `too_many_attempts`, `busy`.
    """
    require_rate(means.rate_limiter, "token_use.address", visitor.ip)
    token_hash = keyed_hash("password_reset", token, means.pepper)
    found = means.database.password_resets.by_token(token_hash)
    if found is None:
        raise invalid_token()
    user_id, reset_id = found
    with of_person(means.database, user_id) as bound:
        person = bound.users.get(user_id)
        known = context_of(bound, person) if person else []
    if person is None:
        raise invalid_token()
    passwords.require_strong(new_password, known)
    password_hash = passwords.hash_password(new_password)
    with of_person(means.database, user_id) as bound:
        if not bound.password_resets.use(user_id, reset_id, token_hash):
            raise invalid_token()
        store(bound, person, password_hash)
        ended = bound.sessions.revoke_all(user_id)
        tell(
            bound, PLATFORM_SLUG, user_id, Action.PASSWORD_RESET, visitor, target=f"user:{user_id}",
            details={"sessions_ended": ended},
        )  # fmt: skip


def _brings_a_mail(means: Means, bound: Database, user_id: UUID, visitor: Visitor) -> bool:
    """Whether the request is followed by a mail: always from a network that the person signed in from before.

    All other networks share five mails at once, then one every 15 minutes. While that is used up, a link mailed in
    the last 15 minutes works for as long again: strangers keep nobody out, and bring about a hundred mails a day.
    """
    if bound.sessions.knows_network(user_id, visitor.ip_hash.encode()):
        return True
    return means.rate_limiter.refusal("password_reset.elsewhere", str(user_id)) is None


def is_good(means: Means, token: str) -> bool:
    """Whether a reset link still works; uses nothing. For the page that asks for the new password."""
    return means.database.password_resets.by_token(keyed_hash("password_reset", token, means.pepper)) is not None


def change(
    means: Means, bound: Database, tenant: str, user_id: UUID, session_id: UUID, visitor: Visitor,
    *, current: str, new: str,
) -> str:  # fmt: skip
    """Change the password of who is signed in; ends their other sessions and returns this one's new token.

    Raises:
        RefusedError: `invalid_credentials` (the current one is wrong), `weak_password`, `too_many_attempts`, `busy`.
    """
    require_rate(means.rate_limiter, "step_up", str(user_id))
    person, credential = bound.users.get(user_id), bound.credentials.get(user_id)
    if person is None or credential is None:
        raise not_found()
    if not passwords.verify(credential.password_hash, current):
        raise RefusedError("invalid_credentials", "The current password is wrong.", field="current_password")
    passwords.require_strong(new, context_of(bound, person))
    password_hash = passwords.hash_password(new)
    with turned_to(bound, user_id) as platform:
        store(platform, person, password_hash)
    ended = bound.sessions.revoke_all(user_id, but=session_id)
    bound.sessions.step_up(user_id, session_id, second_factor=False)
    tell(
        bound, tenant, user_id, Action.PASSWORD_CHANGED, visitor, target=f"user:{user_id}",
        details={"sessions_ended": ended},
    )  # fmt: skip
    return sessions.rotate(bound, user_id, session_id, means.pepper)


def context_of(bound: Database, person: PersonRow) -> list[str]:
    """What an attacker knows of the person: address, name, organisations."""
    tenants = bound.users.tenants(person.user_id)
    return [person.email, person.display_name, *(t.slug for t in tenants), *(t.display_name for t in tenants)]


def store(bound: Database, person: PersonRow, password_hash: str) -> None:
    """Store the hash, void open links, tell the person; in the scope of the platform."""
    bound.credentials.set_password(person.user_id, password_hash)
    bound.password_resets.void(person.user_id)
    at = now_text()
    notify(bound, person, "password_changed", key=at, at=at)
