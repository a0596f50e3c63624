"""The API over a real database and a small real lake: an app of some areas, keys, and published totals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.identity import api_keys
from offgridflow_pipeline.identity.permissions import Permission, key_permissions
from offgridflow_pipeline.identity.rate_limits import RateLimiter
from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.lake.tables import Lake
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline.sidecar import app as factory
from offgridflow_pipeline.sidecar.entrance.middleware import RequestFrame
from offgridflow_pipeline.sidecar.entrance.problems import Problem
from offgridflow_pipeline.sidecar.services import Services
from offgridflow_pipeline_tests.inventory.ledgers import totals_of


@dataclass
class Api:
    """A served API, its lake, and the database as the pipeline sees it."""

    app: FastAPI
    lake: Lake
    pipeline: Database
    served: Database
    client: TestClient

    def key(self, tenant: str, permissions: Iterable[Permission] | None = None) -> dict[str, str]:
        """The headers of a new API key with these permissions, or with all that a key may have."""
        granted = key_permissions() if permissions is None else frozenset(permissions)
        with self.served.tenant(tenant) as scope:
            bound = self.served.within(scope)
            created = api_keys.create(
                bound, tenant, f"key {len(bound.api_keys.list(tenant))}", granted, creator="system",
                creator_permissions=granted,
            )  # fmt: skip
        return {"Authorization": f"Bearer {created.text}"}

    def get(self, path: str, headers: Mapping[str, str], /, **parameters: Any) -> Any:
        """The answer to a read; parameters of the value None are left out."""
        return self.client.get(
            path, params={name: value for name, value in parameters.items() if value is not None}, headers=headers
        )

    def publish(self, tenant: str, lines: Iterable[Mapping[str, Any]], run_id: str = "run-1") -> int:
        """Write the ledger lines' days to lake and serving table as the pipeline does; returns the data version."""
        from offgridflow_pipeline.defs.serving import publish_scope_totals
        from offgridflow_pipeline.lake.engine import Engine

        rows = [{**line, "tenant_id": tenant} for line in lines]
        days = sorted({row["usage_date"] for row in rows})
        for name, content in (("emission_lines", rows), ("scope_totals", totals_of(rows))):
            self.lake.replace(tenant, name, days, _arrow(content, schemas.table(name)), run_id=run_id)
        with Engine(memory_mb=256, threads=1) as engine:
            platform: Any = _Platform(self.lake, engine, self.pipeline)
            return publish_scope_totals(platform, tenant, days, run_id)[1]


class _NoLimits:
    """A store of rate limits that counts nothing: limits are tested where they live."""

    def hit(self, key: str, quota: int, window_seconds: int) -> float:
        return 0.0


@dataclass
class _Platform:
    """What publishing needs of the pipeline's resources."""

    lake: Lake
    engine: Any
    database: Database


@contextmanager
def served_api(
    pipeline: Database, served: Database, folder: Path, areas: Iterable[str], **changes: Any
) -> Iterator[Api]:
    """An API of these areas (modules of `sidecar.routes`) over a lake in the folder."""
    settings = Settings(_env_file=None, environment="test", data_dir=folder, **changes)
    app = FastAPI(redirect_slashes=False)
    app.state.services = services = Services(settings, served)
    services.rate_limiter = RateLimiter(_NoLimits(), services.pepper)
    for area in areas:
        prefix = "" if area == "health" else "/v1"
        app.include_router(import_module(f"offgridflow_pipeline.sidecar.routes.{area}").router, prefix=prefix)
    handlers: dict[Any, Any] = {
        Problem: factory._problem,
        HTTPException: factory._http_exception,
        RequestValidationError: factory._invalid,
    }
    for found, handler in handlers.items():
        app.add_exception_handler(found, handler)
    app.add_middleware(RequestFrame, services=app.state.services, answer=factory.answer)
    with TestClient(app) as client:
        yield Api(app, Lake(settings.lake_root), pipeline, served, client)


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """The statements that the database executes meanwhile."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen.append(statement)

    engine = database.application_engine
    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


def pages(get: Callable[[str | None], Any]) -> Iterator[list[dict[str, Any]]]:
    """Every page of a list, by following its cursors."""
    cursor: str | None = None
    while True:
        answer = get(cursor)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        yield body["items"]
        cursor = body["next_cursor"]
        if cursor is None:
            return


def day(number: int, month: str = "2026-10") -> date:
    """A day of the month."""
    return date.fromisoformat(f"{month}-{number:02d}")


def _arrow(rows: Iterable[Mapping[str, Any]], table: schemas.Table) -> pa.Table:
    schema = table.arrow_schema
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)
