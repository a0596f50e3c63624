"""API keys of machines: ``ogf_live_<key id, 10>_<secret, 43>_<checksum, 6>``, letters and digits only.

The prefix lets secret scanners find a leaked key, the checksum (CRC-32, base 62) lets anybody refuse a mistyped one
without a lookup. The secret (256 bit) is shown once; its SHA-256 is kept. Passwords need a slow hash, this does not.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import threading
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from offgridflow_pipeline.identity.audit import Action, record
from offgridflow_pipeline.identity.permissions import Permission, key_permissions
from offgridflow_pipeline.identity.profiles import display_name
from offgridflow_pipeline.identity.refusals import RefusedError
from offgridflow_pipeline.settings import LIVE_KEYS

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.database.people.api_keys import ApiKeyRow

PREFIX = "ogf_live_"
KEY_ID_LENGTH = 10
SECRET_LENGTH = 43
CHECKSUM_LENGTH = 6
DEFAULT_LIFETIME = timedelta(days=365)
MAXIMUM_LIFETIME = timedelta(days=2 * 365)
#: A key and its successor: enough to rotate, too few to forget one.
LIVE_KEYS_PER_NAME = 2
LAST_USED_SECONDS = 60.0
MAXIMUM_NAME_LENGTH = 100

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_FORM = re.compile(
    rf"{PREFIX}([0-9A-Za-z]{{{KEY_ID_LENGTH}}})_([0-9A-Za-z]{{{SECRET_LENGTH}}})_([0-9A-Za-z]{{{CHECKSUM_LENGTH}}})"
)


class ApiKeyError(ValueError):
    """A key cannot be made or changed as asked; the message says why. `field` names what is wrong."""

    def __init__(self, field_name: str, message: str) -> None:
        super().__init__(message)
        self.field = field_name


class TooManyKeysError(ApiKeyError):
    """The tenant has as many live keys, each with its successor, as it may have; the message says the cure."""

    def __init__(self, live: int) -> None:
        super().__init__("keys", f"There are {live} live keys, as many as there may be: revoke one that is not used.")


@dataclass(frozen=True, slots=True)
class ParsedKey:
    """A key of the right form: its id, and the hash that a lookup compares."""

    key_id: str
    secret_sha256: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A new key: `text` is shown now and never again."""

    row: ApiKeyRow
    text: str = field(repr=False)


def parse(text: str) -> ParsedKey | None:
    """The key that the text is; None when form or checksum are wrong. Asks no database."""
    found = _FORM.fullmatch(text)
    if found is None or found[3] != _checksum(text[: found.end(2)]):
        return None
    return ParsedKey(found[1], hashlib.sha256(found[2].encode()).digest())


def generate() -> tuple[str, ParsedKey]:
    """A random key and what is kept of it."""
    key_id = _random(KEY_ID_LENGTH)
    secret = _random(SECRET_LENGTH)
    body = f"{PREFIX}{key_id}_{secret}"
    return f"{body}_{_checksum(body)}", ParsedKey(key_id, hashlib.sha256(secret.encode()).digest())


def create(
    database: Database,
    tenant: str,
    name: str,
    permissions: Iterable[Permission],
    *,
    creator: str,
    creator_permissions: Iterable[Permission],
    expires_at: datetime | None = None,
    at_most: int = LIVE_KEYS,
    ip_hash: str = "",
    request_id: str = "",
) -> CreatedKey:
    """A new key of the tenant, audited in the same transaction; `expires_at` is in a year unless given.

    Raises:
        TooManyKeysError: the tenant has `at_most` live keys; a key and its successor are one.
        ApiKeyError: a permission that keys or the creator may not have, an end out of bounds, or a name that is taken.
    """
    name, wanted = _name(name), _allowed(permissions, creator_permissions)
    database.api_keys.hold(tenant)
    live = [row for row in database.api_keys.list(tenant) if row.live]
    if any(row.name == name for row in live):
        raise ApiKeyError("name", f"A live key is called {name!r}: choose another name, or rotate that key.")
    names = len({row.name for row in live})
    if names >= at_most:
        raise TooManyKeysError(names)
    created = _insert(database, tenant, name, wanted, creator, _end(expires_at))
    _audit(database, tenant, Action.KEYS_CREATED, created.row, creator, request_id, ip_hash)
    return created


def rotate(
    database: Database,
    tenant: str,
    key_id: str,
    *,
    creator: str,
    creator_permissions: Iterable[Permission],
    ip_hash: str = "",
    request_id: str = "",
) -> CreatedKey:
    """A successor with the key's name, permissions and length of life; the key itself stays until it is revoked.

    It counts towards no limit: a leaked key can always be replaced without a gap, and a name has two live keys at most.

    Raises:
        UnknownKeyError: the tenant has no key of that id.
        ApiKeyError: the key has ended, has a successor already, or may do what its rotator may not.
    """
    database.api_keys.hold(tenant)
    old = database.api_keys.get(tenant, key_id)
    if not old.live:
        raise ApiKeyError("key_id", "The key has ended: create a new one.")
    if sum(row.name == old.name and row.live for row in database.api_keys.list(tenant)) >= LIVE_KEYS_PER_NAME:
        raise ApiKeyError("key_id", f"{old.name!r} has {LIVE_KEYS_PER_NAME} live keys: revoke the older one first.")
    wanted = _allowed(map(Permission, old.permissions), creator_permissions)
    lifetime = min(old.expires_at - old.created_at, MAXIMUM_LIFETIME)
    created = _insert(database, tenant, old.name, wanted, creator, _end(datetime.now(UTC) + lifetime))
    _audit(database, tenant, Action.KEYS_ROTATED, created.row, creator, request_id, ip_hash, replaces=key_id)
    return created


def revoke(
    database: Database,
    tenant: str,
    key_id: str,
    *,
    by: str,
    action: Action = Action.KEYS_REVOKED,
    ip_hash: str = "",
    request_id: str = "",
) -> ApiKeyRow:
    """End the key now, audited in the same transaction; a key that has ended stays as it is.

    Raises:
        UnknownKeyError: the tenant has no key of that id.
    """
    ended = database.api_keys.revoke(tenant, key_id, by=by)
    row = database.api_keys.get(tenant, key_id)
    if ended:
        _audit(database, tenant, action, row, by, request_id, ip_hash)
    return row


def revoke_by_value(database: Database, text: str, *, ip_hash: str = "", request_id: str = "") -> bool:
    """End the key that the text is, for who found it in public; whether there was a live one must not be told."""
    key = parse(text)
    if key is None:
        return False
    with database.requests.by_key(key.key_id, key.secret_sha256) as begun:
        if begun is None:
            return False
        found, bound = begun
        revoke(
            bound,
            found.slug,
            key.key_id,
            by="system",
            action=Action.KEYS_LEAKED,
            ip_hash=ip_hash,
            request_id=request_id,
        )
    return True


class KeyUses:
    """Notes that keys are used, at most once a minute per key and process: a column, not a log."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._noted: dict[str, float] = {}
        self._lock = threading.Lock()

    def note(self, database: Database, tenant: str, key_id: str) -> bool:
        """Note a use in a transaction of its own, after that of the request; False when it was noted just now."""
        now = self._clock()
        with self._lock:
            if now - self._noted.get(key_id, -LAST_USED_SECONDS) < LAST_USED_SECONDS:
                return False
            self._noted[key_id] = now
        database.api_keys.touch(tenant, key_id)
        return True


def _insert(
    database: Database, tenant: str, name: str, permissions: list[Permission], creator: str, expires_at: datetime
) -> CreatedKey:
    text, kept = generate()
    row = database.api_keys.add(
        tenant,
        kept.key_id,
        kept.secret_sha256,
        name=name,
        permissions=[str(permission) for permission in permissions],
        created_by=creator,
        expires_at=expires_at,
    )
    return CreatedKey(row, text)


def _name(text: str) -> str:
    """The name on one line, as people's names are: it stands in pages, lists and the database."""
    try:
        found = display_name(text)
    except RefusedError as error:
        raise ApiKeyError("name", error.message) from None
    if len(found) > MAXIMUM_NAME_LENGTH:
        raise ApiKeyError("name", f"A key has a name of 1 to {MAXIMUM_NAME_LENGTH} characters.")
    return found


def _allowed(wanted: Iterable[Permission], holder: Iterable[Permission]) -> list[Permission]:
    asked = set(wanted)
    if not asked:
        raise ApiKeyError("permissions", "A key needs at least one permission.")
    if beyond := asked - (key_permissions() & frozenset(holder)):
        raise ApiKeyError("permissions", f"Not yours to give to a key: {', '.join(sorted(beyond))}.")
    return sorted(asked)


def _end(stated: datetime | None) -> datetime:
    now = datetime.now(UTC)
    if stated is None:
        return now + DEFAULT_LIFETIME
    if stated.tzinfo is None or not now < stated <= now + MAXIMUM_LIFETIME:
        raise ApiKeyError("expires_at", "A key ends in the future, within two years; give the time with its zone.")
    return stated


def _audit(
    database: Database,
    tenant: str,
    action: Action,
    row: ApiKeyRow,
    actor: str,
    request_id: str,
    ip_hash: str,
    **more: str,
) -> None:
    record(
        database,
        tenant,
        action,
        actor=actor,
        target=f"key:{row.key_id}",
        request_id=request_id,
        ip_hash=ip_hash,
        details={"permissions": sorted(row.permissions), "expires_at": row.expires_at.isoformat(), **more},
    )


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode())
    digits = ""
    for _ in range(CHECKSUM_LENGTH):
        number, rest = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[rest] + digits
    return digits


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
