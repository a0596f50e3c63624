"""Cloud connections and sealed secrets as rows: what is added comes back, a state tells the last attempt."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from offgridflow_pipeline.database.engine import Database, UnknownTenantError
from offgridflow_pipeline.database.pipeline.connections import (
    MAXIMUM_ERROR_LENGTH,
    SealedSecret,
    UnknownConnectionError,
)
from offgridflow_pipeline.database.statements import RecordError

NewTenant = Callable[[], str]
SEALED = SealedSecret("k1", b"n" * 12, b"ciphertext and tag", b"w" * 48, b"m" * 12)


@pytest.fixture
def tenant(database: Database, new_tenant: NewTenant) -> str:
    slug = new_tenant()
    _add(database, slug)
    return slug


def _add(database: Database, tenant: str, connection_id: str = "payer", **changes: Any) -> None:
    values = {"provider": "aws", "kind": "cur2", "uri": "s3://b/k", "config": {"aws": {"region": "eu-west-1"}}}
    database.connections.add(tenant, connection_id, **(values | changes))


def test_a_connection_comes_back_as_it_was_added(database: Database, tenant: str) -> None:
    found = database.connections.get(tenant, "payer")
    assert (found.provider, found.kind, found.uri, found.role) == ("aws", "cur2", "s3://b/k", "record")
    assert (found.config, found.secret_ref, found.status) == ({"aws": {"region": "eu-west-1"}}, None, "active")
    assert (found.last_attempt_at, found.last_success_at, found.last_error) == (None, None, None)


def test_an_id_is_unique_for_its_tenant_only(database: Database, tenant: str, new_tenant: NewTenant) -> None:
    with pytest.raises(RecordError, match="there already: choose another id, or replace it"):
        _add(database, tenant, uri="s3://other")
    assert database.connections.get(tenant, "payer").uri == "s3://b/k"
    _add(database, new_tenant())


def test_of_several_that_add_the_same_id_at_once_one_succeeds(database: Database, tenant: str) -> None:
    outcomes: list[str] = []

    def add(number: int) -> None:
        try:
            _add(database, tenant, "contested", uri=f"s3://bucket-{number}")
        except RecordError:
            outcomes.append("refused")
        else:
            outcomes.append(f"s3://bucket-{number}")

    threads = [threading.Thread(target=add, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes)[:3] == ["refused"] * 3
    assert database.connections.get(tenant, "contested").uri == max(outcomes)


def test_replacing_keeps_the_history_and_makes_it_active(database: Database, tenant: str) -> None:
    database.connections.record_success(tenant, "payer")
    database.connections.record_failure(tenant, "payer", "no right")
    _add(database, tenant, uri="s3://new", config={}, replace=True)
    found = database.connections.get(tenant, "payer")
    assert (found.uri, found.config, found.status, found.last_error) == ("s3://new", {}, "active", None)
    assert found.last_success_at is not None


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"connection_id": "../x"}, "connection_id"),
        ({"connection_id": "Payer"}, "connection_id"),
        ({"provider": "oracle"}, "provider"),
        ({"role": "owner"}, "role"),
    ],
)
def test_a_malformed_row_is_refused(database: Database, tenant: str, values: dict[str, str], place: str) -> None:
    with pytest.raises(RecordError, match=rf"cloud_connections, \w*{place}.*Nothing was written"):
        _add(database, tenant, **({"connection_id": "new"} | values))
    assert [row.connection_id for row in database.connections.list(tenant)] == ["payer"]


def test_a_state_tells_the_last_attempt(database: Database, tenant: str) -> None:
    database.connections.record_failure(tenant, "payer", "s3:ListBucket is not allowed")
    failing = database.connections.get(tenant, "payer")
    assert (failing.status, failing.last_error, failing.last_success_at) == (
        "failing",
        "s3:ListBucket is not allowed",
        None,
    )
    database.connections.record_success(tenant, "payer")
    healed = database.connections.get(tenant, "payer")
    assert (healed.status, healed.last_error, healed.last_attempt_at) == ("active", None, healed.last_success_at)
    assert healed.last_attempt_at > failing.last_attempt_at


def test_a_failing_connection_is_still_read_and_a_paused_one_is_not(database: Database, tenant: str) -> None:
    _add(database, tenant, "second")
    database.connections.record_failure(tenant, "payer", "x")
    database.connections.pause(tenant, "second")
    assert [row.connection_id for row in database.connections.list(tenant, paused=False)] == ["payer"]
    database.connections.record_failure(tenant, "second", "a run that was under way")
    database.connections.record_success(tenant, "second")
    assert database.connections.get(tenant, "second").status == "paused"
    database.connections.resume(tenant, "second")
    assert [row.connection_id for row in database.connections.list(tenant, paused=False)] == ["payer", "second"]


def test_a_very_long_error_is_shortened(database: Database, tenant: str) -> None:
    database.connections.record_failure(tenant, "payer", "x" * 100_000)
    assert database.connections.get(tenant, "payer").last_error == "x" * MAXIMUM_ERROR_LENGTH


@pytest.mark.parametrize("verb", ["get", "remove", "pause", "resume"])
def test_an_unknown_connection_is_named_with_the_way_to_see_its_own(
    database: Database, tenant: str, new_tenant: NewTenant, verb: str
) -> None:
    other = new_tenant()
    with pytest.raises(UnknownConnectionError, match=f"no connection 'payer': `offgridflow connections list {other}`"):
        getattr(database.connections, verb)(other, "payer")
    assert database.connections.get(tenant, "payer").status == "active"


def test_the_outcome_of_a_removed_connection_is_no_error(database: Database, tenant: str) -> None:
    database.connections.remove(tenant, "payer")
    database.connections.record_success(tenant, "payer")
    database.connections.record_failure(tenant, "payer", "x")
    assert database.connections.list(tenant) == []


def test_an_unknown_tenant_has_no_connections(database: Database) -> None:
    with pytest.raises(UnknownTenantError):
        database.connections.list("nobody")


def test_a_sealed_secret_goes_with_its_connection(database: Database, tenant: str) -> None:
    database.connections.put_secret(tenant, "payer", SEALED)
    assert database.connections.secret(tenant, "payer") == SEALED
    assert database.connections.secrets(tenant) == {"payer": SEALED}
    database.connections.remove(tenant, "payer")
    assert database.connections.secret(tenant, "payer") is None


def test_a_connection_and_its_secret_are_added_together_or_not_at_all(database: Database, tenant: str) -> None:
    with pytest.raises(RecordError, match="sealed_secrets"):
        _add(database, tenant, "new", secret_ref="sealed", sealed=replace(SEALED, nonce=b"short"))
    with pytest.raises(UnknownConnectionError):
        database.connections.get(tenant, "new")
    with pytest.raises(RecordError, match="sealed_secrets"):
        database.connections.put_secret(tenant, "nobody", SEALED)


def test_replacing_drops_a_sealed_secret_that_is_no_longer_named(database: Database, tenant: str) -> None:
    _add(database, tenant, replace=True, secret_ref="sealed", sealed=SEALED)
    _add(database, tenant, replace=True, secret_ref="sealed", uri="s3://moved")
    assert database.connections.secret(tenant, "payer") == SEALED
    _add(database, tenant, replace=True, secret_ref="env:X")
    assert database.connections.secret(tenant, "payer") is None


def test_a_rewrap_does_not_undo_a_secret_that_was_changed_meanwhile(database: Database, tenant: str) -> None:
    database.connections.put_secret(tenant, "payer", SEALED)
    newer = replace(SEALED, nonce=b"2" * 12, wrapped_key=b"2" * 48)
    database.connections.put_secret(tenant, "payer", newer)
    assert not database.connections.rewrap(tenant, "payer", SEALED, replace(SEALED, key_id="k2"))
    assert database.connections.secret(tenant, "payer") == newer
    wrapped = replace(newer, key_id="k2", wrapped_key=b"3" * 48)
    assert database.connections.rewrap(tenant, "payer", newer, wrapped)
    assert database.connections.secret(tenant, "payer") == wrapped


def test_a_sealed_row_shows_no_bytes() -> None:
    assert repr(SEALED) == "SealedSecret(key_id='k1')"


def test_the_application_cannot_read_another_tenants_secret(
    database: Database, tenant: str, new_tenant: NewTenant
) -> None:
    database.connections.put_secret(tenant, "payer", SEALED)
    with database.tenant(new_tenant()) as scope:
        assert scope.connection.execute(sa.text("select * from ogf.sealed_secrets")).all() == []
        assert scope.connection.execute(sa.text("select * from ogf.cloud_connections")).all() == []


def test_a_removed_connection_leaves_no_state_to_one_added_under_its_id(database: Database, tenant: str) -> None:
    now, day = datetime.now(UTC), date(2026, 10, 5)
    database.feed_states.advance(tenant, "payer", {"unit": {"version": "1"}}, observed_at=now, run_id="r")
    database.day_digests.record(
        tenant, "aws_billing_extract", days=[day], connections={"payer": "1"}, digests={}, run_id="r"
    )
    database.connections.remove(tenant, "payer")
    assert database.feed_states.read(tenant, "payer") == {}
    assert database.day_digests.read(tenant, "aws_billing_extract", [day]) == {}
