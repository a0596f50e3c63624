"""API keys: shown once, checked without a lookup, never more powerful than their creator, rotated without a gap."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from offgridflow_pipeline import settings as settings_module
from offgridflow_pipeline.cli import key as key_cli
from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.people.api_keys import UnknownKeyError
from offgridflow_pipeline.identity import api_keys
from offgridflow_pipeline.identity.permissions import Permission, key_permissions, permissions_of
from offgridflow_pipeline_tests.counterparts.postgres import settings

OWNER = permissions_of("owner")
READ = [Permission.EMISSIONS_READ]


@pytest.fixture
def tenant(new_tenant: Callable[[], str]) -> str:
    return new_tenant()


@pytest.fixture
def bound(api_database: Database, tenant: str) -> Iterator[Database]:
    """One open transaction of the tenant, as a request has it."""
    with api_database.tenant(tenant) as scope:
        yield api_database.within(scope)


def _create(database: Database, tenant: str, name: str = "dashboard", **changes: object) -> api_keys.CreatedKey:
    return api_keys.create(
        database, tenant, name, **{"permissions": READ, "creator": "user:u", "creator_permissions": OWNER, **changes}
    )


def _ended(database: Database, key_id: str) -> None:
    with database.admin_engine.begin() as connection:
        connection.execute(
            sa.text("update ogf.api_keys set expires_at = now() - interval '1 second' where key_id = :key_id"),
            {"key_id": key_id},
        )


def test_a_key_opens_its_tenant_with_its_permissions(api_database: Database, tenant: str) -> None:
    created = _create(api_database, tenant)
    key = api_keys.parse(created.text)
    assert key is not None
    with api_database.requests.by_key(key.key_id, key.secret_sha256) as begun:
        assert begun is not None
        assert (begun[0].slug, begun[0].permissions) == (tenant, ["emissions:read"])
    with api_database.requests.by_key(key.key_id, bytes(32)) as begun:
        assert begun is None


def test_nothing_that_is_kept_holds_the_secret(database: Database, bound: Database, tenant: str) -> None:
    secret = _create(bound, tenant).text.split("_")[3]
    stored = bound.api_keys.list(tenant)
    events = bound.audit_log.events(tenant, after=0, limit=10)
    assert secret not in f"{stored} {events}"
    assert secret not in repr(_create(bound, tenant, "second"))


@given(st.integers(0, 69), st.sampled_from("0123456789abcXYZ_-é"))
def test_a_mistyped_key_is_refused_by_its_checksum(place: int, character: str) -> None:
    text, _ = api_keys.generate()
    changed = text[:place] + character + text[place + 1 :]
    assert (api_keys.parse(changed) is None) == (changed != text)


def test_a_key_looks_like_the_form_that_secret_scanners_know() -> None:
    text, kept = api_keys.generate()
    assert len(text) == len("ogf_live_") + 10 + 1 + 43 + 1 + 6
    assert api_keys.parse(text) == kept
    assert api_keys.parse(text + "\n") is None
    assert api_keys.parse("ogf_live_AAAAAAAAAA_" + "A" * 43 + "_000000") is None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"permissions": []}, "permissions"),
        ({"permissions": [Permission.MEMBERS_WRITE]}, "permissions"),
        ({"permissions": [Permission.RUNS_LAUNCH], "creator_permissions": permissions_of("viewer")}, "permissions"),
        ({"expires_at": datetime.now(UTC) - timedelta(seconds=1)}, "expires_at"),
        ({"expires_at": datetime.now(UTC) + timedelta(days=731)}, "expires_at"),
        ({"expires_at": datetime.now() + timedelta(days=1)}, "expires_at"),  # noqa: DTZ005  without a zone on purpose
        ({"name": " "}, "name"),
        ({"name": "x" * 101}, "name"),
    ],
)
def test_a_key_that_may_too_much_or_lives_too_long_is_refused(
    bound: Database, tenant: str, changes: dict[str, object], field: str
) -> None:
    with pytest.raises(api_keys.ApiKeyError) as refused:
        _create(bound, tenant, **{"name": "k", **changes})
    assert refused.value.field == field
    assert bound.api_keys.list(tenant) == []


def test_a_key_never_holds_what_keys_may_not_have() -> None:
    forbidden = {
        Permission.MEMBERS_READ, Permission.MEMBERS_WRITE, Permission.KEYS_WRITE, Permission.BILLING_READ,
        Permission.BILLING_WRITE, Permission.TENANT_DELETE,
    }  # fmt: skip
    assert not key_permissions() & forbidden


def test_a_key_lives_for_a_year_unless_told_otherwise(bound: Database, tenant: str) -> None:
    row = _create(bound, tenant).row
    assert abs(row.expires_at - row.created_at - timedelta(days=365)) < timedelta(minutes=1)


def test_rotation_gives_a_second_live_key_and_no_third(bound: Database, tenant: str) -> None:
    first = _create(bound, tenant, expires_at=datetime.now(UTC) + timedelta(days=30))

    def rotate() -> api_keys.CreatedKey:
        return api_keys.rotate(bound, tenant, first.row.key_id, creator="user:u", creator_permissions=OWNER)

    second = rotate()
    assert (second.row.name, second.row.permissions) == (first.row.name, first.row.permissions)
    assert abs(second.row.expires_at - first.row.expires_at) < timedelta(minutes=1)
    assert [row.live for row in bound.api_keys.list(tenant)] == [True, True]
    with pytest.raises(api_keys.ApiKeyError, match="revoke the older one first"):
        rotate()
    api_keys.revoke(bound, tenant, first.row.key_id, by="user:u")
    with pytest.raises(api_keys.ApiKeyError, match="has ended"):
        rotate()


def test_who_may_less_than_a_key_cannot_rotate_it(bound: Database, tenant: str) -> None:
    created = _create(bound, tenant, permissions=[Permission.RUNS_LAUNCH])
    with pytest.raises(api_keys.ApiKeyError, match="Not yours to give"):
        api_keys.rotate(
            bound, tenant, created.row.key_id, creator="user:v", creator_permissions=permissions_of("viewer")
        )


def test_a_name_has_one_key_and_is_free_again_when_it_ended(
    database: Database, api_database: Database, tenant: str
) -> None:
    created = _create(api_database, tenant)
    with pytest.raises(api_keys.ApiKeyError, match="rotate that key"):
        _create(api_database, tenant)
    _ended(database, created.row.key_id)
    assert _create(api_database, tenant).row.live


def test_two_who_create_the_same_name_at_once_make_one_key(api_database: Database, tenant: str) -> None:
    def create(_: int) -> bool:
        try:
            with api_database.tenant(tenant) as scope:
                _create(api_database.within(scope), tenant)
        except api_keys.ApiKeyError:
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(create, range(4))) == [False, False, False, True]


def test_a_tenant_has_so_many_live_keys_and_a_place_is_free_again_when_one_ended(
    database: Database, api_database: Database, tenant: str
) -> None:
    first, second = (_create(api_database, tenant, name, at_most=2) for name in ("one", "two"))
    for _ in range(2):
        with pytest.raises(api_keys.TooManyKeysError, match="2 live keys.*revoke one that is not used"):
            _create(api_database, tenant, "three", at_most=2)
    api_keys.revoke(api_database, tenant, first.row.key_id, by="user:u")
    assert _create(api_database, tenant, "three", at_most=2).row.live
    _ended(database, second.row.key_id)
    assert _create(api_database, tenant, "four", at_most=2).row.live


def test_a_key_of_a_full_tenant_can_still_be_replaced(bound: Database, tenant: str) -> None:
    old = _create(bound, tenant, at_most=1)
    new = api_keys.rotate(bound, tenant, old.row.key_id, creator="user:u", creator_permissions=OWNER)
    api_keys.revoke(bound, tenant, old.row.key_id, by="user:u")
    assert [row.key_id for row in bound.api_keys.list(tenant) if row.live] == [new.row.key_id]
    with pytest.raises(api_keys.TooManyKeysError):
        _create(bound, tenant, "another", at_most=1)


def test_a_key_and_its_successor_take_one_place_of_the_limit(bound: Database, tenant: str) -> None:
    old = _create(bound, tenant, "one", at_most=2)
    api_keys.rotate(bound, tenant, old.row.key_id, creator="user:u", creator_permissions=OWNER)
    assert _create(bound, tenant, "two", at_most=2).row.live
    with pytest.raises(api_keys.TooManyKeysError):
        _create(bound, tenant, "three", at_most=2)


def test_many_who_create_at_once_do_not_pass_the_limit(api_database: Database, tenant: str) -> None:
    def create(number: int) -> bool:
        try:
            with api_database.tenant(tenant) as scope:
                _create(api_database.within(scope), tenant, f"key {number}", at_most=3)
        except api_keys.TooManyKeysError:
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(create, range(8))) == 3
    assert len(api_database.api_keys.list(tenant)) == 3


def test_a_revoked_or_expired_key_opens_nothing(database: Database, api_database: Database, tenant: str) -> None:
    revoked, expired = _create(api_database, tenant, "revoked"), _create(api_database, tenant, "expired")
    assert api_keys.revoke(api_database, tenant, revoked.row.key_id, by="user:u").state == "revoked"
    _ended(database, expired.row.key_id)
    for created in (revoked, expired):
        key = api_keys.parse(created.text)
        assert key is not None
        with api_database.requests.by_key(key.key_id, key.secret_sha256) as begun:
            assert begun is None


def test_every_change_of_a_key_is_an_event_and_a_repetition_is_none(bound: Database, tenant: str) -> None:
    created = _create(bound, tenant)
    api_keys.rotate(bound, tenant, created.row.key_id, creator="user:u", creator_permissions=OWNER)
    for _ in range(2):
        api_keys.revoke(bound, tenant, created.row.key_id, by="user:u")
    bodies = [json.loads(event.body) for event in bound.audit_log.events(tenant, after=0, limit=10)]
    assert [body["action"] for body in bodies] == ["keys:created", "keys:rotated", "keys:revoked"]
    assert bodies[1]["details"]["replaces"] == created.row.key_id
    assert bodies[2]["target"] == f"key:{created.row.key_id}"


def test_another_tenants_key_is_unknown(api_database: Database, tenant: str, new_tenant: Callable[[], str]) -> None:
    key_id = _create(api_database, tenant).row.key_id
    with pytest.raises(UnknownKeyError):
        api_keys.revoke(api_database, new_tenant(), key_id, by="user:u")
    assert api_database.api_keys.get(tenant, key_id).live


def test_whoever_finds_a_key_can_end_it(api_database: Database, tenant: str) -> None:
    created = _create(api_database, tenant)
    assert not api_keys.revoke_by_value(api_database, created.text[:-1] + "!")
    assert not api_keys.revoke_by_value(api_database, api_keys.generate()[0])
    assert api_keys.revoke_by_value(api_database, created.text)
    assert not api_keys.revoke_by_value(api_database, created.text)
    assert api_database.api_keys.get(tenant, created.row.key_id).revoked_by == "system"
    assert api_database.audit_log.newest(tenant, limit=1, action="keys:leaked")


def test_a_use_is_noted_once_a_minute(api_database: Database, tenant: str) -> None:
    key_id = _create(api_database, tenant).row.key_id
    now = [1000.0]
    uses = api_keys.KeyUses(clock=lambda: now[0])
    assert [uses.note(api_database, tenant, key_id) for _ in range(3)] == [True, False, False]
    first = api_database.api_keys.get(tenant, key_id).last_used_at
    now[0] += 59
    assert not uses.note(api_database, tenant, key_id)
    now[0] += 1
    assert uses.note(api_database, tenant, key_id)
    second = api_database.api_keys.get(tenant, key_id).last_used_at
    assert first is not None
    assert second is not None
    assert second > first


def test_keys_are_listed_page_by_page_newest_first(bound: Database, tenant: str) -> None:
    made = [_create(bound, tenant, f"k{number}").row for number in range(5)]
    newest = [row.key_id for row in sorted(made, key=lambda row: (row.created_at, row.key_id), reverse=True)]
    first = bound.api_keys.newest(tenant, after=None, limit=3)
    rest = bound.api_keys.newest(tenant, after=(first[-1].created_at, first[-1].key_id), limit=3)
    assert [row.key_id for row in [*first, *rest]] == newest


def test_the_command_line_creates_lists_and_revokes(
    database: Database, tenant: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(tmp_path_factory.mktemp("keys"), database.admin_engine.url)
    chosen.maximum_live_keys = 1
    monkeypatch.setattr(settings_module, "load_settings", lambda: chosen)

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(key_cli.app, arguments)
        return result.exit_code, result.output

    code, output = run("create", tenant, "--name", "ci", "--permission", "emissions:read")
    key = api_keys.parse(output.splitlines()[0])
    assert code == 0
    assert key is not None
    code, output = run("list", tenant)
    assert f"{key.key_id}  live" in output
    code, output = run("create", tenant, "--name", "too many", "--permission", "emissions:read")
    assert (code, "revoke one that is not used" in output) == (1, True)
    assert run("revoke", tenant, key.key_id) == (0, f"Revoked {key.key_id}.\n")
    assert f"{key.key_id}  revoked" in run("list", tenant)[1]
    assert run("revoke", tenant, "AAAAAAAAAA")[0] == 1
    code, output = run("create", tenant, "--name", "ci", "--permission", "keys:write")
    assert (code, "Not yours to give" in output) == (1, True)
    assert run("create", tenant, "--name", "ci", "--permission", "nonsense")[0] == 2
