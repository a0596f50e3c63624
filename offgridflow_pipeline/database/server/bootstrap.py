"""Roles and databases of a PostgreSQL server: what must exist before the first migration.

Idempotent and safe from several processes at once. Tables, policies and grants on them are migrations.
Works with a superuser and with an administrator who has CREATEROLE (and CREATEDB for new databases), as
managed servers give.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import sql

APPLICATION_DATABASE = "ogf"
DAGSTER_DATABASE = "dagster"
OWNER_ROLE = "ogf_owner"
DEFINER_ROLE = "ogf_definer"
APPLICATION_ROLE = "ogf_pipeline"
API_ROLE = "ogf_api"
DAGSTER_ROLE = "ogf_dagster"
MINIMUM_VERSION = 15

_LOCK = 7_301_001
_LOCK_WAIT = "60s"
_MAINTENANCE_DATABASE = "postgres"
_BUILTIN_LOCALE_VERSION = 17


class BootstrapError(RuntimeError):
    """Roles or databases cannot be made; the message says why and what to do."""


def prepare_application(admin_url: sa.URL, passwords: Mapping[str, str]) -> None:
    """Make the owner and definer roles, the login roles with their passwords, and the database that the URL names.

    Raises:
        BootstrapError: the server is out of reach, too old, or the URL's role may not do it.
    """
    with _server(admin_url) as connection:
        _role(connection, OWNER_ROLE, password=None)
        _role(connection, DEFINER_ROLE, password=None)
        for role, password in passwords.items():
            _role(connection, role, password=password)
        _member(connection, DEFINER_ROLE, of=OWNER_ROLE)
        for role in (OWNER_ROLE, DEFINER_ROLE):
            _member(connection, role, of=None)
        _database(connection, _name_of(admin_url), owner=None)


def prepare_dagster(admin_url: sa.URL, password: str) -> sa.URL:
    """Make Dagster's role and its own database beside the application's; returns its URL for psycopg2.

    The database is called `dagster`, or `<name>_dagster` when the application database is not `ogf`.

    Raises:
        BootstrapError: as for `prepare_application`.
    """
    application = _name_of(admin_url)
    name = DAGSTER_DATABASE if application == APPLICATION_DATABASE else f"{application}_{DAGSTER_DATABASE}"
    with _server(admin_url) as connection:
        _role(connection, DAGSTER_ROLE, password=password)
        _member(connection, DAGSTER_ROLE, of=None)
        _database(connection, name, owner=DAGSTER_ROLE)
    return admin_url.set(drivername="postgresql+psycopg2", username=DAGSTER_ROLE, password=password, database=name)


def driver_arguments(url: sa.URL) -> dict[str, Any]:
    """Arguments of `psycopg.connect` for a SQLAlchemy URL."""
    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

    _, arguments = PGDialect_psycopg().create_connect_args(url)  # type: ignore[no-untyped-call]
    return dict(arguments)


def _name_of(url: sa.URL) -> str:
    return url.database or APPLICATION_DATABASE


@contextmanager
def _server(admin_url: sa.URL) -> Iterator[psycopg.Connection[Any]]:
    """Autocommit connection to the server's maintenance database, one bootstrap at a time."""
    with _connection(admin_url) as connection:
        version = connection.info.server_version // 10_000
        if version < MINIMUM_VERSION:
            raise BootstrapError(f"The server is PostgreSQL {version}: OffGridFlow needs {MINIMUM_VERSION} or newer.")
        connection.execute(f"set lock_timeout = '{_LOCK_WAIT}'")
        try:
            connection.execute("select pg_advisory_lock(%s)", [_LOCK])
            yield connection
        except psycopg.errors.InsufficientPrivilege as error:
            raise BootstrapError(
                f"The role {admin_url.username!r} of DATABASE_URL may not prepare the server "
                f"({_first_line(error)}): name a superuser or a role with CREATEROLE and CREATEDB."
            ) from error


def _connection(admin_url: sa.URL) -> psycopg.Connection[Any]:
    """Managed servers may lack the maintenance database: then the database of the URL serves."""
    refusals: list[str] = []
    for name in dict.fromkeys((_MAINTENANCE_DATABASE, _name_of(admin_url))):
        arguments = driver_arguments(admin_url.set(database=name))
        try:
            return psycopg.connect(**{"connect_timeout": 10, **arguments}, autocommit=True)
        except psycopg.OperationalError as error:
            refusals.append(_first_line(error))
    address = admin_url.render_as_string(hide_password=True)
    raise BootstrapError(
        f"PostgreSQL is out of reach at {address}: {refusals[0]}. Check DATABASE_URL, the network and the password."
    )


def _role(connection: psycopg.Connection[Any], role: str, *, password: str | None) -> None:
    known = connection.execute("select rolsuper or rolbypassrls from pg_roles where rolname = %s", [role]).fetchone()
    if known is not None and known[0]:
        raise BootstrapError(
            f"The role {role} ignores row level security: run `alter role {role} nosuperuser nobypassrls`."
        )
    login: sql.Composable = sql.SQL("nologin")
    if password is None:
        if known is not None:
            return
    else:
        # The verifier, not the password: statements may be logged by the server.
        verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
        login = sql.SQL("login password {}").format(sql.Literal(verifier.decode()))
    verb = sql.SQL("create" if known is None else "alter")
    connection.execute(sql.SQL("{} role {} {}").format(verb, sql.Identifier(role), login))


def _member(connection: psycopg.Connection[Any], role: str, *, of: str | None) -> None:
    """Let `of` (None: the administrator, unless a superuser) act as `role`."""
    member = of or str(connection.execute("select current_user").fetchone()[0])  # type: ignore[index]
    known = connection.execute(
        "select m.rolsuper and %s or exists (select from pg_auth_members a"
        " join pg_roles r on r.oid = a.roleid where r.rolname = %s and a.member = m.oid"
        " and coalesce((to_jsonb(a) ->> 'set_option')::boolean, true))"
        " from pg_roles m where m.rolname = %s",
        [of is None, role, member],
    ).fetchone()
    if known is None or not known[0]:
        connection.execute(sql.SQL("grant {} to {}").format(sql.Identifier(role), sql.Identifier(member)))


def _database(connection: psycopg.Connection[Any], name: str, *, owner: str | None) -> None:
    if connection.execute("select from pg_database where datname = %s", [name]).fetchone() is None:
        _new_database(connection, name, owner=owner)
    if owner is None:
        for role in (OWNER_ROLE, APPLICATION_ROLE, API_ROLE):
            grant = sql.SQL("grant connect on database {} to {}")
            connection.execute(grant.format(sql.Identifier(name), sql.Identifier(role)))


def _new_database(connection: psycopg.Connection[Any], name: str, *, owner: str | None) -> None:
    template: sql.Composable = sql.SQL("template template0 encoding 'UTF8'")
    if connection.info.server_version // 10_000 >= _BUILTIN_LOCALE_VERSION:
        template += sql.SQL(" locale_provider builtin builtin_locale 'C.UTF-8'")  # equal on every machine
    belongs = sql.SQL("owner {}").format(sql.Identifier(owner)) if owner else sql.SQL("")
    database = sql.Identifier(name)
    connection.execute(sql.SQL("create database {} {} {}").format(database, belongs, template))
    connection.execute(sql.SQL("revoke all on database {} from public").format(database))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
