"""Proof from PostgreSQL's own catalog that tenants are kept apart: the promises of the migrations.

One statement per promise (service reference, 4.2, 4.3 and acceptance check 1); each returns the objects
that break it. Used by `offgridflow db verify` and by the tests, which also break each promise.
"""

from __future__ import annotations

import sqlalchemy as sa

from offgridflow_pipeline.database.server.bootstrap import API_ROLE, APPLICATION_ROLE, DEFINER_ROLE, OWNER_ROLE

_NAME = "cast(cast(c.oid as regclass) as text)"
_RELATIONS = "pg_class c join pg_namespace n on n.oid = c.relnamespace and n.nspname !~ '^(pg_|information_schema$)'"
_HAS_TENANT = (
    "c.relkind in ('r', 'p') and exists (select from pg_attribute a"
    " where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)"
)
_TENANT_TABLES = f"select {_NAME} from {_RELATIONS} where {_HAS_TENANT}"
_HAS_USER = (
    "c.relkind in ('r', 'p') and exists (select from pg_attribute a"
    " where a.attrelid = c.oid and a.attname = 'user_id' and not a.attisdropped) and not exists (select from"
    " pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)"
)
_USER_TABLES = f"select {_NAME} from {_RELATIONS} where n.nspname = 'ogf' and {_HAS_USER}"
_SCOPE = "(tenant_id = ( SELECT ogf.current_tenant() AS current_tenant))"
_OWN = "(user_id = ( SELECT ogf.current_user_id() AS current_user_id))"
#: Tables that the definer's functions append to; everywhere else it only reads.
_APPENDED = "'ogf.audit_events', 'ogf.audit_heads'"
#: Tables that the definer's functions read, some of them a few columns only.
LOOKED_UP = frozenset(
    f"ogf.{name}"
    for name in (
        "tenants", "users", "sessions", "memberships", "invitations", "password_resets", "break_glass_grants",
        "audit_heads", "tenant_states", "api_keys", "jobs", "email_outbox", "sync_ledger", "check_ledger",
        "cloud_connections", "daily_scope_totals", "data_versions", "report_register",
        "subscriptions",
    )
)  # fmt: skip
_WRITES = "insert, update, delete, truncate"
_WRITES_COLUMNS = "insert, update"


def _may(role: str, table_privileges: str, column_privileges: str) -> str:
    """Whether a role holds one of the privileges on the table or on any of its columns."""
    return (
        f"(has_table_privilege(:{role}, c.oid, '{table_privileges}')"
        f" or has_any_column_privilege(:{role}, c.oid, '{column_privileges}'))"
    )


_SECURED = f"select {_NAME} from {_RELATIONS} where ({_HAS_TENANT} or n.nspname = 'ogf' and {_HAS_USER})"

_PROMISES = {
    "row level security is not enabled on": f"{_TENANT_TABLES} and not c.relrowsecurity",
    "row level security is not forced on": f"{_TENANT_TABLES} and not c.relforcerowsecurity",
    "no restrictive tenant policy for reading and writing on": (
        f"{_TENANT_TABLES} and not exists (select from pg_policy p"
        " where p.polrelid = c.oid and not p.polpermissive and p.polcmd = '*'"
        " and p.polroles @> array(select oid from pg_roles where rolname = any(:logins))"
        " and pg_get_expr(p.polqual, c.oid) = :scope and pg_get_expr(p.polwithcheck, c.oid) = :scope)"
    ),
    "row level security is not forced on the users' table": (
        f"{_USER_TABLES} and not (c.relrowsecurity and c.relforcerowsecurity)"
    ),
    "other users' rows are open on": (
        f"{_USER_TABLES} and c.oid <> cast('ogf.users' as regclass) and not exists (select from pg_policy p"
        " where p.polrelid = c.oid and not p.polpermissive and p.polcmd = '*'"
        " and (select oid from pg_roles where rolname = :api) = any(p.polroles)"
        " and pg_get_expr(p.polqual, c.oid) = :own and pg_get_expr(p.polwithcheck, c.oid) = :own)"
    ),
    "the pipeline may read the credentials in": (
        f"{_USER_TABLES} and c.oid <> cast('ogf.users' as regclass)"
        f" and {_may('application', 'select, ' + _WRITES, 'select, ' + _WRITES_COLUMNS)}"
    ),
    "a policy shows people to strangers:": (
        "select 'ogf.users (' || p.polname || ')' from pg_policy p where p.polrelid = cast('ogf.users' as regclass)"
        " and exists (select from unnest(p.polroles) granted join pg_roles r on r.oid = granted"
        " where r.rolname = any(:logins)) and not coalesce(pg_get_expr(p.polqual, p.polrelid) = :own"
        " or p.polcmd = 'r' and pg_get_expr(p.polqual, p.polrelid) ~ 'tenant_id = .*ogf\\.current_tenant\\(\\)', false)"
    ),
    "the users' table opens rows to others than the sidecar and the definer:": (
        f"select {_NAME} || ' (' || p.polname || ')' from {_RELATIONS} join pg_policy p on p.polrelid = c.oid"
        f" where n.nspname = 'ogf' and {_HAS_USER} and p.polpermissive and exists (select from unnest(p.polroles)"
        " granted left join pg_roles r on r.oid = granted where r.rolname is null or r.rolname not in (:api, :definer)"
        " and not (c.oid = cast('ogf.users' as regclass) and r.rolname = :application))"
    ),
    "user_id may be null on": (
        f"{_USER_TABLES} and exists (select from pg_attribute a"
        " where a.attrelid = c.oid and a.attname = 'user_id' and not a.attnotnull)"
    ),
    "a foreign key reaches rows of other tenants:": (
        f"select {_NAME} || ' (' || k.conname || ')' from {_RELATIONS} join pg_constraint k on k.conrelid = c.oid"
        f" where {_HAS_TENANT} and k.contype = 'f' and k.confrelid <> cast('ogf.tenants' as regclass)"
        " and exists (select from pg_attribute a where a.attrelid = k.confrelid and a.attname = 'tenant_id')"
        " and not exists (select from unnest(k.conkey, k.confkey) as pair (mine, theirs)"
        " join pg_attribute m on m.attrelid = k.conrelid and m.attnum = pair.mine"
        " join pg_attribute t on t.attrelid = k.confrelid and t.attnum = pair.theirs"
        " where m.attname = 'tenant_id' and t.attname = 'tenant_id')"
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
        " where r.rolname is null or r.rolname not in (:application, :api, :definer))"
    ),
    "the owner is not the owner role:": (
        f"select {_NAME} from {_RELATIONS} where c.relkind in ('r', 'p', 'v', 'm', 'S')"
        " and n.nspname = 'ogf' and pg_get_userbyid(c.relowner) <> :owner"
    ),
    "an application role owns": (
        "select cast(cast(d.classid as regclass) as text) || ' ' || d.objid"
        " from pg_shdepend d join pg_roles r on r.oid = d.refobjid"
        " where d.deptype = 'o' and r.rolname = any(:logins)"
        " and d.dbid in (0, (select oid from pg_database where datname = current_database()))"
    ),
    "the role may go around row level security:": (
        "select rolname from pg_roles where rolname = any(:roles)"
        " and (rolsuper or rolbypassrls or rolcreaterole or rolreplication)"
    ),
    "the role must not log in:": ("select rolname from pg_roles where rolname in (:owner, :definer) and rolcanlogin"),
    "an application role is a member of": (
        "select g.rolname from pg_auth_members m join pg_roles g on g.oid = m.roleid"
        " join pg_roles r on r.oid = m.member where r.rolname = any(:logins)"
    ),
    "an application role may truncate, which ignores policies:": (
        f"{_SECURED} and (has_table_privilege(:application, c.oid, 'truncate')"
        " or has_table_privilege(:api, c.oid, 'truncate'))"
    ),
    "the definer role may write": (
        f"{_SECURED} and {_NAME} not in ({_APPENDED}) and {_may('definer', _WRITES, _WRITES_COLUMNS)}"
    ),
    "the definer role reads what none of its functions needs:": (
        f"{_SECURED} and {_NAME} <> all(:looked_up) and {_may('definer', 'select', 'select')}"
    ),
    "an application role may write the audit log past its function:": (
        f"{_TENANT_TABLES} and {_NAME} in ({_APPENDED})"
        f" and ({_may('application', _WRITES, _WRITES_COLUMNS)} or {_may('api', _WRITES, _WRITES_COLUMNS)})"
    ),
    "everybody has a privilege on": (
        f"select {_NAME} from {_RELATIONS} where n.nspname = 'ogf' and c.relkind in ('r', 'p', 'v', 'm', 'S')"
        " and exists (select from aclexplode(c.relacl) where grantee = 0)"
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
        "api": API_ROLE,
        "logins": [APPLICATION_ROLE, API_ROLE],
        "roles": [APPLICATION_ROLE, API_ROLE, OWNER_ROLE, DEFINER_ROLE],
        "owner": OWNER_ROLE,
        "definer": DEFINER_ROLE,
        "scope": _SCOPE,
        "own": _OWN,
        "looked_up": sorted(LOOKED_UP),
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


def user_tables(connection: sa.Connection) -> list[str]:
    """Every table of people: with a column user_id and none tenant_id."""
    _name_in_full(connection)
    return list(connection.execute(sa.text(f"{_USER_TABLES} order by 1")).scalars())


def _name_in_full(connection: sa.Connection) -> None:
    """Make the server print schema-qualified names: an administrator called ogf would see them without."""
    connection.execute(sa.text("set local search_path = pg_catalog"))
