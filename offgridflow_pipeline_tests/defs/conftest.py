"""Fixtures of the Dagster room's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.defs.partitions import TENANT_PARTITIONS
from offgridflow_pipeline.settings import load_settings
from offgridflow_pipeline_tests.defs.job_desk import Desk


@pytest.fixture(scope="module")
def queued_instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    queue = {"run_coordinator": {"module": "dagster", "class": "QueuedRunCoordinator"}}
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster")), overrides=queue) as opened:
        yield opened


@pytest.fixture
def desk(
    database: Database,
    api_database: Database,
    queued_instance: dg.DagsterInstance,
    new_tenant: Callable[[], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Desk]:
    monkeypatch.setenv("DATABASE_URL", database.admin_engine.url.render_as_string(hide_password=False))
    monkeypatch.setenv("OFFGRIDFLOW_DATA_DIR", str(tmp_path / "data"))
    load_settings.cache_clear()
    tenant = new_tenant()
    queued_instance.add_dynamic_partitions(TENANT_PARTITIONS, [tenant])
    yield Desk(database, api_database, queued_instance, tenant)
    with database.admin_engine.begin() as connection:  # the sensor looks at the open jobs of every tenant
        connection.execute(
            sa.text("update ogf.jobs set status = 'cancelled', completed_at = now() where completed_at is null")
        )
    load_settings.cache_clear()
