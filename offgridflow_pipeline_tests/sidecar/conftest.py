"""Fixtures of API tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from starlette.testclient import TestClient

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline_tests.sidecar.serving import Api, served_api
from offgridflow_pipeline_tests.sidecar.webhook_door import Door, Stored


@pytest.fixture(scope="session", autouse=True)
def one_event_loop() -> Iterator[None]:
    """Requests of test clients share an event loop; a thread and a loop of its own take as long as the request."""
    with start_blocking_portal() as portal, pytest.MonkeyPatch.context() as patch:
        patch.setattr(TestClient, "portal", portal)
        yield


@pytest.fixture(scope="module")
def api(database: Database, api_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Reads, uploads, connectors and health over an empty lake; tests add tenants of their own."""
    areas = ("emissions", "evidence", "uploads", "connectors", "health")
    with served_api(
        database, api_database, tmp_path_factory.mktemp("served"), areas, allowed_hosts="bills.example.org"
    ) as opened:
        yield opened


@pytest.fixture
def stored(database: Database) -> Iterator[Stored]:
    """The inbox, empty before and after the test."""
    found = Stored(database)
    found.forget()
    yield found
    found.forget()


@pytest.fixture
def door(api_database: Database, stored: Stored, tmp_path: Path) -> Door:
    """An app that takes events of Stripe's test mode."""
    return Door(api_database, tmp_path)
