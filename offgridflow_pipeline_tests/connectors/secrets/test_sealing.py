"""Sealed secrets: they open for their own tenant and connection only, survive key rotation, and show nothing."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from offgridflow_pipeline.connectors.errors import SealError
from offgridflow_pipeline.connectors.secrets.sealing import KeyRing, Rotation, rewrapped, rotate, seal, unseal
from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.pipeline.connections import SealedSecret
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline_tests.counterparts.postgres import migrated_database, settings

SECRET = SecretStr("canary-secret-of-acme")
RING = KeyRing("k2", {"k2": os.urandom(32), "k1": os.urandom(32)})
OLD = KeyRing("k1", {"k1": RING.keys["k1"]})
BYTES = [field.name for field in fields(SealedSecret) if field.name != "key_id"]


def _keys(value: str, environment: str = "test") -> Settings:
    return settings(Path("/nowhere"), None).model_copy(
        update={"secret_keys": SecretStr(value), "environment": environment}
    )


def _stated(ring: KeyRing) -> str:
    return ",".join(f"{name}:{base64.b64encode(key).decode()}" for name, key in ring.keys.items())


@given(st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs"])), st.text(min_size=1), st.text(min_size=1))
def test_what_is_sealed_opens_again_and_is_not_in_the_row(secret: str, tenant: str, connection: str) -> None:
    sealed = seal(RING, tenant, connection, SecretStr(secret))
    assert unseal(RING, tenant, connection, sealed).get_secret_value() == secret
    if len(secret) > 4:
        assert secret.encode() not in b"".join(getattr(sealed, name) for name in BYTES)


def test_the_same_secret_is_never_sealed_twice_alike() -> None:
    one, other = (seal(RING, "acme", "payer", SECRET) for _ in range(2))
    assert not [name for name in BYTES if getattr(one, name) == getattr(other, name)]


@pytest.mark.parametrize(
    ("tenant", "connection"), [("other", "payer"), ("acme", "other"), ("acmep", "ayer"), ("", "acmepayer")]
)
def test_a_row_moved_to_another_tenant_or_connection_does_not_open(tenant: str, connection: str) -> None:
    sealed = seal(RING, "acme", "payer", SECRET)
    with pytest.raises(SealError, match="belongs to another place or key"):
        unseal(RING, tenant, connection, sealed)


@pytest.mark.parametrize("name", BYTES)
@given(position=st.integers(0, 11), flip=st.integers(1, 255))
def test_a_changed_byte_is_noticed(name: str, position: int, flip: int) -> None:
    sealed = seal(RING, "acme", "payer", SECRET)
    value = bytearray(getattr(sealed, name))
    value[position] ^= flip
    with pytest.raises(SealError, match="the row was changed"):
        unseal(RING, "acme", "payer", replace(sealed, **{name: bytes(value)}))


def test_a_data_key_does_not_open_under_another_key_id() -> None:
    same = KeyRing("k1", {"k1": RING.keys["k2"], "k2": RING.keys["k2"]})
    with pytest.raises(SealError, match="does not open"):
        unseal(same, "acme", "payer", replace(seal(RING, "acme", "payer", SECRET), key_id="k1"))


def test_data_key_and_text_of_two_secrets_cannot_be_mixed() -> None:
    one, other = (seal(RING, "acme", "payer", SecretStr(text)) for text in ("one", "other"))
    mixed = replace(one, wrapped_key=other.wrapped_key, wrapped_key_nonce=other.wrapped_key_nonce)
    with pytest.raises(SealError, match="does not open"):
        unseal(RING, "acme", "payer", mixed)


def test_a_missing_key_is_named_with_its_cure() -> None:
    sealed = seal(RING, "acme", "payer", SECRET)
    with pytest.raises(SealError, match=r"key 'k2' is not in OFFGRIDFLOW_SECRET_KEYS \(there: k1\)\. Put it back"):
        unseal(OLD, "acme", "payer", sealed)


def test_rewrapping_leaves_the_sealed_text_and_needs_no_old_key_afterwards() -> None:
    sealed = seal(OLD, "acme", "payer", SECRET)
    new = rewrapped(RING, "acme", "payer", sealed)
    assert (new.key_id, new.ciphertext, new.nonce) == ("k2", sealed.ciphertext, sealed.nonce)
    assert unseal(KeyRing("k2", {"k2": RING.keys["k2"]}), "acme", "payer", new) == SECRET


@pytest.fixture(scope="module")
def own_database() -> Iterator[Database]:
    """A database whose sealed secrets are this module's alone: a rotation goes over all tenants."""
    with migrated_database() as opened:
        yield opened


def _store(database: Database, tenant: str, ring: KeyRing, *connections: str) -> None:
    for one in connections:
        sealed = seal(ring, tenant, one, SECRET)
        database.connections.add(
            tenant, one, provider="aws", kind="cur", uri="s3://b", secret_ref="sealed", sealed=sealed
        )


def test_a_rotation_rewraps_every_tenant_and_the_old_key_can_go(own_database: Database) -> None:
    for tenant in ("rotated-a", "rotated-b"):
        own_database.tenants.add(tenant, tenant)
        _store(own_database, tenant, OLD, "one", "two")
    with own_database.admin_engine.begin() as connection:
        connection.exec_driver_sql("update ogf.tenants set status = 'suspended' where slug = 'rotated-b'")
    assert rotate(own_database, RING) == Rotation(rewrapped=4, current=0)
    assert rotate(own_database, RING) == Rotation(rewrapped=0, current=4)
    without_old = KeyRing("k2", {"k2": RING.keys["k2"]})
    for tenant in ("rotated-a", "rotated-b"):
        for name, sealed in own_database.connections.secrets(tenant).items():
            assert unseal(without_old, tenant, name, sealed) == SECRET


def test_a_rotation_that_meets_an_unknown_key_names_tenant_and_connection(own_database: Database) -> None:
    own_database.tenants.add("stranger", "stranger")
    _store(own_database, "stranger", KeyRing("lost", {"lost": os.urandom(32)}), "payer")
    try:
        with pytest.raises(SealError, match="Connection 'payer' of stranger: the key-encryption key 'lost' is not in"):
            rotate(own_database, RING)
    finally:
        own_database.connections.remove("stranger", "payer")


def test_the_keys_of_the_settings_are_read_in_their_order() -> None:
    ring = KeyRing.of(_keys(_stated(RING)))
    assert (ring.current, dict(ring.keys)) == (RING.current, dict(RING.keys))


@pytest.mark.parametrize(
    ("value", "cure"),
    [
        ("", "is empty: nothing can be sealed"),
        ("k1", "the key 'k1' is not 32 bytes in base64"),
        ("k1:aHVzaA==", "the key 'k1' is not 32 bytes in base64"),
        ("k1:hush-hush", "the key 'k1' is not 32 bytes in base64"),
        ("K1:aHVzaA==", "entry 1: write ID:BASE64"),
        (f"{_stated(OLD)},{_stated(OLD)}", "entry 2: write ID:BASE64, each id once"),
    ],
    ids=["empty", "no key", "short key", "not base64", "capital id", "twice"],  # the keys are random
)
def test_malformed_keys_are_refused_without_being_shown(value: str, cure: str) -> None:
    with pytest.raises(SealError, match=cure) as refused:
        KeyRing.of(_keys(value))
    shown = str(refused.value)
    assert "aHVzaA" not in shown
    assert "hush" not in shown


def test_the_development_key_is_refused_in_production() -> None:
    assert KeyRing.of(settings(Path("/nowhere"), None)).current == "development"
    production = settings(Path("/nowhere"), None).model_copy(update={"environment": "production"})
    assert [text for text in production.refusals() if "OFFGRIDFLOW_SECRET_KEYS is missing" in text]
    with pytest.raises(SealError, match="OFFGRIDFLOW_SECRET_KEYS is missing"):
        KeyRing.of(production)
    assert [text for text in _keys("", "production").refusals() if "SECRET_KEYS" in text]


def test_nothing_of_a_ring_or_a_sealed_secret_is_shown() -> None:
    shown = f"{RING!r} {seal(RING, 'acme', 'payer', SECRET)!r} {_keys(_stated(RING))!r}"
    assert SECRET.get_secret_value() not in shown
    assert not [text for text in _stated(RING).split(",") if text.partition(":")[2] in shown]
    assert "b'" not in shown
