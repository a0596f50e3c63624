"""The heartbeat sensor: what it writes is what telemetry reads."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from types import SimpleNamespace

import dagster as dg
import pytest
import sqlalchemy as sa

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.defs.sensors.heartbeat import STATES, heartbeat


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


def tick(instance: dg.DagsterInstance, database: Database) -> str:
    context = dg.build_sensor_context(instance=instance, resources={"platform": SimpleNamespace(database=database)})
    return str(heartbeat(context).skip_message)


def test_a_tick_notes_the_time_and_the_runs_that_wait_and_work(
    instance: dg.DagsterInstance, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A queued run needs a code location: here those that nobody has queued yet stand for them.
    waiting, working = dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED
    monkeypatch.setitem(STATES, "queued", [waiting])
    for status in (waiting, waiting, working):
        instance.run_storage.add_run(dg.DagsterRun("daily_emissions", run_id=str(uuid.uuid4()), status=status))
    assert tick(instance, database) == "2 runs wait, 1 work."
    with database.admin_engine.connect() as connection:
        rows = connection.execute(sa.text("select state, runs, oldest_at is not null from ogf.run_states order by 1"))
        assert [tuple(row) for row in rows] == [("active", 1, True), ("queued", 2, True)]
        age = connection.scalar(sa.text("select clock_timestamp() - beat_at from ogf.heartbeats where name = 'daemon'"))
    assert age.total_seconds() < 30


def test_waiting_is_what_dagster_calls_queued() -> None:
    assert STATES["queued"] == [dg.DagsterRunStatus.QUEUED]


def test_a_queue_that_became_empty_has_no_oldest_run(instance: dg.DagsterInstance, database: Database) -> None:
    tick(instance, database)
    with database.admin_engine.connect() as connection:
        rows = connection.execute(sa.text("select runs, oldest_at from ogf.run_states"))
        assert {tuple(row) for row in rows} == {(0, None)}
