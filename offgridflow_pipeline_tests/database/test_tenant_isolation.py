"""Tenants cannot see or change each other's rows, proved from the catalog and by attacks as the application.

The catalog gate is acceptance check 1 of the service reference; each promise is also broken on purpose.
"""

from __future__ import annotations

import ast
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa

import offgridflow_pipeline
from offgridflow_pipeline.database import catalog
from offgridflow_pipeline.database.changes import DetectedChange
from offgridflow_pipeline.database.connections import SealedSecret
from offgridflow_pipeline.database.engine import Database, UnknownTenantError, enter
from offgridflow_pipeline.settings import DEVELOPMENT_SECRET

DAY = date(2026, 9, 1)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
INSUFFICIENT_PRIVILEGE = "42501"


def _fill(database: Database, tenant: str) -> None:
    database.source_snapshots.record(
        tenant=tenant,
        run_id="r",
        snapshot={
            "connection_id": "c", "feed": "cur", "uri": "s3://b/k", "etag": "e", "sha256": "a" * 64,
            "size_bytes": 1, "row_count": 1, "source_version": "v", "billing_period": DAY,
        },
    )  # fmt: skip
    database.report_register.record(
        tenant=tenant, period="2026-09", kind="report_pdf", file_name="a.pdf", sha256="b" * 64,
        size_bytes=1, media_type="application/pdf", run_id="r",
    )  # fmt: skip
    database.scope_totals.replace(
        tenant,
        [DAY],
        [
            {
                "usage_date": DAY, "scope": "3", "s3_category": 1, "provider": "aws", "sub_account": "1",
                "service": "EC2", "region": "eu-west-1", "disposition": "mapped", "currency": "EUR",
                "line_count": 1, "billed_cost": Decimal(1), "kwh": Decimal(1), "co2e_lbm_kg": Decimal(1),
                "co2e_mbm_kg": Decimal(1), "embodied_kg": Decimal(1), "upstream_energy_kg": Decimal(1),
            }
        ],
    )  # fmt: skip
    database.check_ledger.record(run_id="r", check_name="a.b", partition_keys=[f"{DAY}|{tenant}"], failing={})
    database.connections.add(
        tenant, "payer", provider="aws", kind="cur2", uri="s3://b/k", secret_ref="sealed",
        sealed=SealedSecret("k", b"n" * 12, b"c" * 17, b"w" * 48, b"m" * 12),
    )  # fmt: skip
    database.feed_states.advance(tenant, "c", {"unit": {"version": "1"}}, observed_at=NOON, run_id="r")
    database.day_digests.record(
        tenant, "aws_billing_extract", days=[DAY], connections={"c": "1"}, digests={}, run_id="r"
    )
    database.period_closures.close(tenant, "2026-09", by="ada", today=NOON.date())
    change = DetectedChange(DAY, DAY, "new_version", "a" * 64, {"unit": {"version": "2"}})
    database.source_changes.record(tenant, "c", [change], observed_at=NOON)  # held: proposes a restatement


@pytest.fixture
def victim(database: Database, new_tenant: Callable[[], str]) -> str:
    slug = new_tenant()
    _fill(database, slug)
    return slug


@pytest.fixture
def attacker(database: Database, new_tenant: Callable[[], str]) -> str:
    slug = new_tenant()
    _fill(database, slug)
    return slug


def _tables(database: Database) -> list[str]:
    with database.admin_engine.connect() as connection:
        return catalog.tenant_tables(connection)


def test_every_promise_of_tenant_isolation_holds(database: Database) -> None:
    with database.admin_engine.connect() as connection:
        assert catalog.findings(connection) == []


def test_every_table_with_tenant_id_has_row_level_security_enabled_forced_and_a_policy(
    database: Database,
) -> None:
    with database.admin_engine.connect() as connection:
        rows = connection.execute(
            sa.text(
                "select t.table_schema || '.' || t.table_name, c.relrowsecurity, c.relforcerowsecurity,"
                " (select count(*) from pg_policies p where p.schemaname = t.table_schema"
                "  and p.tablename = t.table_name and p.permissive = 'RESTRICTIVE' and p.cmd = 'ALL'"
                "  and p.qual is not null and p.with_check is not null)"
                " from information_schema.columns k join information_schema.tables t"
                "  using (table_catalog, table_schema, table_name)"
                " join pg_class c on c.oid = cast(t.table_schema || '.' || t.table_name as regclass)"
                " where k.column_name = 'tenant_id' and t.table_type = 'BASE TABLE' order by 1"
            )
        ).all()
    assert {row[0] for row in rows} >= {
        "ogf.tenants", "ogf.source_snapshots", "ogf.report_register", "ogf.daily_scope_totals", "ogf.check_ledger",
        "ogf.cloud_connections", "ogf.sealed_secrets",
        "ogf.feed_states", "ogf.day_digests", "ogf.source_changes", "ogf.period_closures", "ogf.restatements",
    }  # fmt: skip
    assert [tuple(row[1:]) for row in rows] == [(True, True, 1)] * len(rows)
    assert [row[0] for row in rows] == _tables(database)


def test_the_application_role_owns_nothing_and_cannot_bypass_policies(database: Database) -> None:
    with database.application_engine.connect() as connection:
        role = connection.execute(
            sa.text(
                "select current_user, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication,"
                " (select count(*) from pg_class where relowner = r.oid), (select count(*) from pg_proc where"
                " proowner = r.oid), (select count(*) from pg_auth_members where member = r.oid)"
                " from pg_roles r where rolname = current_user"
            )
        ).one()
    assert tuple(role) == ("ogf_pipeline", False, False, False, False, False, 0, 0, 0)


BREACHES = {
    "row level security is not enabled on ogf.breach": "alter table ogf.breach disable row level security",
    "row level security is not forced on ogf.breach": "alter table ogf.breach no force row level security",
    "no restrictive tenant policy for reading and writing on ogf.breach": "drop policy tenant on ogf.breach",
    "no restrictive tenant policy for reading and writing on ogf.breach (weak)": (
        "alter policy tenant on ogf.breach with check (true)"
    ),
    "a policy opens rows to others than the application and the definer: ogf.breach (extra)": (
        "create policy extra on ogf.breach to public using (true)"
    ),
    "tenant_id may be null on ogf.breach": "alter table ogf.breach alter column tenant_id drop not null",
    "a key that does not begin with tenant_id tells tenants of each other's rows: ogf.leak": (
        "create unique index leak on ogf.breach (x)"
    ),
    "the application role may truncate, which ignores policies: ogf.breach": (
        "grant truncate on ogf.breach to ogf_pipeline"
    ),
    "the definer role may write ogf.breach": "grant insert on ogf.breach to ogf_definer",
    "everybody has a privilege on ogf.breach": "grant select on ogf.breach to public",
    "the owner is not the owner role: ogf.breach": "alter table ogf.breach owner to current_user",
    "the application role owns pg_class": "alter table ogf.breach owner to ogf_pipeline",
    "the role may go around row level security: ogf_pipeline": "alter role ogf_pipeline bypassrls",
    "the role must not log in: ogf_owner": "alter role ogf_owner login",
    "the application role is a member of ogf_owner": "grant ogf_owner to ogf_pipeline",
    "the view reads as its owner instead of its reader: ogf.pane": ("create view ogf.pane as select * from ogf.breach"),
    "a materialized view keeps rows outside of row level security: ogf.copy": (
        "create materialized view ogf.copy as select * from ogf.breach"
    ),
    "a security definer function has no fixed search_path, a wrong owner, or is open to everybody: ogf.door()": (
        "create function ogf.door() returns bigint language sql security definer as 'select count(*) from ogf.breach'"
    ),
}


@pytest.mark.parametrize("finding", BREACHES)
def test_a_broken_promise_is_found(database: Database, finding: str) -> None:
    with database.admin_engine.connect() as connection, connection.begin() as transaction:
        connection.exec_driver_sql("create table ogf.breach (tenant_id uuid not null, x int)")
        connection.exec_driver_sql("alter table ogf.breach owner to ogf_owner")
        connection.exec_driver_sql("call ogf.secure('ogf.breach')")
        assert catalog.findings(connection) == []
        connection.exec_driver_sql(BREACHES[finding])
        found = catalog.findings(connection)
        transaction.rollback()
    assert [f for f in found if f.startswith(finding.removesuffix(" (weak)"))], found


def test_without_a_tenant_no_row_of_any_table_is_visible(database: Database, victim: str) -> None:
    assert victim
    with database.application_engine.connect() as connection:
        for table in _tables(database):
            assert connection.scalar(sa.text(f"select count(*) from {table}")) == 0, table


def test_a_tenant_sees_its_own_rows_only_even_when_the_predicate_is_forgotten(
    database: Database, victim: str, attacker: str
) -> None:
    with database.tenant(attacker) as scope:
        for table in _tables(database):
            seen = scope.connection.scalars(sa.text(f"select distinct tenant_id from {table}")).all()
            assert seen == [scope.tenant_id], table
    assert database.tenants.get(victim).tenant_id != database.tenants.get(attacker).tenant_id


@pytest.fixture
def raid(database: Database, victim: str, attacker: str) -> Iterator[tuple[sa.Connection, uuid.UUID]]:
    """The attacker's open transaction and the victim's id."""
    target = database.tenants.get(victim).tenant_id
    with database.application_engine.connect() as connection:
        enter(connection, database.tenants.get(attacker).tenant_id)
        yield connection, target
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


def test_turning_row_security_off_fails_instead_of_showing_rows(
    raid: tuple[sa.Connection, uuid.UUID],
) -> None:
    connection, _ = raid
    connection.exec_driver_sql("set local row_security = off")
    with pytest.raises(sa.exc.ProgrammingError, match="would be affected by row-level security"):
        connection.exec_driver_sql("select * from ogf.tenants")


def test_after_a_failed_transaction_the_pooled_connection_knows_no_tenant(database: Database, victim: str) -> None:
    class Broken(Exception):
        pass

    pooled = Database(database.admin_engine.url, DEVELOPMENT_SECRET)
    with pytest.raises(Broken), pooled.tenant(victim) as scope:
        backend = scope.connection.scalar(sa.text("select pg_backend_pid()"))
        raise Broken
    with pooled.application_engine.connect() as connection:
        assert connection.scalar(sa.text("select pg_backend_pid()")) == backend
        assert connection.scalar(sa.text("select ogf.current_tenant()")) is None
        assert connection.scalar(sa.text("select count(*) from ogf.check_ledger")) == 0
    pooled.close()


def test_the_owner_role_is_bound_by_the_policies_too(database: Database, victim: str) -> None:
    assert victim
    with database.admin_engine.begin() as connection:
        connection.exec_driver_sql("set local role ogf_owner")
        assert connection.scalar(sa.text("select count(*) from ogf.check_ledger")) == 0


def test_the_definer_reads_tenants_and_nothing_else(database: Database, victim: str) -> None:
    assert victim
    with database.admin_engine.connect() as connection:
        for table in _tables(database):
            readable = connection.scalar(
                sa.text("select has_table_privilege('ogf_definer', :t, 'select')"), {"t": table}
            )
            assert readable == (table == "ogf.tenants"), table


def test_lookups_across_tenants_find_both_of_two_tenants(database: Database, victim: str, attacker: str) -> None:
    assert {victim, attacker} <= {tenant.slug for tenant in database.tenants.list()}
    assert database.tenants.get(victim).slug == victim


def test_dagsters_role_cannot_read_tenants(database: Database) -> None:
    url = sa.make_url(database.dagster_url()).set(database=database.admin_engine.url.database)
    engine = sa.create_engine(url)
    with pytest.raises(sa.exc.DBAPIError, match="permission denied"), engine.connect() as connection:
        connection.exec_driver_sql("select * from ogf.tenants")
    engine.dispose()


def test_an_unknown_tenant_opens_no_transaction(database: Database) -> None:
    with pytest.raises(UnknownTenantError, match="offgridflow tenant add nobody"), database.tenant("nobody"):
        pass


def test_sql_for_postgresql_is_written_in_the_database_room_only() -> None:
    package = Path(offgridflow_pipeline.__file__).parent
    strangers = [
        f"{path.relative_to(package)}:{node.lineno}"
        for path in package.rglob("*.py")
        if path.relative_to(package).parts[0] != "database"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        and any(
            name.split(".")[0] in {"sqlalchemy", "psycopg", "psycopg2"}
            for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
        )
    ]
    assert strangers == []
