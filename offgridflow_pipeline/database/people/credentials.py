"""Credentials of people: password hash, second factor, recovery codes; and failed sign-ins by address.

Each method runs in the transaction of its user; row level security stands behind. What a hash or code is, is decided
in `identity`: nothing here can check one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa

from offgridflow_pipeline.database.pipeline.connections import SealedSecret

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database


@dataclass(frozen=True, slots=True)
class CredentialRow:
    """How a person proves who they are. `totp_pending` waits for its first code, `totp_secret` is in force."""

    password_hash: str = field(repr=False)
    password_changed_at: datetime
    totp_pending: SealedSecret | None
    totp_secret: SealedSecret | None
    totp_confirmed_at: datetime | None


@dataclass(frozen=True, slots=True)
class SecondFactor:
    """Whether a second factor is in force, and the recovery codes that were not taken yet."""

    is_enrolled: bool
    recovery_codes_left: int


@dataclass(frozen=True, slots=True)
class Failures:
    """Failed sign-ins since the last success, and the seconds since the last of them."""

    count: int
    seconds_since: float


_MINE = "user_id = :user_id"
#: After this time a failed sign-in is forgotten.
_FORGOTTEN = "interval '24 hours'"
_SWEPT_AT_ONCE = 10


class Credentials:
    """Passwords and second factors."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, user_id: UUID, *, locked: bool = False) -> CredentialRow | None:
        """The person's credential; None when they have none yet. `locked`: it stays so until the transaction ends."""
        with self._database.user(user_id) as scope:
            row = scope.connection.execute(
                sa.text(
                    "select password_hash, password_changed_at, totp_pending, totp_secret, totp_confirmed_at"
                    f" from ogf.credentials where {_MINE}" + (" for share" if locked else "")
                ),
                {"user_id": user_id},
            ).one_or_none()
        if row is None:
            return None
        return CredentialRow(row[0], row[1], _opened(row[2]), _opened(row[3]), row[4])

    def set_password(self, user_id: UUID, password_hash: str) -> None:
        """Give the person a password, in place of an older one."""
        self._execute(
            user_id,
            "insert into ogf.credentials as c (user_id, password_hash) values (:user_id, :password_hash)"
            " on conflict (user_id) do update set password_hash = excluded.password_hash,"
            f" password_changed_at = clock_timestamp() where c.{_MINE}",
            password_hash=password_hash,
        )

    def rehash(self, user_id: UUID, old: str, new: str) -> bool:
        """Store the same password under other parameters; False when it was changed meanwhile."""
        return self._changed(
            user_id,
            f"update ogf.credentials set password_hash = :new where {_MINE} and password_hash = :old",
            old=old,
            new=new,
        )

    def offer_second_factor(self, user_id: UUID, sealed: SealedSecret) -> None:
        """Keep a secret until its first code comes; one that is in force stays in force."""
        self._execute(
            user_id,
            f"update ogf.credentials set totp_pending = cast(:sealed as jsonb) where {_MINE}",
            sealed=_closed(sealed),
        )

    def confirm_second_factor(self, user_id: UUID, sealed: SealedSecret, step: int) -> bool:
        """Put the offered secret into force; False when another was offered meanwhile."""
        return self._changed(
            user_id,
            "update ogf.credentials set totp_secret = totp_pending, totp_pending = null,"
            " totp_confirmed_at = clock_timestamp(), totp_last_step = :step"
            f" where {_MINE} and totp_pending = cast(:sealed as jsonb)",
            sealed=_closed(sealed),
            step=step,
        )

    def remove_second_factor(self, user_id: UUID) -> bool:
        """Forget the second factor and its recovery codes; False when there was none."""
        self._execute(user_id, f"delete from ogf.recovery_codes where {_MINE}")
        return self._changed(
            user_id,
            "update ogf.credentials set totp_secret = null, totp_confirmed_at = null, totp_last_step = null,"
            f" totp_pending = null where {_MINE} and totp_secret is not null",
        )

    def use_step(self, user_id: UUID, step: int) -> bool:
        """Take the time step of a code; False when it, or a later one, was taken before."""
        return self._changed(
            user_id,
            f"update ogf.credentials set totp_last_step = :step where {_MINE}"
            " and totp_confirmed_at is not null and coalesce(totp_last_step, -1) < :step",
            step=step,
        )

    def rewrap(self, user_id: UUID, old: SealedSecret, new: SealedSecret) -> bool:
        """Replace the wrapped data key of the second factor; False when it was changed meanwhile."""
        return self._changed(
            user_id,
            "update ogf.credentials set totp_secret = cast(:new as jsonb)"
            f" where {_MINE} and totp_secret = cast(:old as jsonb)",
            old=_closed(old),
            new=_closed(new),
        )

    def replace_recovery_codes(self, user_id: UUID, hashes: Sequence[bytes]) -> None:
        """Give the person new recovery codes; the older ones are void."""
        self._execute(user_id, f"delete from ogf.recovery_codes where {_MINE}")
        self._execute(
            user_id,
            "insert into ogf.recovery_codes (user_id, code_hash) select :user_id, unnest(cast(:hashes as bytea[]))",
            hashes=list(hashes),
        )

    def use_recovery_code(self, user_id: UUID, code_hash: bytes) -> bool:
        """Take a recovery code; False when it is none of the person's, or was taken before."""
        return self._changed(
            user_id,
            f"update ogf.recovery_codes set used_at = clock_timestamp() where {_MINE}"
            " and code_hash = :code_hash and used_at is null",
            code_hash=code_hash,
        )

    def second_factor(self, user_id: UUID) -> SecondFactor:
        """Whether the person has a second factor in force, and what is left of its recovery codes."""
        with self._database.user(user_id) as scope:
            row = scope.connection.execute(
                sa.text(
                    f"select exists (select from ogf.credentials where {_MINE} and totp_secret is not null),"
                    f" (select count(*) from ogf.recovery_codes where {_MINE} and used_at is null)"
                ),
                {"user_id": user_id},
            ).one()
        return SecondFactor(*row)

    def _execute(self, user_id: UUID, statement: str, **values: Any) -> sa.CursorResult[Any]:
        with self._database.user(user_id) as scope:
            return scope.connection.execute(sa.text(statement), {"user_id": user_id, **values})

    def _changed(self, user_id: UUID, statement: str, **values: Any) -> bool:
        return self._execute(user_id, statement, **values).rowcount == 1


class SignInFailures:
    """Failed sign-ins of an address, whether or not somebody has it; in the transaction of a person or `NOBODY`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, user_id: UUID, address_hmac: bytes) -> Failures:
        """Failures of the address in the last day."""
        with self._database.user(user_id) as scope:
            row = scope.connection.execute(
                sa.text(
                    "select failures, extract(epoch from clock_timestamp() - failed_at) from ogf.sign_in_failures"
                    f" where address_hmac = :address_hmac and failed_at > clock_timestamp() - {_FORGOTTEN}"
                ),
                {"address_hmac": address_hmac},
            ).one_or_none()
        return Failures(row[0], float(row[1])) if row else Failures(0, 0.0)

    def add(self, user_id: UUID, address_hmac: bytes) -> int:
        """Count a failure; returns how many there are now. A few forgotten rows go with it."""
        with self._database.user(user_id) as scope:
            count: int = scope.connection.scalar(
                sa.text(
                    "with old as (delete from ogf.sign_in_failures where address_hmac in (select address_hmac"
                    f" from ogf.sign_in_failures where failed_at < clock_timestamp() - {_FORGOTTEN}"
                    f" and address_hmac <> :address_hmac limit {_SWEPT_AT_ONCE} for update skip locked))"
                    " insert into ogf.sign_in_failures as f (address_hmac, failures) values (:address_hmac, 1)"
                    " on conflict (address_hmac) do update set failed_at = clock_timestamp(),"
                    f" failures = case when f.failed_at < clock_timestamp() - {_FORGOTTEN} then 1"
                    " else f.failures + 1 end returning failures"
                ),
                {"address_hmac": address_hmac},
            )
        return count

    def clear(self, user_id: UUID, address_hmac: bytes) -> None:
        """Forget the failures of the address: its person signed in."""
        with self._database.user(user_id) as scope:
            scope.connection.execute(
                sa.text("delete from ogf.sign_in_failures where address_hmac = :address_hmac"),
                {"address_hmac": address_hmac},
            )


def _closed(sealed: SealedSecret) -> str:
    """JSON of a sealed secret."""
    parts = {name: getattr(sealed, name) for name in SealedSecret.__dataclass_fields__}
    return json.dumps({name: part if isinstance(part, str) else _text(part) for name, part in parts.items()})


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _opened(stored: Mapping[str, str] | None) -> SealedSecret | None:
    if stored is None:
        return None
    key_id = stored["key_id"]
    raw = {name: base64.b64decode(text) for name, text in stored.items() if name != "key_id"}
    return SealedSecret(key_id, **raw)
