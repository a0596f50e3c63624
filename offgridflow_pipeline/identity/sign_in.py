"""Signing in: address, password, second factor. An unknown address costs and answers what a wrong password does.

Two short transactions with the verification between them: 38 ms of argon2id hold no connection. For an address that
nobody has, both run for `NOBODY`: the same statements, which find nothing. There is no lockout: after several failures
an address waits, ever longer but never long, whether or not somebody has it; and who comes from a network that the
person signed in from before does not wait for what strangers failed at.
"""

from __future__ import annotations

import base64
import hmac
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from offgridflow_pipeline.database.engine import PLATFORM_SLUG
from offgridflow_pipeline.database.scopes import NOBODY, of_address, of_person, turned_to
from offgridflow_pipeline.identity import passwords, second_factor, sessions
from offgridflow_pipeline.identity.audit import Action
from offgridflow_pipeline.identity.keyed_hashes import keyed_hash
from offgridflow_pipeline.identity.profiles import address
from offgridflow_pipeline.identity.refusals import RefusedError, invalid_credentials
from offgridflow_pipeline.identity.visits import notify, now_text, require_rate, tell
from offgridflow_pipeline.telemetry import counters

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.database.people.credentials import CredentialRow
    from offgridflow_pipeline.database.people.users import MyTenant
    from offgridflow_pipeline.identity.visits import Means, Visitor

#: Failures without consequence; from then on an address waits, twice as long each time.
FREE_FAILURES = 4
LONGEST_DELAY_SECONDS = 60.0
#: Every so many failures their person gets a notice, once a day at most.
NOTICE_AFTER_FAILURES = 5
CHALLENGE_SECONDS = 300


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session that has begun: its token for the cookie, and where its person works."""

    token: str = field(repr=False)
    user_id: UUID
    tenant: MyTenant | None
    second_factor: bool


class SecondFactorNeededError(RefusedError):
    """The password fits; the second factor is missing. `challenge` stands for the password in the next step."""

    def __init__(self, challenge: str) -> None:
        super().__init__("second_factor_required", "Enter the code of your authenticator.", field="code")
        self.challenge = challenge


def sign_in(means: Means, visitor: Visitor, email: str, password: str, code: str = "") -> SignedIn:
    """Start a session for who has this address, password and, where they have set one up, second factor.

    Raises:
        SecondFactorNeededError: the password fits, and no code came.
        RefusedError: `invalid_credentials`, `invalid_code`, `too_many_attempts`, `busy`.
    """
    known = _address_or_none(email)
    address_hmac = keyed_hash("sign_in_address", known or email, means.pepper)
    _require_rates(means, visitor)
    with of_address(means.database, known or "") as (user_id, bound):
        is_familiar = bound.sessions.knows_network(user_id, visitor.ip_hash.encode())
        if not is_familiar:
            _require_patience(bound, user_id, address_hmac)
        credential = bound.credentials.get(user_id)
    _require_account_rate(means, visitor, address_hmac, is_familiar=is_familiar)
    if not passwords.verify(credential.password_hash if credential else None, password) or credential is None:
        _note_failure(means, visitor, user_id, address_hmac)
        counters.auth_attempted("failure")
        raise invalid_credentials()
    if credential.totp_secret is not None and not code:
        counters.auth_attempted("second_factor_required")
        raise SecondFactorNeededError(_challenge(user_id, credential, means.pepper))
    _rehash(means, user_id, credential, password)
    return _enter(means, visitor, user_id, credential, code, address_hmac)


def answer_challenge(means: Means, visitor: Visitor, challenge: str, code: str) -> SignedIn:
    """The second step of signing in, for pages: the challenge of the first step, and the code.

    Raises:
        RefusedError: `invalid_token`, the challenge is older than five minutes or the password was changed;
            else as for `sign_in`.
    """
    require_rate(means.rate_limiter, "sign_in.address", visitor.ip)
    user_id = _challenged(challenge, means.pepper)
    with of_person(means.database, user_id) as bound:
        credential = bound.credentials.get(user_id)
        person = bound.users.get(user_id)
    fits = credential is not None and hmac.compare_digest(
        challenge, _challenge(user_id, credential, means.pepper, int(challenge.split(".")[1]))
    )
    if not fits or credential is None or person is None:
        raise _stale_challenge()
    return _enter(means, visitor, user_id, credential, code, keyed_hash("sign_in_address", person.email, means.pepper))


def step_up(
    means: Means, bound: Database, tenant: str, user_id: UUID, session_id: UUID, visitor: Visitor,
    *, password: str = "", code: str = "",
) -> str:  # fmt: skip
    """Prove again who one is, with password or code; returns the session's new token.

    Raises:
        RefusedError: `invalid_credentials`, `invalid_code`, `too_many_attempts`, `busy`. The attempt is told in the
            audit log by `note_failed_step_up`, in a transaction of its own.
    """
    require_rate(means.rate_limiter, "second_factor" if code else "step_up", str(user_id))
    credential = bound.credentials.get(user_id)
    if credential is None:
        raise invalid_credentials()
    if code:
        if second_factor.proof(means, bound, user_id, credential, code) is None:
            raise second_factor.invalid_code()
    elif not passwords.verify(credential.password_hash, password):
        raise RefusedError("invalid_credentials", "The password is wrong.", field="password")
    bound.sessions.step_up(user_id, session_id, second_factor=bool(code))
    tell(bound, tenant, user_id, Action.STEP_UP, visitor, target=f"session:{session_id}")
    return sessions.rotate(bound, user_id, session_id, means.pepper)


def note_failed_step_up(means: Means, user_id: UUID, visitor: Visitor, outcome: str) -> None:
    """Tell the platform's audit log of a step-up that failed: the transaction it failed in was rolled back."""
    with of_person(means.database, user_id) as bound:
        tell(bound, "", user_id, Action.STEP_UP, visitor, target=f"user:{user_id}", outcome=outcome)


def _require_rates(means: Means, visitor: Visitor) -> None:
    # The limit of all comes last: what one network is refused must not use up everybody's attempts.
    _require_rate(means, "sign_in.address", visitor.ip)
    _require_rate(means, "sign_in.all", "")


def _require_account_rate(means: Means, visitor: Visitor, address_hmac: bytes, *, is_familiar: bool) -> None:
    """Count on the account; a familiar network has a count of its own, so that strangers lock nobody out."""
    network = f" {visitor.ip_hash}" if is_familiar else ""
    _require_rate(means, "sign_in.account", address_hmac.hex() + network)


def _require_rate(means: Means, policy: str, key: str) -> None:
    try:
        require_rate(means.rate_limiter, policy, key)
    except RefusedError:
        counters.auth_attempted("throttled")
        raise


def _require_patience(bound: Database, user_id: UUID, address_hmac: bytes) -> None:
    failures = bound.sign_in_failures.of(user_id, address_hmac)
    wait = delay_seconds(failures.count) - failures.seconds_since
    if wait > 0:
        counters.auth_attempted("throttled")
        raise RefusedError(
            "too_many_attempts",
            "Several attempts failed: wait a little and try again.",
            retry_after_seconds=wait,
        )


def delay_seconds(failures: int) -> float:
    """How long an address waits after so many failures: nothing, then 2, 4, 8 seconds and so on, to a minute."""
    if failures <= FREE_FAILURES:
        return 0.0
    return min(2.0 ** min(failures - FREE_FAILURES, 10), LONGEST_DELAY_SECONDS)


def _note_failure(means: Means, visitor: Visitor, user_id: UUID, address_hmac: bytes, outcome: str = "failure") -> None:
    with of_person(means.database, user_id) as bound:
        failures = bound.sign_in_failures.add(user_id, address_hmac)
        target = f"user:{user_id}" if user_id != NOBODY else ""
        tell(bound, PLATFORM_SLUG, user_id, Action.SIGN_IN, visitor, target=target, outcome=outcome)
        if failures % NOTICE_AFTER_FAILURES == 0 and (person := bound.users.get(user_id)) is not None:
            at = now_text()
            notify(bound, person, "login_notice", key=f"failures:{at[:10]}", at=at, reason="failures")


def _enter(
    means: Means, visitor: Visitor, user_id: UUID, credential: CredentialRow, code: str, address_hmac: bytes
) -> SignedIn:
    """The second transaction: take the code, start the session, tell the log."""
    with_code = credential.totp_secret is not None
    if with_code:
        require_rate(means.rate_limiter, "second_factor", str(user_id))
    with of_person(means.database, user_id) as bound:
        proof = second_factor.proof(means, bound, user_id, credential, code) if with_code else None
        proved = not with_code or proof is not None
        signed_in = _start(bound, visitor, user_id, credential, proof, address_hmac) if proved else None
    if with_code:
        counters.auth_attempted("second_factor_success" if proved else "second_factor_failure")
    if signed_in is None:
        _note_failure(means, visitor, user_id, address_hmac, "second_factor_failure")
        raise second_factor.invalid_code()
    counters.auth_attempted("success")
    return signed_in


def _start(
    bound: Database,
    visitor: Visitor,
    user_id: UUID,
    credential: CredentialRow,
    proof: second_factor.Proof | None,
    address_hmac: bytes,
) -> SignedIn:
    # Locked: a password that changes meanwhile waits, and then ends this session too.
    person, present = bound.users.get(user_id), bound.credentials.get(user_id, locked=True)
    if person is None or person.status != "active" or present is None or _version(present) != _version(credential):
        raise invalid_credentials()
    bound.sign_in_failures.clear(user_id, address_hmac)
    if not bound.sessions.knows_device(user_id, user_agent=visitor.browser, ip_hash=visitor.ip_hash.encode()):
        at = now_text()
        notify(bound, person, "login_notice", key=f"device:{visitor.request_id or at}", at=at)
    bound.sessions.forget_old(user_id)
    last = bound.sessions.last_tenant(user_id)
    tenants = [tenant for tenant in bound.users.tenants(user_id) if not tenant.break_glass]
    active = next((tenant for tenant in tenants if tenant.tenant_id == last), tenants[0] if tenants else None)
    token = sessions.start(
        bound,
        user_id,
        visitor,
        active_tenant=active.tenant_id if active else None,
        second_factor=proof is not None,
    )
    target, details = f"user:{user_id}", {"second_factor": proof or "none"}
    if active is None:
        tell(bound, PLATFORM_SLUG, user_id, Action.SIGN_IN, visitor, target=target, details=details)
    else:
        with turned_to(bound, user_id, active.tenant_id, active.slug) as there:
            tell(there, active.slug, user_id, Action.SIGN_IN, visitor, target=target, details=details)
    return SignedIn(token, user_id, active, proof is not None)


def _rehash(means: Means, user_id: UUID, credential: CredentialRow, password: str) -> None:
    """Bring a hash of older parameters up to date, now that the password is there."""
    if passwords.is_outdated(credential.password_hash):
        new = passwords.hash_password(password)
        means.database.credentials.rehash(user_id, credential.password_hash, new)


def _version(credential: CredentialRow) -> tuple[object, object]:
    """What ends a sign-in that is under way: a new password, another second factor; not a new hash of the same."""
    return credential.password_changed_at, credential.totp_confirmed_at


def _challenge(user_id: UUID, credential: CredentialRow, pepper: bytes, until: int | None = None) -> str:
    ends = until if until is not None else int(time.time()) + CHALLENGE_SECONDS
    changed = credential.password_changed_at.isoformat()
    mac = keyed_hash("challenge", f"{user_id}:{ends}:{changed}", pepper)
    return f"{user_id.hex}.{ends}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def _challenged(challenge: str, pepper: bytes) -> UUID:
    """Whose challenge it says to be, when it has not ended; its HMAC is checked against the credential."""
    try:
        user, ends, _ = challenge.split(".")
        user_id, until = UUID(hex=user), int(ends)
    except ValueError:
        raise _stale_challenge() from None
    if until < time.time() or not challenge.isascii():
        raise _stale_challenge()
    return user_id


def _stale_challenge() -> RefusedError:
    return RefusedError("invalid_token", "This took too long: sign in again.")


def _address_or_none(email: str) -> str | None:
    try:
        return address(email)
    except RefusedError:
        return None
