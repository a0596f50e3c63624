"""One organisation in full use for all tests of pages."""

from __future__ import annotations

import pytest

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline_tests.sidecar.portal.house import House, build
from offgridflow_pipeline_tests.sidecar.world import World


@pytest.fixture(scope="package")
def world(database: Database, api_database: Database, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(database, api_database, tmp_path_factory.mktemp("portal"))


@pytest.fixture(autouse=True)
def _no_cookies(world: World) -> None:
    """The client keeps nothing from one test to the next."""
    world.client.cookies.clear()


@pytest.fixture(scope="package")
def house(world: World) -> House:
    """Read it only: tests that change something build their own."""
    return build(world)
