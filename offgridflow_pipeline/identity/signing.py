"""Ed25519 keys of this installation: they sign exchange tokens and audit anchors.

A ring holds several keys by id. The first signs, the others verify: a new key is published behind the current one,
moves to the front after one cache age, and the old one goes after one token life (service reference, section 5).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from offgridflow_pipeline.settings import DEVELOPMENT_SECRET
from offgridflow_pipeline.stated_keys import StatedKeysError, stated_keys

if TYPE_CHECKING:
    from offgridflow_pipeline.settings import Settings

DEVELOPMENT_KEY_ID = "development"
_SETTING = "OFFGRIDFLOW_SIGNING_KEYS"


class SigningKeyError(ValueError):
    """The signing keys cannot be used; the message says which and what to write. Keys are never repeated."""


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """Keys that verify, by id: all that an auditor or another service needs."""

    keys: Mapping[str, Ed25519PublicKey]

    def verifies(self, key_id: str, message: bytes, signature: bytes) -> bool:
        """Whether the key of that id made the signature; False for a key that is not known."""
        key = self.keys.get(key_id)
        if key is None:
            return False
        try:
            key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The keys as a JSON Web Key Set (RFC 7517, RFC 8037)."""
        return {
            "keys": [
                {
                    "kty": "OKP",
                    "crv": "Ed25519",
                    "use": "sig",
                    "alg": "EdDSA",
                    "kid": key_id,
                    "x": _base64url(key.public_bytes_raw()),
                }
                for key_id, key in self.keys.items()
            ]
        }

    @classmethod
    def of_jwks(cls, document: Any) -> PublicKeys:
        """The Ed25519 keys of a JSON Web Key Set.

        Raises:
            SigningKeyError: the document is no key set.
        """
        try:
            return cls(
                {
                    str(key["kid"]): Ed25519PublicKey.from_public_bytes(
                        base64.urlsafe_b64decode(str(key["x"]) + "=" * (-len(str(key["x"])) % 4))
                    )
                    for key in document["keys"]
                    if key.get("kty") == "OKP" and key.get("crv") == "Ed25519"
                }
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise SigningKeyError("the file is no JSON Web Key Set such as /.well-known/jwks.json") from error


@dataclass(frozen=True, slots=True)
class SigningRing:
    """Private keys by id; `current` signs."""

    current: str
    keys: Mapping[str, Ed25519PrivateKey] = field(repr=False)

    @classmethod
    def of(cls, settings: Settings) -> SigningRing:
        """The keys of the settings; outside of production there is one that anybody can derive.

        Raises:
            SigningKeyError: no key, an id twice, or a seed that is not 32 bytes in base64.
        """
        stated = settings.signing_keys.get_secret_value()
        if stated == DEVELOPMENT_SECRET:
            if settings.environment == "production":
                raise SigningKeyError(f"{_SETTING} is missing: nothing can be signed. Set ID:BASE64 of 32 bytes.")
            seed = hashlib.sha256(b"signing " + stated.encode()).digest()
            return cls(DEVELOPMENT_KEY_ID, {DEVELOPMENT_KEY_ID: Ed25519PrivateKey.from_private_bytes(seed)})
        try:
            seeds = stated_keys(_SETTING, stated)
        except StatedKeysError as error:
            raise SigningKeyError(str(error)) from None
        if not seeds:
            raise SigningKeyError(f"{_SETTING} is empty: nothing can be signed. Set ID:BASE64 of 32 bytes.")
        keys = {key_id: Ed25519PrivateKey.from_private_bytes(seed) for key_id, seed in seeds.items()}
        return cls(next(iter(keys)), keys)

    def sign(self, message: bytes) -> bytes:
        """Signature of the current key (64 bytes)."""
        return self.keys[self.current].sign(message)

    @property
    def signer(self) -> Ed25519PrivateKey:
        """The current private key."""
        return self.keys[self.current]

    @property
    def public(self) -> PublicKeys:
        """What verifies the ring's signatures."""
        return PublicKeys({key_id: key.public_key() for key_id, key in self.keys.items()})


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
