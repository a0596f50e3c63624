"""Connections to PostgreSQL: administrative for migrations, and one under row level security.

The application connects as `ogf_pipeline`, which owns nothing and cannot bypass policies; a tenant
transaction sets the tenant for its own duration only. Roles are made in `bootstrap`, tables in `sql/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeVar
from uuid import UUID

import sqlalchemy as sa

from offgridflow_pipeline.database.registry import Repositories
from offgridflow_pipeline.database.server import bootstrap, embedded
from offgridflow_pipeline.database.server.bootstrap import (
    API_ROLE,
    APPLICATION_DATABASE,
    APPLICATION_ROLE,
    BootstrapError,
)
from offgridflow_pipeline.database.server.migrations import (
    LEDGER,
    Applied,
    MigrationError,
    PendingMigrationError,
    migrate,
    require_current,
)
from offgridflow_pipeline.database.server.pooling import replace_dead_connections

if TYPE_CHECKING:
    from offgridflow_pipeline.settings import Settings

TENANT_SETTING = "offgridflow.tenant"
USER_SETTING = "offgridflow.user"
#: Scope of what belongs to no tenant: the platform's own audit chain and mail to persons.
PLATFORM = UUID(int=0)
PLATFORM_SLUG = "platform"
POOL_SIZE = 5
COUNTING_POOL_SIZE = 2
CONNECT_TIMEOUT_SECONDS = 10
IDLE_TRANSACTION_TIMEOUT = "5min"


class DatabaseError(RuntimeError):
    """The database cannot be used; the message says why and what to do."""


class UnknownTenantError(LookupError):
    """No tenant has that slug."""


class ForeignScopeError(RuntimeError):
    """A transaction that is bound to one tenant or user was asked for another: a fault of the program."""


@dataclass(frozen=True, slots=True)
class Login:
    """A role that processes connect as, its password, and the bounds of its statements."""

    role: str
    password: str = field(repr=False)
    statement_timeout: str = "5min"
    lock_timeout: str = "1min"
    pool_timeout_seconds: int = 30


@dataclass(frozen=True, slots=True)
class TenantScope:
    """An open transaction that sees and writes the rows of one tenant only."""

    connection: sa.Connection
    tenant_id: UUID
    slug: str


@dataclass(frozen=True, slots=True)
class UserScope:
    """An open transaction that sees and writes what belongs to one user: credentials, sessions, resets."""

    connection: sa.Connection
    user_id: UUID


class Database(Repositories):
    """Engines and repositories of one database; connects on first use."""

    def __init__(self, admin_url: sa.URL, logins: Sequence[Login]) -> None:
        """The first of the logins is the one that this process connects as."""
        self._admin_url = admin_url
        self._logins = tuple(logins)
        self._login = self._logins[0]

    @cached_property
    def admin_engine(self) -> sa.Engine:
        """Engine of the administrative role: for bootstrap, migrations and tests, never for tenants' data."""
        return sa.create_engine(
            self._admin_url,
            poolclass=sa.NullPool,
            connect_args={
                "application_name": "offgridflow-admin",
                "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            },
        )

    @cached_property
    def application_engine(self) -> sa.Engine:
        """Engine of the application role, under row level security."""
        limits = {
            "statement_timeout": self._login.statement_timeout,
            "idle_in_transaction_session_timeout": IDLE_TRANSACTION_TIMEOUT,
            "lock_timeout": self._login.lock_timeout,
            "timezone": "UTC",
        }
        options = " ".join(f"-c {name}={value}" for name, value in limits.items())
        engine = sa.create_engine(
            self._admin_url.set(username=self._login.role, password=self._login.password),
            pool_size=POOL_SIZE,
            max_overflow=0,
            pool_timeout=self._login.pool_timeout_seconds,
            hide_parameters=True,  # an error's text goes to the log: values are people's, or hashes of their secrets
            connect_args={
                "application_name": "offgridflow",
                "connect_timeout": CONNECT_TIMEOUT_SECONDS,
                "options": options,
            },
        )
        return replace_dead_connections(engine)

    @cached_property
    def counting_engine(self) -> sa.Engine:
        """Engine of single statements beside the requests' transactions: rate limits. Fails fast."""
        return sa.create_engine(
            self.application_engine.url,
            isolation_level="AUTOCOMMIT",
            pool_size=COUNTING_POOL_SIZE,
            max_overflow=0,
            pool_timeout=1,
            hide_parameters=True,
            connect_args={
                "application_name": "offgridflow-counting",
                "connect_timeout": 2,
                "options": "-c statement_timeout=1s -c lock_timeout=1s -c timezone=UTC",
            },
        )

    @contextmanager
    def tenant(self, slug: str) -> Iterator[TenantScope]:
        """A transaction of one tenant: commits at the end, rolls back on an exception.

        Raises:
            UnknownTenantError: no tenant has that slug.
        """
        with self.application_engine.begin() as connection:
            tenant_id = connection.scalar(sa.text("select tenant_id from ogf.tenant_by_slug(:slug)"), {"slug": slug})
            if tenant_id is None:
                raise UnknownTenantError(f"No tenant {slug!r}: add it with `offgridflow tenant add {slug} NAME`.")
            enter(connection, tenant_id)
            yield TenantScope(connection, tenant_id, slug)

    @contextmanager
    def platform(self) -> Iterator[TenantScope]:
        """A transaction of the platform itself: rows of the nil tenant, and of no organisation."""
        with self.application_engine.begin() as connection:
            enter(connection, PLATFORM)
            yield TenantScope(connection, PLATFORM, PLATFORM_SLUG)

    @contextmanager
    def user(self, user_id: UUID) -> Iterator[UserScope]:
        """A transaction of one user: commits at the end, rolls back on an exception."""
        with self.application_engine.begin() as connection:
            enter_user(connection, user_id)
            yield UserScope(connection, user_id)

    def within(self, *scopes: TenantScope | UserScope) -> Database:
        """This database, bound to open transactions: repositories write in them instead of opening their own.

        So a change, its audit event and its mail are one transaction. Asked for another tenant or user, it refuses.
        """
        return _Joined(self, scopes)

    def prepare(self) -> list[str]:
        """Make roles and database where missing, apply pending migrations; returns the applied files' names.

        Raises:
            DatabaseError: the server is out of reach or refuses.
            MigrationError: the schema and the migration files do not fit.
        """
        try:
            bootstrap.prepare_application(self._admin_url, {login.role: login.password for login in self._logins})
        except BootstrapError as error:
            raise DatabaseError(str(error)) from error
        return migrate(self.admin_engine)

    def require_ready(self) -> None:
        """Pass only when the schema is the code's and the role is subject to row level security.

        Raises:
            DatabaseError: the application role cannot connect, or policies would not bind it.
            MigrationError: the schema is older or newer than the code.
        """
        try:
            with self.application_engine.connect() as connection:
                self._require_bound_role(connection)
                known = connection.scalar(
                    sa.text("select 1 from pg_namespace where nspname = 'ogf' and to_regclass(:ledger) is not null"),
                    {"ledger": LEDGER},
                )
                applied: list[Applied] = []
                if known:
                    rows = connection.execute(sa.text(f"select version, name, sha256 from {LEDGER} order by version"))
                    applied = [Applied(*row) for row in rows]
        except sa.exc.OperationalError as error:
            raise DatabaseError(
                f"The role {self._login.role} cannot connect to {self.address}: {str(error.orig).strip()} "
                "Run `offgridflow db migrate`; check the password of that role in the settings."
            ) from error
        except sa.exc.ProgrammingError as error:
            raise PendingMigrationError("The schema is not there yet: run `offgridflow db migrate`.") from error
        require_current(applied)

    @staticmethod
    def _require_bound_role(connection: sa.Connection) -> None:
        powers = connection.execute(
            sa.text(
                "select cast(current_user as text), r.rolsuper or r.rolbypassrls,"
                " exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace"
                " where n.nspname = 'ogf' and pg_has_role(current_user, c.relowner, 'member'))"
                " from pg_roles r where r.rolname = current_user"
            )
        ).one()
        if powers[1] or powers[2]:
            raise DatabaseError(
                f"The role {powers[0]} is superuser, has BYPASSRLS or owns tables: tenants would see each "
                f"other. Run `alter role {powers[0]} nosuperuser nobypassrls`; give its tables to ogf_owner."
            )

    @property
    def address(self) -> str:
        """URL of the database without its password, for messages."""
        return self._admin_url.render_as_string(hide_password=True)

    def dagster_url(self) -> str:
        """URL of Dagster's own database, with password and the driver Dagster needs; makes role and database.

        A secret: for the environment of Dagster's processes only.

        Raises:
            DatabaseError: the server is out of reach or refuses.
        """
        try:
            url = bootstrap.prepare_dagster(self._admin_url, self._password_of(APPLICATION_ROLE))
        except BootstrapError as error:
            raise DatabaseError(str(error)) from error
        return url.render_as_string(hide_password=False)

    def connected_as(self, role: str) -> Database:
        """The same database, connected as another of its login roles; the caller closes it."""
        return Database(self._admin_url, sorted(self._logins, key=lambda login: login.role != role))

    def _password_of(self, role: str) -> str:
        return next(login.password for login in self._logins if login.role == role)

    def close(self) -> None:
        """Close pooled connections; an embedded server keeps running for others."""
        for name in ("admin_engine", "application_engine", "counting_engine"):
            if name in self.__dict__:
                self.__dict__.pop(name).dispose()


_Scope = TypeVar("_Scope", TenantScope, UserScope)


class _Joined(Database):
    """A database whose transactions are those of the given scopes; never commits by itself."""

    def __init__(self, outer: Database, scopes: Sequence[TenantScope | UserScope]) -> None:
        super().__init__(outer._admin_url, outer._logins)
        self.__dict__["application_engine"] = outer.application_engine
        self._scopes = scopes

    @contextmanager
    def tenant(self, slug: str) -> Iterator[TenantScope]:
        """The bound transaction of that tenant."""
        yield self._bound(TenantScope, lambda scope: scope.slug == slug, slug)

    @contextmanager
    def platform(self) -> Iterator[TenantScope]:
        """The bound transaction of the platform."""
        yield self._bound(TenantScope, lambda scope: scope.tenant_id == PLATFORM, PLATFORM_SLUG)

    @contextmanager
    def user(self, user_id: UUID) -> Iterator[UserScope]:
        """The bound transaction of that user."""
        yield self._bound(UserScope, lambda scope: scope.user_id == user_id, str(user_id))

    def close(self) -> None:
        """Nothing: the engine belongs to the outer database."""

    def _bound(self, kind: type[_Scope], wanted: Callable[[_Scope], bool], name: str) -> _Scope:
        for scope in self._scopes:
            if isinstance(scope, kind) and wanted(scope):
                return scope
        raise ForeignScopeError(f"The transaction is not bound to {name}.")


def enter(connection: sa.Connection, tenant_id: UUID) -> None:
    """Bind the open transaction, and nothing after it, to the tenant."""
    connection.execute(sa.text(f"select set_config('{TENANT_SETTING}', :tenant, true)"), {"tenant": str(tenant_id)})


def enter_user(connection: sa.Connection, user_id: UUID) -> None:
    """Bind the open transaction, and nothing after it, to the user."""
    connection.execute(sa.text(f"select set_config('{USER_SETTING}', :user_id, true)"), {"user_id": str(user_id)})


def _logins(settings: Settings, role: str) -> list[Login]:
    """The login roles of the settings, the wanted one first. People wait for the sidecar: its bounds are short."""
    known = [
        Login(APPLICATION_ROLE, settings.application_password.get_secret_value()),
        Login(API_ROLE, settings.api_password.get_secret_value(), "10s", "5s", 5),
    ]
    return sorted(known, key=lambda login: login.role != role)


def open_database(
    settings: Settings,
    server_mode: Literal["stop", "delete"] | None = None,
    *,
    role: Literal["ogf_pipeline", "ogf_api"] = "ogf_pipeline",
) -> Database:
    """The database of the settings as it is, as one of the two login roles; starts the embedded server without a URL.

    Raises:
        DatabaseError: the URL is not one of PostgreSQL, or production has none.
        EmbeddedServerError: the embedded server does not start.
    """
    logins = _logins(settings, role)
    if settings.database_url is None:
        if settings.environment == "production":
            raise DatabaseError("The embedded PostgreSQL is not for production: set DATABASE_URL.")
        server = embedded.start(settings.postgres_dir, server_mode)
        return Database(server.admin_url(APPLICATION_DATABASE), logins)
    try:
        url = sa.make_url(settings.database_url.get_secret_value())
    except sa.exc.ArgumentError:
        raise DatabaseError("DATABASE_URL is no URL: write postgresql://user:password@host:5432/ogf.") from None
    if url.get_backend_name() not in {"postgresql", "postgres"}:
        raise DatabaseError(f"DATABASE_URL names {url.drivername!r}: OffGridFlow needs PostgreSQL 15 or newer.")
    return Database(url.set(drivername="postgresql+psycopg", database=url.database or APPLICATION_DATABASE), logins)


def connect(
    settings: Settings,
    server_mode: Literal["stop", "delete"] | None = None,
    *,
    role: Literal["ogf_pipeline", "ogf_api"] = "ogf_pipeline",
) -> Database:
    """The database of the settings, ready for use: as `ogf_pipeline`, or as the sidecar's `ogf_api`.

    Outside of production, missing roles, database and migrations are made on the way; in production that
    is `offgridflow db migrate`, and a schema that does not fit the code is refused here.

    Raises:
        DatabaseError: the server is out of reach, refuses, or its role would bypass row level security.
        MigrationError: the schema and the migration files do not fit.
        EmbeddedServerError: the embedded server does not start.
    """
    database = open_database(settings, server_mode, role=role)
    try:
        try:
            database.require_ready()
        except (DatabaseError, PendingMigrationError):
            if settings.environment == "production":
                raise
            database.close()
            database.prepare()
            database.require_ready()
    except BaseException:
        database.close()
        raise
    return database


__all__ = [
    "PLATFORM",
    "Database",
    "DatabaseError",
    "ForeignScopeError",
    "MigrationError",
    "TenantScope",
    "UnknownTenantError",
    "UserScope",
    "connect",
    "enter",
    "enter_user",
    "open_database",
]
