"""Connections to PostgreSQL: administrative for migrations, and one under row level security.

The application connects as `ogf_pipeline`, which owns nothing and cannot bypass policies; a tenant
transaction sets the tenant for its own duration only. Roles are made in `bootstrap`, tables in `sql/`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal
from uuid import UUID

import sqlalchemy as sa

from offgridflow_pipeline.database import bootstrap, embedded
from offgridflow_pipeline.database.bootstrap import APPLICATION_DATABASE, APPLICATION_ROLE, BootstrapError
from offgridflow_pipeline.database.migrations import (
    LEDGER,
    Applied,
    MigrationError,
    PendingMigrationError,
    migrate,
    require_current,
)

if TYPE_CHECKING:
    from offgridflow_pipeline.database.changes import SourceChanges
    from offgridflow_pipeline.database.closures import PeriodClosures, Restatements
    from offgridflow_pipeline.database.connections import CloudConnections
    from offgridflow_pipeline.database.feed_states import DayDigests, FeedStates
    from offgridflow_pipeline.database.repositories import ReportRegister, SourceSnapshots
    from offgridflow_pipeline.database.serving import CheckLedger, ScopeTotalsServing
    from offgridflow_pipeline.database.tenants import Tenants
    from offgridflow_pipeline.settings import Settings

TENANT_SETTING = "offgridflow.tenant"
POOL_SIZE = 5
POOL_TIMEOUT_SECONDS = 30
CONNECT_TIMEOUT_SECONDS = 10
STATEMENT_TIMEOUT = "5min"
IDLE_TRANSACTION_TIMEOUT = "5min"
LOCK_TIMEOUT = "1min"


class DatabaseError(RuntimeError):
    """The database cannot be used; the message says why and what to do."""


class UnknownTenantError(LookupError):
    """No tenant has that slug."""


@dataclass(frozen=True, slots=True)
class TenantScope:
    """An open transaction that sees and writes the rows of one tenant only."""

    connection: sa.Connection
    tenant_id: UUID
    slug: str


class Database:
    """Engines and repositories of one database; connects on first use."""

    def __init__(self, admin_url: sa.URL, application_password: str) -> None:
        self._admin_url = admin_url
        self._password = application_password

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
            "statement_timeout": STATEMENT_TIMEOUT,
            "idle_in_transaction_session_timeout": IDLE_TRANSACTION_TIMEOUT,
            "lock_timeout": LOCK_TIMEOUT,
            "timezone": "UTC",
        }
        options = " ".join(f"-c {name}={value}" for name, value in limits.items())
        return sa.create_engine(
            self._admin_url.set(username=APPLICATION_ROLE, password=self._password),
            pool_size=POOL_SIZE,
            max_overflow=0,
            pool_timeout=POOL_TIMEOUT_SECONDS,
            pool_pre_ping=True,
            connect_args={
                "application_name": "offgridflow",
                "connect_timeout": CONNECT_TIMEOUT_SECONDS,
                "options": options,
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

    def prepare(self) -> list[str]:
        """Make roles and database where missing, apply pending migrations; returns the applied files' names.

        Raises:
            DatabaseError: the server is out of reach or refuses.
            MigrationError: the schema and the migration files do not fit.
        """
        try:
            bootstrap.prepare_application(self._admin_url, self._password)
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
                f"The role {APPLICATION_ROLE} cannot connect to {self.address}: {str(error.orig).strip()} "
                "Run `offgridflow db migrate`; check OFFGRIDFLOW_APPLICATION_PASSWORD."
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
            url = bootstrap.prepare_dagster(self._admin_url, self._password)
        except BootstrapError as error:
            raise DatabaseError(str(error)) from error
        return url.render_as_string(hide_password=False)

    def close(self) -> None:
        """Close pooled connections; an embedded server keeps running for others."""
        for name in ("admin_engine", "application_engine"):
            if name in self.__dict__:
                self.__dict__.pop(name).dispose()

    @cached_property
    def tenants(self) -> Tenants:
        """Organisations that report."""
        from offgridflow_pipeline.database.tenants import Tenants

        return Tenants(self)

    @cached_property
    def connections(self) -> CloudConnections:
        """Cloud connections of tenants and their sealed secrets."""
        from offgridflow_pipeline.database.connections import CloudConnections

        return CloudConnections(self)

    @cached_property
    def source_snapshots(self) -> SourceSnapshots:
        """Billing objects that were read."""
        from offgridflow_pipeline.database.repositories import SourceSnapshots

        return SourceSnapshots(self)

    @cached_property
    def report_register(self) -> ReportRegister:
        """Report artefacts and their editions."""
        from offgridflow_pipeline.database.repositories import ReportRegister

        return ReportRegister(self)

    @cached_property
    def scope_totals(self) -> ScopeTotalsServing:
        """Serving table of daily scope totals."""
        from offgridflow_pipeline.database.serving import ScopeTotalsServing

        return ScopeTotalsServing(self)

    @cached_property
    def check_ledger(self) -> CheckLedger:
        """Verdicts of asset checks."""
        from offgridflow_pipeline.database.serving import CheckLedger

        return CheckLedger(self)

    @cached_property
    def feed_states(self) -> FeedStates:
        """State of each source as of the last committed read."""
        from offgridflow_pipeline.database.feed_states import FeedStates

        return FeedStates(self)

    @cached_property
    def day_digests(self) -> DayDigests:
        """What the extract tables hold of every connection and day."""
        from offgridflow_pipeline.database.feed_states import DayDigests

        return DayDigests(self)

    @cached_property
    def source_changes(self) -> SourceChanges:
        """Days of sources that differ from what was committed."""
        from offgridflow_pipeline.database.changes import SourceChanges

        return SourceChanges(self)

    @cached_property
    def period_closures(self) -> PeriodClosures:
        """Closed months."""
        from offgridflow_pipeline.database.closures import PeriodClosures

        return PeriodClosures(self)

    @cached_property
    def restatements(self) -> Restatements:
        """Later changes of closed months."""
        from offgridflow_pipeline.database.closures import Restatements

        return Restatements(self)


def enter(connection: sa.Connection, tenant_id: UUID) -> None:
    """Bind the open transaction, and nothing after it, to the tenant."""
    connection.execute(sa.text(f"select set_config('{TENANT_SETTING}', :tenant, true)"), {"tenant": str(tenant_id)})


def open_database(settings: Settings, server_mode: Literal["stop", "delete"] | None = None) -> Database:
    """The database of the settings as it is; starts the embedded server when no URL is set.

    Raises:
        DatabaseError: the URL is not one of PostgreSQL, or production has none.
        EmbeddedServerError: the embedded server does not start.
    """
    password = settings.application_password.get_secret_value()
    if settings.database_url is None:
        if settings.environment == "production":
            raise DatabaseError("The embedded PostgreSQL is not for production: set DATABASE_URL.")
        server = embedded.start(settings.postgres_dir, server_mode)
        return Database(server.admin_url(APPLICATION_DATABASE), password)
    try:
        url = sa.make_url(settings.database_url.get_secret_value())
    except sa.exc.ArgumentError:
        raise DatabaseError("DATABASE_URL is no URL: write postgresql://user:password@host:5432/ogf.") from None
    if url.get_backend_name() not in {"postgresql", "postgres"}:
        raise DatabaseError(f"DATABASE_URL names {url.drivername!r}: OffGridFlow needs PostgreSQL 15 or newer.")
    return Database(url.set(drivername="postgresql+psycopg", database=url.database or APPLICATION_DATABASE), password)


def connect(settings: Settings, server_mode: Literal["stop", "delete"] | None = None) -> Database:
    """The database of the settings, ready for use.

    Outside of production, missing roles, database and migrations are made on the way; in production that
    is `offgridflow db migrate`, and a schema that does not fit the code is refused here.

    Raises:
        DatabaseError: the server is out of reach, refuses, or its role would bypass row level security.
        MigrationError: the schema and the migration files do not fit.
        EmbeddedServerError: the embedded server does not start.
    """
    database = open_database(settings, server_mode)
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
    "Database",
    "DatabaseError",
    "MigrationError",
    "TenantScope",
    "UnknownTenantError",
    "connect",
    "enter",
    "open_database",
]
