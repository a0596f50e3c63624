"""Fixtures of API tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline_tests.sidecar.serving import Api, served_api


@pytest.fixture(scope="module")
def api(database: Database, api_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Reads, uploads, connectors and health over an empty lake; tests add tenants of their own."""
    areas = ("emissions", "evidence", "uploads", "connectors", "health")
    with served_api(
        database, api_database, tmp_path_factory.mktemp("served"), areas, allowed_hosts="bills.example.org"
    ) as opened:
        yield opened
