"""Sealing: envelope encryption of connection secrets for PostgreSQL (AES-256-GCM, NIST SP 800-38D).

Each secret has a random data key of its own; a key-encryption key of the settings wraps it. What is sealed is bound
to tenant and connection, the wrapping also to the key's id, so a row moved elsewhere does not open. Rotation wraps
data keys again and leaves the sealed text alone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pydantic import SecretStr

from offgridflow_pipeline.connectors.errors import SealError
from offgridflow_pipeline.database.connections import SealedSecret
from offgridflow_pipeline.settings import DEVELOPMENT_SECRET

if TYPE_CHECKING:
    from collections.abc import Mapping

    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.settings import Settings

KEY_BYTES = 32
NONCE_BYTES = 12
DEVELOPMENT_KEY_ID = "development"
_KEY_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_SETTING = "OFFGRIDFLOW_SECRET_KEYS"


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Key-encryption keys by id; `current` seals, the others only open what was sealed before."""

    current: str
    keys: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def of(cls, settings: Settings) -> KeyRing:
        """The keys of the settings; outside of production there is one that anybody can derive.

        Raises:
            SealError: no key, an id twice, or a key that is not 32 bytes in base64; keys are never repeated.
        """
        stated = settings.secret_keys.get_secret_value()
        if stated == DEVELOPMENT_SECRET:
            if settings.environment == "production":
                raise SealError(f"{_SETTING} is missing: nothing can be sealed or opened. Set ID:BASE64 of 32 bytes.")
            return cls(DEVELOPMENT_KEY_ID, {DEVELOPMENT_KEY_ID: hashlib.sha256(stated.encode()).digest()})
        keys: dict[str, bytes] = {}
        for number, part in enumerate(filter(None, (p.strip() for p in stated.split(","))), start=1):
            name, _, text = part.partition(":")
            if not _KEY_ID.fullmatch(name) or name in keys:
                raise SealError(f"{_SETTING}, entry {number}: write ID:BASE64, each id once, in lower case.")
            keys[name] = _key(name, text)
        if not keys:
            raise SealError(f"{_SETTING} is empty: nothing can be sealed or opened. Set ID:BASE64 of 32 bytes.")
        return cls(next(iter(keys)), keys)

    def key(self, key_id: str) -> bytes:
        """The key.

        Raises:
            SealError: the settings do not hold it any more.
        """
        if key_id not in self.keys:
            raise SealError(
                f"the key-encryption key {key_id!r} is not in {_SETTING} (there: {', '.join(self.keys)}). Put it "
                "back behind the current one, or give the secret again with `offgridflow connections add --replace`"
            )
        return self.keys[key_id]


def seal(ring: KeyRing, tenant: str, connection_id: str, secret: SecretStr) -> SealedSecret:
    """The secret under a new data key, wrapped by the current key of the ring."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    data_key, nonce = os.urandom(KEY_BYTES), os.urandom(NONCE_BYTES)
    text = secret.get_secret_value().encode()
    ciphertext = AESGCM(data_key).encrypt(nonce, text, _bound("secret", tenant, connection_id))
    wrapped, wrapped_nonce = _wrap(ring, tenant, connection_id, data_key)
    return SealedSecret(ring.current, nonce, ciphertext, wrapped, wrapped_nonce)


def unseal(ring: KeyRing, tenant: str, connection_id: str, sealed: SealedSecret) -> SecretStr:
    """The secret.

    Raises:
        SealError: its key is not in the ring, or the row was changed or belongs to another tenant or connection.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    data_key = _unwrap(ring, tenant, connection_id, sealed)
    try:
        text = AESGCM(data_key).decrypt(sealed.nonce, sealed.ciphertext, _bound("secret", tenant, connection_id))
    except (InvalidTag, ValueError):
        raise _altered() from None
    return SecretStr(text.decode())


def rewrapped(ring: KeyRing, tenant: str, connection_id: str, sealed: SealedSecret) -> SealedSecret:
    """The same sealed text, its data key wrapped by the current key of the ring.

    Raises:
        SealError: as for `unseal`.
    """
    data_key = _unwrap(ring, tenant, connection_id, sealed)
    wrapped, nonce = _wrap(ring, tenant, connection_id, data_key)
    return replace(sealed, key_id=ring.current, wrapped_key=wrapped, wrapped_key_nonce=nonce)


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation did: data keys wrapped anew, and those that already were under the current key."""

    rewrapped: int
    current: int


def rotate(database: Database, ring: KeyRing) -> Rotation:
    """Wrap the data keys of every tenant by the current key; afterwards the other keys can be removed.

    Running it again, or twice at once, does no harm: a row that changed meanwhile is read again.

    Raises:
        SealError: a row does not open; names tenant and connection. Rows before it stay rotated.
    """
    done = current = 0
    for tenant in database.tenants.list(inactive=True):
        waiting = dict(database.connections.secrets(tenant.slug))
        while waiting:
            connection_id, sealed = waiting.popitem()
            if sealed.key_id == ring.current:
                current += 1
                continue
            try:
                new = rewrapped(ring, tenant.slug, connection_id, sealed)
            except SealError as error:
                raise SealError(f"Connection {connection_id!r} of {tenant.slug}: {error}.") from None
            if database.connections.rewrap(tenant.slug, connection_id, sealed, new):
                done += 1
            elif (newer := database.connections.secret(tenant.slug, connection_id)) is not None:
                waiting[connection_id] = newer
    return Rotation(done, current)


def _wrap(ring: KeyRing, tenant: str, connection_id: str, data_key: bytes) -> tuple[bytes, bytes]:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(NONCE_BYTES)
    bound = _bound("data key", tenant, connection_id, ring.current)
    return AESGCM(ring.key(ring.current)).encrypt(nonce, data_key, bound), nonce


def _unwrap(ring: KeyRing, tenant: str, connection_id: str, sealed: SealedSecret) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    bound = _bound("data key", tenant, connection_id, sealed.key_id)
    key = ring.key(sealed.key_id)
    try:
        return AESGCM(key).decrypt(sealed.wrapped_key_nonce, sealed.wrapped_key, bound)
    except (InvalidTag, ValueError):
        raise _altered() from None


def _bound(*parts: str) -> bytes:
    """Authenticated data: each part with its length in front, so that no two lists of parts read the same."""
    encoded = [part.encode() for part in ("offgridflow 1", *parts)]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


def _key(name: str, text: str) -> bytes:
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if len(found) != KEY_BYTES:
        raise SealError(f"{_SETTING}: the key {name!r} is not {KEY_BYTES} bytes in base64 (`openssl rand -base64 32`).")
    return found


def _altered() -> SealError:
    return SealError(
        "the sealed secret does not open: the row was changed, or belongs to another tenant, connection or key of "
        "that id. Give the secret again with `offgridflow connections add --replace`"
    )
