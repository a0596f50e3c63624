"""Proof from PostgreSQL's own catalog that tenants are kept apart: the promises of the migrations.

One statement per promise (service reference, 4.2, 4.3 and acceptance check 1); each returns the objects
that break it. Used by `offgridflow db verify` and by the tests, which also break each promise.
"""

from __future__ import annotations

import sqlalchemy as sa

from offgridflow_pipeline.database.bootstrap import APPLICATION_ROLE, DEFINER_ROLE, OWNER_ROLE

_NAME = "cast(cast(c.oid as regclass) as text)"
_RELATIONS = "pg_class c join pg_namespace n on n.oid = c.relnamespace and n.nspname !~ '^(pg_|information_schema$)'"
_HAS_TENANT = (
    "c.relkind in ('r', 'p') and exists (select from pg_attribute a"
    " where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)"
)
_TENANT_TABLES = f"select {_NAME} from {_RELATIONS} where {_HAS_TENANT}"
_SCOPE = "(tenant_id = ( SELECT ogf.current_tenant() AS current_tenant))"

_PROMISES = {
    "row level security is not enabled on": f"{_TENANT_TABLES} and not c.relrowsecurity",
    "row level security is not forced on": f"{_TENANT_TABLES} and not c.relforcerowsecurity",
    "no restrictive tenant policy for reading and writing on": (
        f"{_TENANT_TABLES} and not exists (select from pg_policy p"
        " where p.polrelid = c.oid and not p.polpermissive and p.polcmd = '*'"
        " and (select oid from pg_roles where rolname = :application) = any(p.polroles)"
        " and pg_get_expr(p.polqual, c.oid) = :scope and pg_get_expr(p.polwithcheck, c.oid) = :scope)"
    ),
    "tenant_id may be null on": (
        f"{_TENANT_TABLES} and exists (select from pg_attribute a"
        " where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attnotnull)"
    ),
    "a key that does not begin with tenant_id tells tenants of each other's rows:": (
        f"select cast(cast(i.indexrelid as regclass) as text) from {_RELATIONS}"
        f" join pg_index i on i.indrelid = c.oid where {_HAS_TENANT}"
        f" and i.indisunique and {_NAME} <> 'ogf.tenants'"
        " and 'tenant_id' <>"
        " (select attname from pg_attribute where attrelid = c.oid and attnum = i.indkey[0])"
    ),
    "a policy opens rows to others than the application and the definer:": (
        f"select {_NAME} || ' (' || p.polname || ')' from {_RELATIONS} join pg_policy p on p.polrelid = c.oid"
        f" where {_HAS_TENANT} and p.polpermissive and exists (select from unnest(p.polroles) granted"
        " left join pg_roles r on r.oid = granted"
        " where r.rolname is null or r.rolname not in (:application, :definer))"
    ),
    "the owner is not the owner role:": (
        f"select {_NAME} from {_RELATIONS} where c.relkind in ('r', 'p', 'v', 'm', 'S')"
        " and n.nspname = 'ogf' and pg_get_userbyid(c.relowner) <> :owner"
    ),
    "the application role owns": (
        "select cast(cast(d.classid as regclass) as text) || ' ' || d.objid"
        " from pg_shdepend d join pg_roles r on r.oid = d.refobjid"
        " where d.deptype = 'o' and r.rolname = :application"
        " and d.dbid in (0, (select oid from pg_database where datname = current_database()))"
    ),
    "the role may go around row level security:": (
        "select rolname from pg_roles where rolname in (:application, :owner, :definer)"
        " and (rolsuper or rolbypassrls or rolcreaterole or rolreplication)"
    ),
    "the role must not log in:": ("select rolname from pg_roles where rolname in (:owner, :definer) and rolcanlogin"),
    "the application role is a member of": (
        "select g.rolname from pg_auth_members m join pg_roles g on g.oid = m.roleid"
        " join pg_roles r on r.oid = m.member where r.rolname = :application"
    ),
    "the application role may truncate, which ignores policies:": (
        f"{_TENANT_TABLES} and has_table_privilege(:application, c.oid, 'truncate')"
    ),
    "the definer role may write": (
        f"{_TENANT_TABLES} and has_table_privilege(:definer, c.oid, 'insert, update, delete, truncate')"
    ),
    "everybody has a privilege on": (
        f"{_TENANT_TABLES} and exists (select from aclexplode(c.relacl) where grantee = 0)"
    ),
    "the view reads as its owner instead of its reader:": (
        f"select {_NAME} from {_RELATIONS} where n.nspname = 'ogf' and c.relkind = 'v'"
        " and not coalesce('security_invoker=true' = any(c.reloptions), false)"
    ),
    "a materialized view keeps rows outside of row level security:": (
        f"select {_NAME} from {_RELATIONS} where n.nspname = 'ogf' and c.relkind = 'm'"
    ),
    "a security definer function has no fixed search_path, a wrong owner, or is open to everybody:": (
        "select cast(cast(p.oid as regprocedure) as text) from pg_proc p"
        " join pg_namespace n on n.oid = p.pronamespace"
        " where n.nspname = 'ogf' and p.prosecdef and (pg_get_userbyid(p.proowner) <> :definer"
        " or not coalesce('search_path=ogf, pg_temp' = any(p.proconfig), false)"
        " or has_function_privilege('public', p.oid, 'execute'))"
    ),
}


def findings(connection: sa.Connection) -> list[str]:
    """Broken promises, one text per object; empty when tenants are kept apart."""
    parameters = {
        "application": APPLICATION_ROLE,
        "owner": OWNER_ROLE,
        "definer": DEFINER_ROLE,
        "scope": _SCOPE,
    }
    _name_in_full(connection)
    found: list[str] = []
    for promise, statement in _PROMISES.items():
        names = connection.execute(sa.text(statement), parameters).scalars()
        found += [f"{promise} {name}" for name in names]
    return sorted(found)


def tenant_tables(connection: sa.Connection) -> list[str]:
    """Every table that has a column tenant_id."""
    _name_in_full(connection)
    return list(connection.execute(sa.text(f"{_TENANT_TABLES} order by 1")).scalars())


def _name_in_full(connection: sa.Connection) -> None:
    """Make the server print schema-qualified names: an administrator called ogf would see them without."""
    connection.execute(sa.text("set local search_path = pg_catalog"))
