"""The catalog gate: what PostgreSQL itself says about tenants and people being kept apart.

Acceptance check 1 of the service reference. Each promise is also broken on purpose, for it must be found then.
"""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.server import catalog
from offgridflow_pipeline_tests.database.filled import SHARED_TABLES, TENANT_ROWS, USER_ROWS

#: Written by the audit log's own function.
AUDITED = ("audit_heads", "audit_events")


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
    assert {row[0] for row in rows} == {f"ogf.{name}" for name in [*TENANT_ROWS, *AUDITED, "tenants"]}
    assert [tuple(row[1:]) for row in rows] == [(True, True, 1)] * len(rows)


def test_every_table_belongs_to_tenants_to_people_or_is_shared_on_purpose(database: Database) -> None:
    with database.admin_engine.connect() as connection:
        every = set(
            connection.scalars(
                sa.text(
                    "select relname from pg_class where relnamespace = 'ogf'::regnamespace and relkind in ('r', 'p')"
                )
            )
        )
        tenants, people = catalog.tenant_tables(connection), catalog.user_tables(connection)
    assert people == sorted(f"ogf.{name}" for name in [*USER_ROWS, "users"])
    assert {f"ogf.{name}" for name in every - SHARED_TABLES} == {*tenants, *people}
    assert every >= SHARED_TABLES


@pytest.mark.parametrize("role", ["ogf_pipeline", "ogf_api"])
def test_a_login_role_owns_nothing_and_cannot_bypass_policies(
    database: Database, api_database: Database, role: str
) -> None:
    opened = {"ogf_pipeline": database, "ogf_api": api_database}[role]
    with opened.application_engine.connect() as connection:
        found = connection.execute(
            sa.text(
                "select current_user, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication,"
                " (select count(*) from pg_class where relowner = r.oid), (select count(*) from pg_proc where"
                " proowner = r.oid), (select count(*) from pg_auth_members where member = r.oid)"
                " from pg_roles r where rolname = current_user"
            )
        ).one()
    assert tuple(found) == (role, False, False, False, False, False, 0, 0, 0)


#: What is found -> what was done.
BREACHES = {
    "row level security is not enabled on ogf.breach": "alter table ogf.breach disable row level security",
    "row level security is not forced on ogf.breach": "alter table ogf.breach no force row level security",
    "no restrictive tenant policy for reading and writing on ogf.breach": "drop policy tenant on ogf.breach",
    "no restrictive tenant policy for reading and writing on ogf.breach (weak)": (
        "alter policy tenant on ogf.breach with check (true)"
    ),
    "no restrictive tenant policy for reading and writing on ogf.breach (one role)": (
        "alter policy tenant on ogf.breach to ogf_pipeline"
    ),
    "a policy opens rows to others than the application and the definer: ogf.breach (extra)": (
        "create policy extra on ogf.breach to public using (true)"
    ),
    "tenant_id may be null on ogf.breach": "alter table ogf.breach alter column tenant_id drop not null",
    "a key that does not begin with tenant_id tells tenants of each other's rows: ogf.leak": (
        "create unique index leak on ogf.breach (x)"
    ),
    "an application role may truncate, which ignores policies: ogf.breach": (
        "grant truncate on ogf.breach to ogf_pipeline"
    ),
    "an application role may truncate, which ignores policies: ogf.diary": "grant truncate on ogf.diary to ogf_api",
    "an application role may write the audit log past its function: ogf.audit_events": (
        "grant insert (body) on ogf.audit_events to ogf_api"
    ),
    "an application role may write the audit log past its function: ogf.audit_heads": (
        "grant update on ogf.audit_heads to ogf_pipeline"
    ),
    "the definer role may write ogf.breach": "grant insert on ogf.breach to ogf_definer",
    "the definer role may write ogf.diary": "grant update (x) on ogf.diary to ogf_definer",
    "the definer role reads what none of its functions needs: ogf.breach": (
        "grant select (x) on ogf.breach to ogf_definer"
    ),
    "the definer role reads what none of its functions needs: ogf.diary": "grant select on ogf.diary to ogf_definer",
    "row level security is not forced on the users' table ogf.diary": (
        "alter table ogf.diary no force row level security"
    ),
    "row level security is not forced on the users' table ogf.users": (
        "alter table ogf.users disable row level security"
    ),
    "other users' rows are open on ogf.diary": "drop policy own on ogf.diary",
    "other users' rows are open on ogf.diary (weak)": "alter policy own on ogf.diary with check (true)",
    "the users' table opens rows to others than the sidecar and the definer: ogf.diary (extra)": (
        "create policy extra on ogf.diary to ogf_pipeline using (true)"
    ),
    "the pipeline may read the credentials in ogf.diary": "grant select (x) on ogf.diary to ogf_pipeline",
    "a policy shows people to strangers: ogf.users (member)": "alter policy member on ogf.users using (true)",
    "a policy shows people to strangers: ogf.users (own)": "alter policy own on ogf.users using (true)",
    "a policy shows people to strangers: ogf.users (extra)": (
        "create policy extra on ogf.users to ogf_api using (true)"
    ),
    "user_id may be null on ogf.diary": "alter table ogf.diary alter column user_id drop not null",
    "a foreign key reaches rows of other tenants: ogf.breach (stolen)": (
        "create table ogf.other (tenant_id uuid not null, y int unique);"
        " alter table ogf.breach add constraint stolen foreign key (x) references ogf.other (y)"
    ),
    "everybody has a privilege on ogf.breach": "grant select on ogf.breach to public",
    "everybody has a privilege on ogf.rate_buckets": "grant select on ogf.rate_buckets to public",
    "the owner is not the owner role: ogf.breach": "alter table ogf.breach owner to current_user",
    "an application role owns pg_class": "alter table ogf.breach owner to ogf_pipeline",
    "the role may go around row level security: ogf_pipeline": "alter role ogf_pipeline bypassrls",
    "the role must not log in: ogf_owner": "alter role ogf_owner login",
    "an application role is a member of ogf_owner": "grant ogf_owner to ogf_pipeline",
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
        connection.exec_driver_sql("create table ogf.diary (user_id uuid not null, x int)")
        connection.exec_driver_sql("alter table ogf.diary owner to ogf_owner")
        connection.exec_driver_sql("call ogf.secure_user('ogf.diary')")
        assert catalog.findings(connection) == []
        connection.exec_driver_sql(BREACHES[finding])
        found = catalog.findings(connection)
        transaction.rollback()
    assert [f for f in found if f.startswith(finding.removesuffix(" (weak)").removesuffix(" (one role)"))], found
