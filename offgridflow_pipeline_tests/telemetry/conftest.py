"""An instrumented app over the session's database, as the sidecar's role."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import APIRouter, FastAPI
from prometheus_client import generate_latest
from starlette.testclient import TestClient

from offgridflow_pipeline.database.engine import Database, open_database
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline.sidecar.route_templates import RouteTemplates
from offgridflow_pipeline.telemetry import setup
from offgridflow_pipeline_tests.counterparts.postgres import settings as database_settings


class Served:
    """A small app with telemetry; `database` is that of its pool."""

    def __init__(self, settings: Settings, policies: tuple[str, ...] = ()) -> None:
        self.database = open_database(settings, role="ogf_api")
        self.app = FastAPI()
        router = APIRouter()

        @router.get("/things/{name}")
        def thing(name: str) -> dict[str, str]:
            with self.database.application_engine.begin() as connection:
                return {"name": connection.execute(sa.text("select :name"), {"name": name}).scalar_one()}

        @router.get("/broken")
        def broken() -> None:
            with self.database.application_engine.begin() as connection:
                connection.execute(sa.text("select cast(:secret as int)"), {"secret": "canary-9f2c71d6"})

        self.app.include_router(router, prefix="/v1")
        self.app.add_api_route("/livez", lambda: {})
        self.telemetry = setup.start(
            settings, self.app, self.database, route_of=RouteTemplates(self.app).of, rate_limit_policies=policies,
            background=False,
        )  # fmt: skip
        self.client = TestClient(self.app, raise_server_exceptions=False)

    def scrape(self, *, refresh: bool = True) -> str:
        """What Prometheus reads."""
        assert self.telemetry.registry is not None
        if refresh:
            assert self.telemetry.ledger is not None
            self.telemetry.ledger.refresh()
        return generate_latest(self.telemetry.registry).decode()

    def close(self) -> None:
        self.telemetry.shutdown()
        self.database.close()


Serve = Callable[..., Served]


def value(text: str, series: str) -> float:
    """The value of one series, named with its labels as Prometheus writes them."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"{series} "))
    return float(line.rpartition(" ")[2])


def execute(database: Database, statement: str, **values: object) -> None:
    """One statement as the administrator: what no repository does."""
    with database.admin_engine.begin() as connection:
        connection.execute(sa.text(statement), values)


@contextmanager
def serving(database: Database) -> Iterator[Serve]:
    with ExitStack() as stack:

        def serve(policies: tuple[str, ...] = (), **changes: Any) -> Served:
            settings = database_settings(Path("var"), database.admin_engine.url).model_copy(update=changes)
            served = Served(settings, policies)
            stack.callback(served.close)
            return served

        yield serve


@pytest.fixture
def serve(database: Database) -> Iterator[Serve]:
    """Makes an instrumented app with these settings; one at a time leads."""
    with serving(database) as made:
        yield made
