"""Exchange tokens: ours, of today, of one algorithm; whatever else a token says is not believed."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from offgridflow_pipeline.identity.exchange_tokens import AUDIENCE, LIFETIME, TYPE, Claims, TokenKeys, token_keys
from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline.settings import Settings

TENANT = UUID("018f0000-0000-7000-8000-000000000001")
CLAIMS = Claims(TENANT, "acme", "key:abcdefghij", frozenset({Permission.EMISSIONS_READ, Permission.RUNS_READ}))


def _keys(*names: str, url: str = "https://api.example") -> TokenKeys:
    text = ",".join(f"{name}:{base64.b64encode(sha256(name.encode()).digest()).decode()}" for name in names)
    return token_keys(Settings(_env_file=None, environment="test", public_url=url, signing_keys=SecretStr(text)))


KEYS = _keys("one")


def _issue(keys: TokenKeys = KEYS, now: datetime | None = None) -> str:
    return keys.issue(
        tenant_id=CLAIMS.tenant_id, tenant=CLAIMS.tenant, principal=CLAIMS.principal, permissions=CLAIMS.permissions,
        now=now,
    )  # fmt: skip


def _forged(signer: Any, *, header: dict[str, Any] | None = None, algorithm: str = "EdDSA", **claims: Any) -> str:
    body = jwt.decode(_issue(), options={"verify_signature": False}) | claims
    return jwt.encode(
        {name: value for name, value in body.items() if value is not None},
        signer,
        algorithm=algorithm,
        headers={"kid": "one", "typ": TYPE, **(header or {})},
    )


def test_a_token_says_whose_it_is_and_what_it_may_do() -> None:
    assert KEYS.verify(_issue()) == CLAIMS


def test_a_token_names_every_claim_that_it_should() -> None:
    claims = jwt.decode(_issue(), options={"verify_signature": False})
    header = jwt.get_unverified_header(_issue())
    assert claims.keys() == {"iss", "aud", "sub", "tid", "tenant", "scp", "jti", "iat", "nbf", "exp"}
    assert (header["alg"], header["kid"], header["typ"]) == ("EdDSA", "one", "at+jwt")
    assert (claims["iss"], claims["aud"]) == ("https://api.example", AUDIENCE)
    assert claims["exp"] - claims["iat"] == LIFETIME.total_seconds() == 600


def test_a_token_ends_after_ten_minutes_and_counts_for_nothing_before_its_time() -> None:
    now = datetime.now(UTC)
    assert KEYS.verify(_issue(now=now - LIFETIME + timedelta(seconds=20)))
    assert KEYS.verify(_issue(now=now - LIFETIME - timedelta(seconds=20))) is None
    assert KEYS.verify(_issue(now=now + timedelta(seconds=20))) is None


def test_a_new_key_is_published_before_it_signs_and_the_old_one_verifies_after() -> None:
    published, turned, alone = _keys("one", "two"), _keys("two", "one"), _keys("two")
    assert {key["kid"] for key in published.jwks()["keys"]} == {"one", "two"}
    assert jwt.get_unverified_header(_issue(published))["kid"] == "one"
    assert jwt.get_unverified_header(_issue(turned))["kid"] == "two"
    assert turned.verify(_issue(published)) == CLAIMS
    assert published.verify(_issue(turned)) == CLAIMS
    assert alone.verify(_issue(published)) is None


def test_the_published_keys_hold_no_private_part_and_verify() -> None:
    (key,) = KEYS.jwks()["keys"]
    assert key.keys() == {"kty", "crv", "use", "alg", "kid", "x"}
    assert jwt.decode(_issue(), jwt.PyJWK(key).key, algorithms=["EdDSA"], audience=AUDIENCE)


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://other.example"}, {"aud": "other"}, {"tid": "no-uuid"}, {"scp": ["root:all"]}, {"scp": 7},
        {"exp": None}, {"nbf": None}, {"iat": None}, {"jti": None}, {"sub": None}, {"tid": None}, {"tenant": None},
        {"scp": None},
    ],
)  # fmt: skip
def test_a_token_with_other_claims_is_not_ours_though_our_key_signed_it(claims: dict[str, Any]) -> None:
    assert KEYS.verify(_forged(KEYS.ring.signer)) == CLAIMS
    assert KEYS.verify(_forged(KEYS.ring.signer, **claims)) is None


@pytest.mark.parametrize("header", [{"typ": "JWT"}, {"kid": "two"}, {"kid": ""}, {"crit": ["exp"]}])
def test_a_token_with_another_header_is_not_ours(header: dict[str, Any]) -> None:
    assert KEYS.verify(_forged(KEYS.ring.signer, header=header)) is None


def test_a_token_cannot_bring_its_own_key() -> None:
    mine = Ed25519PrivateKey.generate()
    x = base64.urlsafe_b64encode(mine.public_key().public_bytes_raw()).rstrip(b"=").decode()
    for header in (
        {"jwk": {"kty": "OKP", "crv": "Ed25519", "x": x}},
        {"jku": "https://attacker.example/jwks.json"},
        {"x5u": "https://attacker.example/cert.pem"},
    ):
        assert KEYS.verify(_forged(mine, header=header)) is None
        assert KEYS.verify(_forged(KEYS.ring.signer, header=header)) == CLAIMS


def test_no_other_algorithm_counts_even_with_our_public_key_as_its_secret() -> None:
    public: Ed25519PublicKey = KEYS.ring.public.keys["one"]
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert KEYS.verify(_forged(None, algorithm="none")) is None
    assert KEYS.verify(_forged(raw, algorithm="HS256")) is None
    header, body, signature = _issue().split(".")
    for algorithm in ("none", "HS256", "ES256", "eddsa"):
        changed = base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "kid": "one", "typ": TYPE}).encode())
        assert KEYS.verify(f"{changed.rstrip(b'=').decode()}.{body}.{signature}") is None
    assert KEYS.verify(f"{header}.{body}.") is None


@given(st.integers(0, 10_000), st.integers(0, 5))
def test_no_changed_character_is_overlooked(place: int, bit: int) -> None:
    text = _issue()
    place %= text.rindex(".")
    changed = text[:place] + chr(ord(text[place]) ^ (1 << bit)) + text[place + 1 :]
    assert KEYS.verify(changed) is None


@given(st.text(max_size=60))
def test_no_text_breaks_the_check(text: str) -> None:
    assert KEYS.verify(text) is None
