"""Tenants and people cannot see or change each other's rows: attacks as each of the two login roles.

Both tenants and both people have a row in every table. What PostgreSQL's catalog says is in `test_isolation_catalog`.
"""

from __future__ import annotations

import ast
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

import offgridflow_pipeline
from offgridflow_pipeline.database.engine import Database, UnknownTenantError, enter, enter_user
from offgridflow_pipeline.database.server import catalog
from offgridflow_pipeline_tests.database.filled import Filled, fill

INSUFFICIENT_PRIVILEGE = "42501"


@pytest.fixture
def victim(database: Database, new_tenant: Callable[[], str]) -> Filled:
    return fill(database, new_tenant())


@pytest.fixture
def attacker(database: Database, new_tenant: Callable[[], str]) -> Filled:
    return fill(database, new_tenant())


@pytest.fixture(params=["ogf_pipeline", "ogf_api"])
def opened(request: pytest.FixtureRequest, database: Database, api_database: Database) -> Database:
    """The database as each of the login roles."""
    return {"ogf_pipeline": database, "ogf_api": api_database}[request.param]


def _readable(connection: sa.Connection, tables: Callable[[sa.Connection], list[str]]) -> list[str]:
    """The tables of which the role of the connection may read at least one column."""
    return [
        table
        for table in tables(connection)
        if connection.scalar(sa.text("select has_any_column_privilege(:table, 'select')"), {"table": table})
    ]


def test_without_a_tenant_and_a_user_no_row_of_any_table_is_visible(opened: Database, victim: Filled) -> None:
    assert victim
    with opened.application_engine.connect() as connection:
        for table in [*_readable(connection, catalog.tenant_tables), *_readable(connection, catalog.user_tables)]:
            assert connection.scalar(sa.text(f"select count(*) from {table}")) == 0, table


def test_a_tenant_sees_its_own_rows_only_even_when_the_predicate_is_forgotten(
    opened: Database, victim: Filled, attacker: Filled
) -> None:
    assert victim
    with opened.tenant(attacker.slug) as scope:
        tables = _readable(scope.connection, catalog.tenant_tables)
        assert len(tables) > 15
        for table in tables:
            seen = scope.connection.scalars(sa.text(f"select distinct tenant_id from {table}")).all()
            assert seen == [attacker.tenant_id], table
        people = scope.connection.scalars(sa.text("select user_id from ogf.users")).all()
        assert people == [attacker.user_id]


def test_a_person_sees_their_own_rows_only_even_within_a_tenant(
    api_database: Database, victim: Filled, attacker: Filled
) -> None:
    with api_database.tenant(victim.slug) as scope:
        enter_user(scope.connection, attacker.user_id)
        tables = _readable(scope.connection, catalog.user_tables)
        assert len(tables) == 6
        for table in tables:
            seen = set(scope.connection.scalars(sa.text(f"select user_id from {table}")).all())
            members = {victim.user_id} if table == "ogf.users" else set()
            assert seen == {attacker.user_id} | members, table


def test_a_user_setting_opens_no_tenant_and_a_tenant_setting_no_person(opened: Database, attacker: Filled) -> None:
    with opened.user(attacker.user_id) as scope:
        for table in _readable(scope.connection, catalog.tenant_tables):
            assert scope.connection.scalar(sa.text(f"select count(*) from {table}")) == 0, table
    with opened.tenant(attacker.slug) as scope:
        for table in _readable(scope.connection, catalog.user_tables):
            if table != "ogf.users":
                assert scope.connection.scalar(sa.text(f"select count(*) from {table}")) == 0, table


def test_the_pipeline_reads_no_credential_of_anybody(database: Database) -> None:
    with database.application_engine.connect() as connection:
        assert _readable(connection, catalog.user_tables) == ["ogf.users"]


def test_the_owner_role_is_bound_by_the_policies_too(database: Database, victim: Filled) -> None:
    assert victim
    with database.admin_engine.begin() as connection:
        # What the definer looks up its owner sees too, who made its functions.
        tables = {*catalog.tenant_tables(connection), *catalog.user_tables(connection)} - catalog.LOOKED_UP
        connection.exec_driver_sql("set local role ogf_owner")
        assert "ogf.credentials" in tables
        for table in tables:
            assert connection.scalar(sa.text(f"select count(*) from {table}")) == 0, table


@pytest.fixture
def raid(database: Database, victim: Filled, attacker: Filled) -> Iterator[tuple[sa.Connection, uuid.UUID]]:
    """The attacker's open transaction as ogf_pipeline, and the victim's id."""
    with database.application_engine.connect() as connection:
        enter(connection, attacker.tenant_id)
        yield connection, victim.tenant_id
        connection.rollback()


@pytest.fixture
def api_raid(api_database: Database, victim: Filled, attacker: Filled) -> Iterator[tuple[sa.Connection, Filled]]:
    """The attacker's open transaction as ogf_api, as a person of the attacking tenant; and the victim."""
    with api_database.application_engine.connect() as connection:
        enter(connection, attacker.tenant_id)
        enter_user(connection, attacker.user_id)
        yield connection, victim
        connection.rollback()


def test_inserting_into_another_tenant_is_refused(raid: tuple[sa.Connection, uuid.UUID]) -> None:
    connection, target = raid
    with pytest.raises(sa.exc.ProgrammingError) as refused:
        connection.execute(
            sa.text(
                "insert into ogf.check_ledger (tenant_id, run_id, check_name, partition_key, passed, severity)"
                " values (:victim, 'r', 'c', 'p', true, 'ERROR')"
            ),
            {"victim": target},
        )
    assert refused.value.orig.sqlstate == INSUFFICIENT_PRIVILEGE


def test_moving_a_row_to_another_tenant_is_refused(raid: tuple[sa.Connection, uuid.UUID]) -> None:
    connection, target = raid
    with pytest.raises(sa.exc.ProgrammingError) as refused:
        connection.execute(sa.text("update ogf.report_register set tenant_id = :victim"), {"victim": target})
    assert refused.value.orig.sqlstate == INSUFFICIENT_PRIVILEGE


@pytest.mark.parametrize(
    "attack",
    [
        "delete from ogf.daily_scope_totals where tenant_id = :victim",
        "update ogf.report_register set status = 'superseded' where tenant_id = :victim",
        "update ogf.source_snapshots set last_run_id = 'stolen' where tenant_id = :victim",
        "update ogf.tenants set display_name = 'stolen' where tenant_id = :victim",
        "update ogf.cloud_connections set uri = 's3://stolen' where tenant_id = :victim",
        "delete from ogf.cloud_connections where tenant_id = :victim",
        "update ogf.sealed_secrets set key_id = 'stolen' where tenant_id = :victim",
        "delete from ogf.sealed_secrets where tenant_id = :victim",
        "update ogf.restatements set status = 'approved', decided_by = 'me' where tenant_id = :victim",
        "update ogf.period_closures set reopened_by = 'me' where tenant_id = :victim",
        "update ogf.source_changes set status = 'pending' where tenant_id = :victim",
        "update ogf.feed_states set fingerprint = '{}' where tenant_id = :victim",
    ],
)
def test_changing_another_tenants_rows_touches_none(raid: tuple[sa.Connection, uuid.UUID], attack: str) -> None:
    connection, target = raid
    assert connection.execute(sa.text(attack), {"victim": target}).rowcount == 0


@pytest.mark.parametrize(
    "attack",
    [
        "truncate ogf.daily_scope_totals",
        "delete from ogf.tenants",
        "delete from ogf.check_ledger",
        "update ogf.check_ledger set passed = true",
        "delete from ogf.period_closures",
        "update ogf.period_closures set closed_by = 'me'",
        "delete from ogf.restatements",
        "update ogf.restatements set month = '2026-10'",
        "update ogf.source_changes set observed = '{}'",
        "update ogf.report_register set sha256 = repeat('0', 64)",
        "update ogf.tenants set slug = 'other'",
        "update ogf.cloud_connections set connection_id = 'other'",
        "update ogf.sealed_secrets set connection_id = 'other'",
        "update ogf.sealed_secrets set created_at = now()",
        "alter table ogf.tenants disable row level security",
        "drop policy tenant on ogf.tenants",
        "create policy mine on ogf.tenants using (true)",
        "alter table ogf.tenants owner to ogf_pipeline",
        "create table ogf.mine (x int)",
        "create view ogf.mine as select 1",
        "call ogf.secure('ogf.tenants')",
        "set role ogf_owner",
        "set role ogf_definer",
        "set session authorization ogf_owner",
        "insert into ogf.schema_migration values (99, 'x', 'x', now(), 'x', 'x', 0)",
        "create or replace function ogf.current_tenant() returns uuid language sql as 'select null::uuid'",
    ],
)
def test_the_application_role_may_not(raid: tuple[sa.Connection, uuid.UUID], attack: str) -> None:
    connection, _ = raid
    with pytest.raises(sa.exc.ProgrammingError) as refused:
        connection.exec_driver_sql(attack)
    assert refused.value.orig.sqlstate == INSUFFICIENT_PRIVILEGE


@pytest.mark.parametrize(
    "attack",
    [
        "update ogf.sessions set revoked_at = now() where user_id = :victim",
        "delete from ogf.recovery_codes where user_id = :victim",
        "update ogf.credentials set password_hash = '$argon2id$mine' where user_id = :victim",
        "update ogf.password_resets set token_hash = sha256('mine') where user_id = :victim",
        "update ogf.users set locale = 'de' where user_id = :victim",
        "delete from ogf.gate_entries where user_id = :victim",
        "delete from ogf.memberships where tenant_id = :tenant",
        "update ogf.memberships set role = 'owner' where tenant_id = :tenant",
        "update ogf.invitations set token_hash = sha256('mine') where tenant_id = :tenant",
        "update ogf.api_keys set revoked_at = now() where tenant_id = :tenant",
        "update ogf.jobs set status = 'cancelled', completed_at = now() where tenant_id = :tenant",
        "update ogf.reports set state = 'reviewed' where tenant_id = :tenant",
        "delete from ogf.email_outbox where tenant_id = :tenant",
        "delete from ogf.idempotency_keys where tenant_id = :tenant",
        "delete from ogf.cloud_connections where tenant_id = :tenant",
        "delete from ogf.sealed_secrets where tenant_id = :tenant",
    ],
)
def test_a_person_changes_nothing_of_another_person_or_tenant(
    api_raid: tuple[sa.Connection, Filled], attack: str
) -> None:
    connection, victim = api_raid
    values = {"victim": victim.user_id, "tenant": victim.tenant_id}
    assert connection.execute(sa.text(attack), values).rowcount == 0


@pytest.mark.parametrize(
    "attack",
    [
        "insert into ogf.memberships (tenant_id, user_id, role, granted_by) values (:tenant, :me, 'owner', 'me')",
        "insert into ogf.sessions (user_id, token_hmac, expires_at) values (:victim, sha256('mine'), '2999-01-01')",
        "insert into ogf.credentials (user_id, password_hash) values (:victim, '$argon2id$')",
        "insert into ogf.api_keys (tenant_id, key_id, secret_sha256, name, permissions, created_by, expires_at)"
        " values (:tenant, 'AAAAAAAAAA', sha256('mine'), 'mine', '{emissions:read}', 'me', '2999-01-01')",
        "update ogf.memberships set tenant_id = :tenant",
        "update ogf.sessions set user_id = :victim",
        "update ogf.users set platform_role = 'platform_operator'",
        "insert into ogf.users (email, display_name, platform_role) values ('a@b.c', 'A', 'platform_operator')",
        "insert into ogf.break_glass_grants (tenant_id, user_id, reason, granted_by, expires_at)"
        " values (:tenant, :me, 'curious', 'me', now() + interval '1 hour')",
        "update ogf.api_keys set permissions = '{keys:write}'",
        "update ogf.api_keys set expires_at = '2999-01-01'",
        "update ogf.sessions set expires_at = '2999-01-01'",
        "update ogf.tenant_states set plan = 'enterprise'",
        "insert into ogf.audit_heads (tenant_id) values (:tenant)",
        "insert into ogf.audit_events (tenant_id, seq, body, prev_hash, hash)"
        " values (:tenant, 9, '{}', sha256(''), sha256(''))",
        "delete from ogf.audit_events",
        "insert into ogf.audit_anchors values ('2001-01-01', now(), '{}', 'k', ''::bytea)",
        "delete from ogf.daily_scope_totals",
        "insert into ogf.report_register select * from ogf.report_register",
        "select ogf.user_directory()",
        "select ogf.tenant_directory()",
        "select ogf.audit_chain_heads()",
        "set role ogf_pipeline",
        "set role ogf_owner",
        "alter table ogf.users disable row level security",
        "truncate ogf.sessions",
    ],
)
def test_the_sidecars_role_may_not(api_raid: tuple[sa.Connection, Filled], attacker: Filled, attack: str) -> None:
    connection, victim = api_raid
    values = {"victim": victim.user_id, "tenant": victim.tenant_id, "me": attacker.user_id}
    with pytest.raises(sa.exc.ProgrammingError) as refused:
        connection.execute(sa.text(attack), values)
    assert refused.value.orig.sqlstate == INSUFFICIENT_PRIVILEGE


def test_turning_row_security_off_fails_instead_of_showing_rows(
    raid: tuple[sa.Connection, uuid.UUID],
) -> None:
    connection, _ = raid
    connection.exec_driver_sql("set local row_security = off")
    with pytest.raises(sa.exc.ProgrammingError, match="would be affected by row-level security"):
        connection.exec_driver_sql("select * from ogf.tenants")


def test_after_a_failed_transaction_the_pooled_connection_knows_no_tenant_and_no_user(
    database: Database, victim: Filled
) -> None:
    class Broken(Exception):
        pass

    pooled = database.connected_as("ogf_api")
    with pytest.raises(Broken), pooled.tenant(victim.slug) as scope:
        enter_user(scope.connection, victim.user_id)
        backend = scope.connection.scalar(sa.text("select pg_backend_pid()"))
        raise Broken
    with pooled.application_engine.connect() as connection:
        assert connection.scalar(sa.text("select pg_backend_pid()")) == backend
        assert connection.scalar(sa.text("select ogf.current_tenant()")) is None
        assert connection.scalar(sa.text("select ogf.current_user_id()")) is None
        assert connection.scalar(sa.text("select count(*) from ogf.sessions")) == 0
        assert connection.scalar(sa.text("select count(*) from ogf.check_ledger")) == 0
    pooled.close()


def test_dagsters_role_cannot_read_tenants(database: Database) -> None:
    url = sa.make_url(database.dagster_url()).set(database=database.admin_engine.url.database)
    engine = sa.create_engine(url)
    with pytest.raises(sa.exc.DBAPIError, match="permission denied"), engine.connect() as connection:
        connection.exec_driver_sql("select * from ogf.tenants")
    engine.dispose()


def test_an_unknown_tenant_opens_no_transaction(database: Database) -> None:
    with pytest.raises(UnknownTenantError, match="offgridflow tenant add nobody"), database.tenant("nobody"):
        pass


#: What other rooms may take from SQLAlchemy: to watch the engine and to survive its errors, never to write SQL.
WATCHING = {"Connection", "Engine", "ExceptionContext", "QueuePool", "event", "exc"}


def test_sql_for_postgresql_is_written_in_the_database_room_only() -> None:
    package = Path(offgridflow_pipeline.__file__).parent
    strangers = [
        f"{path.relative_to(package)}:{line}"
        for path in package.rglob("*.py")
        if path.relative_to(package).parts[0] != "database"
        for line in _sql_uses(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert strangers == []


def _sql_uses(tree: ast.Module) -> Iterator[int]:
    """Lines that import a driver, take a maker of statements from SQLAlchemy, or hand a driver its text."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                imported = {alias.name for alias in names}
                wrong = any(name.split(".")[0] in {"psycopg", "psycopg2"} for name in imported)
                wrong |= any(a.name == "sqlalchemy" and a.asname != "sa" for a in names)
            case ast.ImportFrom(module=str(module)):
                root = module.split(".")[0]
                wrong = root in {"psycopg", "psycopg2"} or (root == "sqlalchemy" and module != "sqlalchemy.exc")
            case ast.Attribute(value=ast.Name(id="sa"), attr=name):
                wrong = name not in WATCHING
            case ast.Attribute(attr=name):
                wrong = name == "exec_driver_sql"
            case _:
                wrong = False
        if wrong:
            yield node.lineno


@pytest.mark.parametrize(
    "line",
    [
        "import sqlalchemy", "import sqlalchemy as sa; sa.text('select 1')", "from sqlalchemy import text",
        "import psycopg", "from psycopg import sql", "connection.exec_driver_sql('select 1')",
    ],
)  # fmt: skip
def test_each_way_of_writing_sql_elsewhere_is_found(line: str) -> None:
    assert list(_sql_uses(ast.parse(line)))
