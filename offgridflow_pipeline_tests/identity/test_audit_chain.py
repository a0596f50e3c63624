"""The audit chain: appended with the change, equal in SQL and Python, and no change of it stays unseen."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.people.audit_log import GENESIS
from offgridflow_pipeline.identity.audit import MAXIMUM_TEXT, Action, canonical_json, record
from offgridflow_pipeline.identity.audit_export import ExportError, export_lines, verify
from offgridflow_pipeline.identity.chains import ChainFault, event_hash
from offgridflow_pipeline.identity.signing import SigningRing
from offgridflow_pipeline.settings import Settings

KEYS = SigningRing.of(Settings(_env_file=None, environment="test")).public


def _events(database: Database, tenant: str, count: int) -> None:
    """Many events, up to 500 in a transaction: one statement calls the append function for all of them."""
    body = canonical_json({"action": "keys:created", "actor": {"id": "é", "type": "user"}, "details": {}})
    for start in range(0, count, 500):
        with database.tenant(tenant) as scope:
            scope.connection.execute(
                sa.text("select count(ogf.audit_append(:body)) from generate_series(1, :count)"),
                {"body": body, "count": min(500, count - start)},
            )


def _tampered(database: Database, statement: str, **values: object) -> None:
    """What a superuser can do who switches the triggers off."""
    with database.admin_engine.begin() as connection:
        connection.exec_driver_sql("set local session_replication_role = replica")
        connection.exec_driver_sql("set local row_security = off")
        assert connection.execute(sa.text(statement), values).rowcount


def test_an_event_says_who_did_what_when_and_follows_the_one_before(
    database: Database, new_tenant: Callable[[], str]
) -> None:
    tenant = new_tenant()
    assert (
        record(database, tenant, Action.KEYS_CREATED, actor="user:u1", target="key:k", details={"b": 1, "a": "é"}) == 1
    )
    assert record(database, tenant, Action.ACCESS_DENIED, actor="system", outcome="forbidden") == 2
    first, second = database.audit_log.events(tenant, after=0, limit=10)
    body = json.loads(first.body)
    assert (body["action"], body["actor"], body["target"]) == ("keys:created", {"id": "u1", "type": "user"}, "key:k")
    assert '"details":{"a":"é","b":1}' in first.body
    assert body["at"].endswith("Z")
    assert (first.prev_hash, second.prev_hash) == (GENESIS, first.hash)


def test_python_and_sql_make_the_same_hash(database: Database, new_tenant: Callable[[], str]) -> None:
    tenant = new_tenant()
    for number in range(3):
        record(database, tenant, Action.SIGN_IN, actor=f"user:ü{number}", details={"n": number})
    for event in database.audit_log.events(tenant, after=0, limit=10):
        assert event.hash == event_hash(event.prev_hash, event.seq, event.body)


def test_twenty_five_thousand_events_verify_and_one_changed_byte_is_named(
    database: Database, new_tenant: Callable[[], str]
) -> None:
    tenant = new_tenant()
    _events(database, tenant, 25_000)
    lines = list(export_lines(database, tenant))
    assert verify(lines, KEYS).events == 25_000
    _tampered(
        database,
        "update ogf.audit_events e set body = replace(body, 'é', 'è') from ogf.tenants t"
        " where t.slug = :tenant and e.tenant_id = t.tenant_id and e.seq = 17321",
        tenant=tenant,
    )
    with pytest.raises(ChainFault) as fault:
        verify(export_lines(database, tenant), KEYS)
    assert (fault.value.tenant, fault.value.seq) == (tenant, 17_321)


@pytest.mark.parametrize(
    ("statement", "seq", "reason"),
    [
        ("delete from ogf.audit_events e using ogf.tenants t where {mine} and seq = 2", 2, "it is missing"),
        ("delete from ogf.audit_events e using ogf.tenants t where {mine} and seq = 4", 4, "it is missing"),
        ("update ogf.audit_events e set hash = sha256('x') from ogf.tenants t where {mine} and seq = 3", 3, "changed"),
        (
            "update ogf.audit_events e set prev_hash = sha256('x') from ogf.tenants t where {mine} and seq = 3",
            3,
            "does not follow",
        ),
        ("update ogf.audit_heads e set seq = 3 from ogf.tenants t where {mine}", 3, "not the head"),
        ("update ogf.audit_heads e set hash = sha256('x') from ogf.tenants t where {mine}", 4, "not the head"),
        ("delete from ogf.audit_events e using ogf.tenants t where {mine}", 1, "it is missing"),
    ],
)
def test_what_a_superuser_changes_is_named(
    database: Database, new_tenant: Callable[[], str], statement: str, seq: int, reason: str
) -> None:
    tenant = new_tenant()
    _events(database, tenant, 4)
    _tampered(database, statement.format(mine="t.slug = :tenant and e.tenant_id = t.tenant_id"), tenant=tenant)
    with pytest.raises(ChainFault, match=reason) as fault:
        verify(export_lines(database, tenant), KEYS)
    assert (fault.value.tenant, fault.value.seq) == (tenant, seq)


def test_any_changed_byte_of_an_export_is_found(database: Database, new_tenant: Callable[[], str]) -> None:
    tenant = new_tenant()
    for number in range(3):
        record(database, tenant, Action.SIGN_IN, actor="user:u", details={"text": f"ü{number}"})
    export = b"".join(export_lines(database, tenant))
    assert verify(export.splitlines(keepends=True), KEYS).events == 3
    for place in range(len(export)):
        changed = export[:place] + bytes([export[place] ^ 0x02]) + export[place + 1 :]
        lines = [line + b"\n" for line in changed.split(b"\n") if line]
        with pytest.raises((ChainFault, ExportError)):
            verify(lines, KEYS)


def test_a_changed_byte_of_an_event_in_an_export_is_named(database: Database, new_tenant: Callable[[], str]) -> None:
    tenant = new_tenant()
    _events(database, tenant, 5)
    lines = list(export_lines(database, tenant))
    third = lines[3]
    for place in range(len(third) - 1):
        lines[3] = third[:place] + bytes([third[place] ^ 0x01]) + third[place + 1 :]
        with pytest.raises(ChainFault) as fault:
            verify(lines, KEYS)
        assert (fault.value.tenant, fault.value.seq) == (tenant, 3), lines[3]


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (lambda lines: lines[:-1], "breaks off"),
        (lambda lines: lines[1:], "no export"),
        (lambda lines: [*lines, lines[-1]], "follows the end"),
        (lambda lines: [], "no export"),
    ],
)
def test_a_file_that_is_no_whole_export_is_refused(
    database: Database,
    new_tenant: Callable[[], str],
    cut: Callable[[list[bytes]], list[bytes]],
    message: str,
) -> None:
    tenant = new_tenant()
    _events(database, tenant, 2)
    with pytest.raises(ExportError, match=message):
        verify(cut(list(export_lines(database, tenant))), KEYS)


@pytest.mark.parametrize("table", ["audit_events", "audit_anchors", "audit_anchor_leaves"])
@pytest.mark.parametrize("change", ["update ogf.{} set {}", "delete from ogf.{}", "truncate ogf.{} cascade"])
def test_triggers_refuse_every_change_even_of_a_superuser(
    database: Database, new_tenant: Callable[[], str], table: str, change: str
) -> None:
    _events(database, new_tenant(), 1)
    columns = {"audit_events": "body = '{}'", "audit_anchors": "body = ''", "audit_anchor_leaves": "proof = ''"}
    with database.admin_engine.connect() as connection:
        connection.exec_driver_sql(
            "insert into ogf.audit_anchors values ('1999-01-01', now(), '', 'k', decode(repeat('00', 64), 'hex'))"
        )
        connection.exec_driver_sql(
            "insert into ogf.audit_anchor_leaves values"
            " (gen_random_uuid(), '1999-01-01', 1, decode(repeat('00', 32), 'hex'), '')"
        )
        with pytest.raises(sa.exc.IntegrityError, match="is append-only"):
            connection.exec_driver_sql(change.format(table, columns[table]))


def test_the_login_roles_append_through_the_function_alone(
    database: Database, api_database: Database, new_tenant: Callable[[], str]
) -> None:
    tenant = new_tenant()
    for opened in (database, api_database):
        record(opened, tenant, Action.SIGN_IN, actor="user:u")
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied"), opened.tenant(tenant) as scope:
            scope.connection.exec_driver_sql(
                "insert into ogf.audit_events (tenant_id, seq, body, prev_hash, hash)"
                " select tenant_id, 9, body, prev_hash, hash from ogf.audit_events"
            )
    assert database.audit_log.head(tenant).seq == 2


def test_eight_writers_at_once_leave_neither_gap_nor_fork(database: Database, new_tenant: Callable[[], str]) -> None:
    tenant = new_tenant()

    def write(worker: int) -> list[int]:
        return [record(database, tenant, Action.SIGN_IN, actor=f"user:{worker}") for _ in range(25)]

    with ThreadPoolExecutor(8) as threads:
        numbers = [number for part in threads.map(write, range(8)) for number in part]
    assert sorted(numbers) == list(range(1, 201))
    assert verify(export_lines(database, tenant), KEYS).events == 200


def test_a_change_that_fails_leaves_no_event_and_no_gap(database: Database, new_tenant: Callable[[], str]) -> None:
    tenant = new_tenant()

    class Broken(Exception):
        pass

    with pytest.raises(Broken), database.tenant(tenant) as scope:
        assert record(database.within(scope), tenant, Action.SIGN_IN, actor="user:u") == 1
        raise Broken
    assert database.audit_log.head(tenant).seq == 0
    assert record(database, tenant, Action.SIGN_IN, actor="user:u") == 1


def test_the_platform_has_a_chain_of_its_own(database: Database, api_database: Database) -> None:
    before = database.audit_log.head("platform").seq
    assert record(api_database, "platform", Action.SIGN_IN, actor="system", outcome="unknown_account") == before + 1
    assert verify(export_lines(database, "platform"), KEYS).events == before + 1


def test_no_tenant_can_take_the_name_of_the_platform(database: Database) -> None:
    with pytest.raises(ValueError, match="the platform itself"):
        database.tenants.add("platform", "Impostor")


def test_events_are_read_newest_first_by_action_and_actor(database: Database, new_tenant: Callable[[], str]) -> None:
    tenant = new_tenant()
    for actor, action in [
        ("user:a", Action.SIGN_IN), ("system", Action.KEYS_LEAKED), ("user:a", Action.SIGN_OUT),
        ("user:b", Action.SIGN_IN), ("user:a", Action.SIGN_IN),
    ]:  # fmt: skip
        record(database, tenant, action, actor=actor)

    def numbers(**asked: object) -> list[int]:
        return [event.seq for event in database.audit_log.newest(tenant, **{"limit": 10, **asked})]

    assert numbers() == [5, 4, 3, 2, 1]
    assert numbers(before=4, limit=2) == [3, 2]
    assert numbers(action="auth:sign_in", actor="user:a") == [5, 1]
    assert numbers(actor="system") == [2]


TEXT = st.text(st.characters(codec=None), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_canonical_json_is_one_text_that_postgresql_and_utf8_can_hold(value: object) -> None:
    text = canonical_json(value)
    assert "\0" not in text
    parsed = json.loads(text.encode())
    assert canonical_json(parsed) == text
    assert text == json.dumps(parsed, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), st.integers(), min_size=2))
def test_the_order_of_keys_does_not_show(value: dict[str, int]) -> None:
    turned = dict(reversed(value.items()))
    assert canonical_json(turned) == canonical_json(value)


@pytest.mark.parametrize("value", [1.5, {1: "a"}, {"a": {"b": object()}}])
def test_what_has_no_single_text_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="canonical JSON"):
        canonical_json(value)


def test_long_texts_of_clients_are_cut(database: Database, new_tenant: Callable[[], str]) -> None:
    tenant = new_tenant()
    record(database, tenant, Action.SIGN_IN, actor="user:u", target="x" * 10_000, details={"a": ["y" * 10_000]})
    body = json.loads(database.audit_log.events(tenant, after=0, limit=1)[0].body)
    assert (len(body["target"]), len(body["details"]["a"][0])) == (MAXIMUM_TEXT, MAXIMUM_TEXT)
