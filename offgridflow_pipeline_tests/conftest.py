"""Fixtures shared by every room: a migrated database, the clouds' stores, an engine and a lake."""

from __future__ import annotations

import gc
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline.lake.tables import Lake
from offgridflow_pipeline_tests.counterparts.azurite import BlobServer, azurite_program, blob_server
from offgridflow_pipeline_tests.counterparts.bigquery import (
    INSTALL_SCRIPT,
    BigQueryServer,
    NotInstalledError,
    bigquery_server,
)
from offgridflow_pipeline_tests.counterparts.gcs import GcsServer, gcs_server
from offgridflow_pipeline_tests.counterparts.installation import without
from offgridflow_pipeline_tests.counterparts.postgres import migrated_database
from offgridflow_pipeline_tests.counterparts.s3 import S3Server, s3_server

gc.disable()  # what is imported until all tests are collected stays to the end


def pytest_collection_finish() -> None:
    """Modules that are loaded are not searched for garbage again with every test: that took a quarter of all time."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    gc.enable()


def pytest_unconfigure() -> None:
    """At the end everything is searched once more, or DuckDB takes what is left for leaks and lists it."""
    gc.unfreeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules with slow tests go first: begun last, one would keep a single worker busy after all others are done."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def database() -> Iterator[Database]:
    """A migrated database of this worker; tests add tenants of their own."""
    with migrated_database() as opened:
        yield opened


@pytest.fixture(scope="session")
def api_database(database: Database) -> Iterator[Database]:
    """The same database as the sidecar sees it, connected as ogf_api."""
    opened = database.connected_as("ogf_api")
    yield opened
    opened.close()


@pytest.fixture
def new_tenant(database: Database) -> Callable[[], str]:
    """Adds a tenant of this test alone; returns its slug."""

    def add() -> str:
        return database.tenants.add(f"t-{uuid.uuid4().hex[:16]}", "Tenant of a test", currency="EUR").slug

    return add


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """An S3 server of this worker; tests make buckets of their own."""
    with s3_server() as server:
        yield server


@pytest.fixture(scope="session")
def blobs() -> Iterator[BlobServer]:
    """An Azure Blob server of this worker; tests make containers of their own."""
    if not azurite_program().exists():
        without("azurite", "install_azurite.sh")
    with blob_server() as server:
        yield server


@pytest.fixture(scope="session")
def gcs() -> Iterator[GcsServer]:
    """A Google Cloud Storage server of this worker; tests make buckets of their own."""
    with gcs_server() as server:
        yield server


@pytest.fixture(scope="session")
def bigquery() -> Iterator[BigQueryServer]:
    """A BigQuery server of this worker; tests make datasets of their own."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(bigquery_server())
        except NotInstalledError:
            without("the BigQuery emulator", INSTALL_SCRIPT)
        yield server


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A small engine: 256 MiB, one thread."""
    with Engine(memory_mb=256, threads=1, temp_dir=tmp_path) as opened:
        yield opened


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty local lake."""
    return Lake(str(tmp_path / "lake"))
