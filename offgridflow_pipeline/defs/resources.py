"""The platform resource: settings, lake, raw objects, engine, database and factor set of one run.

Everything is opened on first use, so a run pays only for what its assets touch. Heavy libraries are
imported here inside properties: every run worker imports this module.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import dagster as dg

from offgridflow_pipeline.defs.run_heartbeat import Heartbeat
from offgridflow_pipeline.defs.standings import require_entitled
from offgridflow_pipeline.settings import Settings, load_settings
from offgridflow_pipeline.subscriptions.entitlements import UNLIMITED, Standing, standing_of
from offgridflow_pipeline.subscriptions.plans import is_configured

if TYPE_CHECKING:
    from offgridflow_pipeline.connectors.access import Access
    from offgridflow_pipeline.connectors.connections import Connection
    from offgridflow_pipeline.connectors.sources import Source
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.factors.register import FactorSet
    from offgridflow_pipeline.lake.engine import Engine
    from offgridflow_pipeline.lake.objects import RawObjects
    from offgridflow_pipeline.lake.tables import Lake
    from offgridflow_pipeline.subscriptions.gateway import StripeGateway


@dataclass
class _Opened:
    """What this process has open. Dagster makes one Platform for assets and another inside the IO manager;
    lazily evaluated tables of one can only be used with the other when both have the same engine."""

    users: int = 0
    engine: "Engine | None" = None
    database: "Database | None" = None
    heartbeat: Heartbeat | None = None

    def close(self) -> None:
        """Close what is open."""
        if self.heartbeat is not None:
            self.heartbeat.stop()
            self.heartbeat = None
        if self.engine is not None:
            self.engine.__exit__(None, None, None)
            self.engine = None
        if self.database is not None:
            self.database.close()
            self.database = None


_opened = _Opened()


class Platform(dg.ConfigurableResource["Platform"]):
    """What assets reach outside of Dagster. One engine per run; closed when the run ends."""

    as_of: str | None = None  # knowledge date of factor selection, ISO; empty = the day of the run

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["Platform"]:
        """Let the run's heart beat; close engine and database connections when their last user ends.

        Raises:
            NotEntitledError: the run is of a tenant whose subscription does not let it work.
        """
        _opened.users += 1
        try:
            if context.run is not None and context.instance is not None:
                require_entitled(self, context.instance, context.run)
            if context.run is not None and _opened.heartbeat is None:  # a sensor has no run
                _opened.heartbeat = Heartbeat(context.run.run_id, self.settings)
                _opened.heartbeat.start()
            yield self
        finally:
            _opened.users -= 1
            if not _opened.users:
                _opened.close()

    @property
    def settings(self) -> Settings:
        """The process-wide settings."""
        return load_settings()

    @property
    def engine(self) -> "Engine":
        """The run's query engine, memory bounded by the settings."""
        if _opened.engine is None:
            from offgridflow_pipeline.lake.engine import Engine

            _opened.engine = Engine(
                memory_mb=self.settings.engine_memory_mb, threads=self.settings.engine_threads
            ).__enter__()
        return _opened.engine

    @property
    def lake(self) -> "Lake":
        """The Delta lake."""
        from offgridflow_pipeline.lake.tables import Lake

        return Lake(self.settings.lake_root, self.settings.lake_storage_options)

    @property
    def raw_objects(self) -> "RawObjects":
        """Content-addressed store of raw billing objects and artefacts."""
        from offgridflow_pipeline.lake.objects import RawObjects

        return RawObjects(self.settings.lake_root, self.settings.lake_storage_options)

    @property
    def database(self) -> "Database":
        """PostgreSQL, started on first use when embedded."""
        if _opened.database is None:
            from offgridflow_pipeline.database.engine import connect

            _opened.database = connect(self.settings)
        return _opened.database

    @property
    def factor_set(self) -> "FactorSet":
        """The pinned factor set."""
        from offgridflow_pipeline.factors.register import load_factor_set

        return load_factor_set()

    @property
    def knowledge_date(self) -> date:
        """Factors published after this day are not known to the run."""
        return date.fromisoformat(self.as_of) if self.as_of else datetime.now(UTC).date()

    def standing(self, tenant: str) -> Standing:
        """Plan and billing state of the tenant; nothing is read where nobody subscribes."""
        return standing_of(self.database, self.settings, tenant) if is_configured(self.settings) else UNLIMITED

    @property
    def stripe(self) -> "StripeGateway":
        """Stripe's API, with the key of the settings."""
        from offgridflow_pipeline.subscriptions.gateway import StripeGateway

        return StripeGateway(self.settings)

    def connections(self, tenant: str) -> "list[Connection]":
        """The tenant's connections that are to be read; paused ones are left out."""
        from offgridflow_pipeline.connectors.connections import connections_of

        return connections_of(self.database, tenant)

    def access(self, tenant: str, connection: "Connection") -> "Access":
        """How the tenant's connection reaches its source, its secret resolved: a value to use and not to keep."""
        from offgridflow_pipeline.connectors.credentials import access_of
        from offgridflow_pipeline.connectors.secrets.references import SecretResolver

        return access_of(connection, SecretResolver(tenant, self.settings, self.database), self.settings)

    def source(self, tenant: str, connection: "Connection") -> "Source":
        """The tenant's connection, opened for reading.

        Raises:
            SecretError: its secret cannot be resolved.
            ConnectionConfigError: it names a host or folder that the settings do not allow.
            DeliveryError: it cannot be opened as configured.
        """
        from offgridflow_pipeline.connectors.sources import open_source

        return open_source(connection, self.access(tenant, connection))
