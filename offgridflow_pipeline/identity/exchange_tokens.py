"""Exchange tokens: an API key traded for a signed token of ten minutes (JWT, EdDSA over Ed25519).

A token says whose it is and what it may do, so that a request with it needs no lookup; for the same reason a revoked
key's tokens live until they end. Only EdDSA is taken, and only keys of our own ring: `jku`, `x5u` and `jwk` of a
token are never read.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import jwt

from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline.identity.signing import SigningRing

if TYPE_CHECKING:
    from offgridflow_pipeline.settings import Settings

LIFETIME = timedelta(minutes=10)
AUDIENCE = "offgridflow-api"
TYPE = "at+jwt"
_ALGORITHM = "EdDSA"
#: Clocks of our own hosts may differ by this much.
_LEEWAY = timedelta(seconds=5)
_REQUIRED = ["iss", "aud", "sub", "tid", "tenant", "scp", "jti", "iat", "nbf", "exp"]


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid token proves."""

    tenant_id: UUID
    tenant: str
    principal: str
    permissions: frozenset[Permission]


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """Issues and verifies the tokens of one installation."""

    issuer: str
    ring: SigningRing

    def issue(
        self,
        *,
        tenant_id: UUID,
        tenant: str,
        principal: str,
        permissions: Iterable[Permission],
        now: datetime | None = None,
    ) -> str:
        """A token for the principal (`key:<key id>`) that ends after `LIFETIME`; `now` is the time of issue."""
        issued = now or datetime.now(UTC)
        claims = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": principal,
            "tid": str(tenant_id),
            "tenant": tenant,
            "scp": sorted(permissions),
            "jti": secrets.token_urlsafe(16),
            "iat": issued,
            "nbf": issued,
            "exp": issued + LIFETIME,
        }
        return jwt.encode(
            claims, self.ring.signer, algorithm=_ALGORITHM, headers={"kid": self.ring.current, "typ": TYPE}
        )

    def verify(self, text: str) -> Claims | None:
        """The claims; None for a token that is not ours, has ended, or says what no token of ours says."""
        try:
            header = jwt.get_unverified_header(text)
            key = self.ring.public.keys.get(header.get("kid", ""))
            if key is None or header.get("typ") != TYPE:
                return None
            found = jwt.decode(
                text,
                key,
                algorithms=[_ALGORITHM],
                audience=AUDIENCE,
                issuer=self.issuer,
                leeway=_LEEWAY,
                options={"require": _REQUIRED},
            )
            return _claims(found)
        except (jwt.InvalidTokenError, TypeError, ValueError):
            return None

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Public keys of the ring, those that do not sign yet or any more among them (RFC 7517)."""
        return self.ring.public.jwks()


def token_keys(settings: Settings) -> TokenKeys:
    """The token keys of the settings.

    Raises:
        SigningKeyError: the settings hold no usable signing key.
    """
    return TokenKeys(settings.public_url.rstrip("/"), SigningRing.of(settings))


def _claims(found: dict[str, Any]) -> Claims:
    return Claims(
        tenant_id=UUID(found["tid"]),
        tenant=str(found["tenant"]),
        principal=str(found["sub"]),
        permissions=frozenset(Permission(name) for name in found["scp"]),
    )
