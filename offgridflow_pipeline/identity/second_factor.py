"""Second factor: time-based codes (TOTP, RFC 6238: SHA-1, six digits, 30 s) and recovery codes.

The secret is sealed in its row; the last step taken is stored, so a code works once. A new secret is offered first and
comes into force with its first code: an abandoned set-up locks nobody out.
"""

from __future__ import annotations

import hmac
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from uuid import UUID

import pyotp
from pydantic import SecretStr

from offgridflow_pipeline.database.scopes import turned_to
from offgridflow_pipeline.identity import envelope, passwords
from offgridflow_pipeline.identity.audit import Action
from offgridflow_pipeline.identity.envelope import KeyRing
from offgridflow_pipeline.identity.keyed_hashes import keyed_hash
from offgridflow_pipeline.identity.refusals import RefusedError, not_found
from offgridflow_pipeline.identity.visits import notify, now_text, require_rate, tell

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.database.people.credentials import CredentialRow
    from offgridflow_pipeline.database.people.users import PersonRow
    from offgridflow_pipeline.database.pipeline.connections import SealedSecret
    from offgridflow_pipeline.identity.visits import Means, Visitor

#: How a person showed that they have the second factor.
Proof = Literal["authenticator", "recovery_code"]
ISSUER = "OffGridFlow"
STEP_SECONDS = 30
#: Clocks of telephones may be one step off.
TOLERATED_STEPS = 1
RECOVERY_CODES = 8
_RECOVERY_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_RECOVERY_LENGTH = 10


@dataclass(frozen=True, slots=True)
class Offer:
    """A secret to be put into an authenticator: as text, and as the address that QR codes hold."""

    secret: str = field(repr=False)
    uri: str = field(repr=False)


def offer(means: Means, bound: Database, user_id: UUID) -> Offer:
    """A new secret for the person, which waits for its first code. The caller has asked for a fresh proof.

    Raises:
        RefusedError: `not_found`, the person has no password yet.
    """
    person, _ = _known(bound, user_id)
    secret = pyotp.random_base32()
    sealed = envelope.seal(KeyRing.of(means.settings), _place(user_id), SecretStr(secret))
    bound.credentials.offer_second_factor(user_id, sealed)
    return Offer(secret, pyotp.TOTP(secret).provisioning_uri(name=person.email, issuer_name=ISSUER))


def confirm(
    means: Means, bound: Database, tenant: str, user_id: UUID, session_id: UUID, code: str, visitor: Visitor
) -> list[str]:
    """Put the offered secret into force with its first code; returns the recovery codes, which are shown once.

    The session counts as proved by both factors, the others end.

    Raises:
        RefusedError: `not_enrolled`, `invalid_code`, or `too_many_attempts`.
    """
    require_rate(means.rate_limiter, "second_factor", str(user_id))
    person, credential = _known(bound, user_id)
    if credential.totp_pending is None:
        raise RefusedError("not_enrolled", "Begin the set-up again: there is no secret that waits for a code.")
    secret = envelope.unseal(KeyRing.of(means.settings), _place(user_id), credential.totp_pending)
    step = _step_of(secret, code)
    if step is None or not bound.credentials.confirm_second_factor(user_id, credential.totp_pending, step):
        raise invalid_code()
    codes = _new_recovery_codes()
    bound.credentials.replace_recovery_codes(user_id, [_hash(user_id, each, means.pepper) for each in codes])
    bound.sessions.step_up(user_id, session_id, second_factor=True)
    bound.sessions.revoke_all(user_id, but=session_id)
    tell(bound, tenant, user_id, Action.SECOND_FACTOR_ENROLLED, visitor, target=f"user:{user_id}")
    notify_change(bound, person, "enrolled")
    return codes


def renew_recovery_codes(
    means: Means, bound: Database, tenant: str, user_id: UUID, session_id: UUID, visitor: Visitor,
    *, password: str, code: str,
) -> list[str]:  # fmt: skip
    """New recovery codes in place of the older ones, for who shows password and authenticator now; shown once.

    A recovery code is no proof here: whoever found one would turn it into eight. The session counts as proved by both
    factors, the others end.

    Raises:
        RefusedError: `not_enrolled`, `invalid_credentials`, `invalid_code`, `too_many_attempts`, `busy`.
    """
    person, credential = _known(bound, user_id)
    if credential.totp_secret is None:
        raise RefusedError("not_enrolled", "Set up a second factor first.")
    require_rate(means.rate_limiter, "step_up", str(user_id))
    if not passwords.verify(credential.password_hash, password):
        raise RefusedError("invalid_credentials", "The password is wrong.", field="password")
    require_rate(means.rate_limiter, "second_factor", str(user_id))
    if not _takes_step(means, bound, user_id, credential.totp_secret, code):
        raise invalid_code()
    codes = _new_recovery_codes()
    bound.credentials.replace_recovery_codes(user_id, [_hash(user_id, each, means.pepper) for each in codes])
    bound.sessions.step_up(user_id, session_id, second_factor=True)
    ended = bound.sessions.revoke_all(user_id, but=session_id)
    tell(
        bound, tenant, user_id, Action.RECOVERY_CODES_RENEWED, visitor, target=f"user:{user_id}",
        details={"recovery_codes": len(codes), "sessions_ended": ended},
    )  # fmt: skip
    notify_change(bound, person, "recovery_codes_renewed")
    return codes


def proof(means: Means, bound: Database, user_id: UUID, credential: CredentialRow, code: str) -> Proof | None:
    """What the code is: one of the person's authenticator or recovery codes, not taken before. Takes it."""
    if credential.totp_secret is None:
        return None
    if _takes_step(means, bound, user_id, credential.totp_secret, code):
        return "authenticator"
    if not bound.credentials.use_recovery_code(user_id, _hash(user_id, code, means.pepper)):
        return None
    person, _ = _known(bound, user_id)
    notify_change(bound, person, "recovery_code_used")
    return "recovery_code"


def rotate_keys(database: Database, ring: KeyRing, user_ids: list[UUID]) -> int:
    """Wrap the data keys of second factors by the current key of the ring; returns how many.

    Raises:
        EnvelopeError: a row does not open; names the person. Those before it stay rotated.
    """
    done = 0
    for user_id in user_ids:
        credential = database.credentials.get(user_id)
        sealed = credential.totp_secret if credential else None
        if sealed is not None and sealed.key_id != ring.current:
            try:
                new = envelope.rewrapped(ring, _place(user_id), sealed)
            except envelope.EnvelopeError as error:
                raise envelope.EnvelopeError(f"Second factor of user {user_id}: {error}.") from None
            done += database.credentials.rewrap(user_id, sealed, new)
    return done


def invalid_code() -> RefusedError:
    """The same for a wrong, an old and a used code."""
    return RefusedError("invalid_code", "The code is wrong or was used: wait for the next one.", field="code")


def notify_change(bound: Database, person: PersonRow, change: str) -> None:
    """Write to the person about their second factor: enrolled, removed, recovery_code_used, recovery_codes_renewed."""
    with turned_to(bound, person.user_id) as platform:
        at = now_text()
        notify(platform, person, "second_factor_changed", key=f"{change}:{secrets.token_hex(8)}", at=at, change=change)


def _known(bound: Database, user_id: UUID) -> tuple[PersonRow, CredentialRow]:
    person, credential = bound.users.get(user_id), bound.credentials.get(user_id)
    if person is None or credential is None:
        raise not_found()
    return person, credential


def _takes_step(means: Means, bound: Database, user_id: UUID, sealed: SealedSecret, code: str) -> bool:
    """Whether the code is one of the authenticator, not taken before. Takes it."""
    secret = envelope.unseal(KeyRing.of(means.settings), _place(user_id), sealed)
    step = _step_of(secret, code)
    return step is not None and bound.credentials.use_step(user_id, step)


def _step_of(secret: SecretStr, code: str) -> int | None:
    """The time step whose code this is, within the tolerance; None when it is of none."""
    digits = code.replace(" ", "")
    totp = pyotp.TOTP(secret.get_secret_value())
    present = int(time.time()) // STEP_SECONDS
    found = None
    for step in range(present - TOLERATED_STEPS, present + TOLERATED_STEPS + 1):
        if hmac.compare_digest(totp.generate_otp(step).encode(), digits.encode("utf-8", "surrogatepass")):
            found = step
    return found


def _new_recovery_codes() -> list[str]:
    """Codes of two groups of five; about 49 bits each."""
    half = _RECOVERY_LENGTH // 2
    raw = ["".join(secrets.choice(_RECOVERY_ALPHABET) for _ in range(_RECOVERY_LENGTH)) for _ in range(RECOVERY_CODES)]
    return [f"{code[:half]}-{code[half:]}" for code in raw]


def _hash(user_id: UUID, code: str, pepper: bytes) -> bytes:
    plain = "".join(c for c in code.lower() if c.isalnum())
    return keyed_hash("recovery_code", f"{user_id}:{plain}", pepper)


def _place(user_id: UUID) -> tuple[str, ...]:
    return ("second factor", str(user_id))
