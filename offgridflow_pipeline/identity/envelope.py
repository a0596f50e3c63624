"""Envelope encryption of small secrets for PostgreSQL (AES-256-GCM, NIST SP 800-38D).

Each secret has a random data key of its own; a key-encryption key of the settings wraps it. What is sealed is bound
to the names of its place (tenant and connection, user), the wrapping also to the key's id: a row moved elsewhere does
not open. Rotation wraps data keys again and leaves the sealed text alone.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pydantic import SecretStr

from offgridflow_pipeline.database.pipeline.connections import SealedSecret
from offgridflow_pipeline.settings import DEVELOPMENT_SECRET
from offgridflow_pipeline.stated_keys import KEY_BYTES, StatedKeysError, stated_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from offgridflow_pipeline.settings import Settings

NONCE_BYTES = 12
DEVELOPMENT_KEY_ID = "development"
_SETTING = "OFFGRIDFLOW_SECRET_KEYS"


class EnvelopeError(ValueError):
    """A sealed secret cannot be opened, or nothing can be sealed: a key is missing, or a row was changed."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Key-encryption keys by id; `current` seals, the others only open what was sealed before."""

    current: str
    keys: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def of(cls, settings: Settings) -> KeyRing:
        """The keys of the settings; outside of production there is one that anybody can derive.

        Raises:
            EnvelopeError: no key, an id twice, or a key that is not 32 bytes in base64; keys are never repeated.
        """
        stated = settings.secret_keys.get_secret_value()
        if stated == DEVELOPMENT_SECRET:
            if settings.environment == "production":
                raise EnvelopeError(
                    f"{_SETTING} is missing: nothing can be sealed or opened. Set ID:BASE64 of 32 bytes."
                )
            return cls(DEVELOPMENT_KEY_ID, {DEVELOPMENT_KEY_ID: hashlib.sha256(stated.encode()).digest()})
        try:
            keys = stated_keys(_SETTING, stated)
        except StatedKeysError as error:
            raise EnvelopeError(str(error)) from None
        if not keys:
            raise EnvelopeError(f"{_SETTING} is empty: nothing can be sealed or opened. Set ID:BASE64 of 32 bytes.")
        return cls(next(iter(keys)), keys)

    def key(self, key_id: str) -> bytes:
        """The key.

        Raises:
            EnvelopeError: the settings do not hold it any more.
        """
        if key_id not in self.keys:
            raise EnvelopeError(
                f"the key-encryption key {key_id!r} is not in {_SETTING} (there: {', '.join(self.keys)}). Put it "
                "back behind the current one, or give the secret again"
            )
        return self.keys[key_id]


def seal(ring: KeyRing, place: tuple[str, ...], secret: SecretStr) -> SealedSecret:
    """The secret under a new data key, wrapped by the current key of the ring and bound to its place."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    data_key, nonce = os.urandom(KEY_BYTES), os.urandom(NONCE_BYTES)
    text = secret.get_secret_value().encode()
    ciphertext = AESGCM(data_key).encrypt(nonce, text, _bound("secret", *place))
    wrapped, wrapped_nonce = _wrap(ring, place, data_key)
    return SealedSecret(ring.current, nonce, ciphertext, wrapped, wrapped_nonce)


def unseal(ring: KeyRing, place: tuple[str, ...], sealed: SealedSecret) -> SecretStr:
    """The secret.

    Raises:
        EnvelopeError: its key is not in the ring, or the row was changed or belongs to another place.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    data_key = _unwrap(ring, place, sealed)
    try:
        text = AESGCM(data_key).decrypt(sealed.nonce, sealed.ciphertext, _bound("secret", *place))
    except (InvalidTag, ValueError):
        raise _altered() from None
    return SecretStr(text.decode())


def rewrapped(ring: KeyRing, place: tuple[str, ...], sealed: SealedSecret) -> SealedSecret:
    """The same sealed text, its data key wrapped by the current key of the ring.

    Raises:
        EnvelopeError: as for `unseal`.
    """
    data_key = _unwrap(ring, place, sealed)
    wrapped, nonce = _wrap(ring, place, data_key)
    return replace(sealed, key_id=ring.current, wrapped_key=wrapped, wrapped_key_nonce=nonce)


def _wrap(ring: KeyRing, place: tuple[str, ...], data_key: bytes) -> tuple[bytes, bytes]:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(NONCE_BYTES)
    bound = _bound("data key", *place, ring.current)
    return AESGCM(ring.key(ring.current)).encrypt(nonce, data_key, bound), nonce


def _unwrap(ring: KeyRing, place: tuple[str, ...], sealed: SealedSecret) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    bound = _bound("data key", *place, sealed.key_id)
    key = ring.key(sealed.key_id)
    try:
        return AESGCM(key).decrypt(sealed.wrapped_key_nonce, sealed.wrapped_key, bound)
    except (InvalidTag, ValueError):
        raise _altered() from None


def _bound(*parts: str) -> bytes:
    """Authenticated data: each part with its length in front, so that no two lists of parts read the same."""
    encoded = [part.encode() for part in ("offgridflow 1", *parts)]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


def _altered() -> EnvelopeError:
    return EnvelopeError(
        "the sealed secret does not open: the row was changed, or belongs to another place or key of that id. "
        "Give the secret again"
    )
