"""The run watchdog: what died without a word is ended and asked for again; what lives is left alone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest
import sqlalchemy as sa

from offgridflow_pipeline.database.engine import Database, connect
from offgridflow_pipeline.database.server import cluster, embedded
from offgridflow_pipeline.definitions import defs
from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.defs.sensors.watchdog import LONGEST_GAP, Vigil, run_watchdog
from offgridflow_pipeline.settings import Settings, load_settings
from offgridflow_pipeline_tests.counterparts.postgres import cluster_folder, without_durability
from offgridflow_pipeline_tests.defs.job_desk import Desk

STATUS = dg.DagsterRunStatus
ALLOWED = 120.0
#: Seconds of silence that the processes of these tests are allowed: the least that the settings take.
SHORT = 4.0
WORKER = """
import json, sys, time
from pathlib import Path
import dagster as dg
from offgridflow_pipeline.defs.resources import Platform

folder, tags = Path(sys.argv[1]), json.loads(sys.argv[2])

@dg.op
def work(context: dg.OpExecutionContext, platform: Platform) -> None:
    (folder / "run_id").write_text(context.run_id)
    deadline = time.monotonic() + 100
    while not (folder / "done").exists() and time.monotonic() < deadline:
        time.sleep(0.05)

@dg.job(resource_defs={"platform": Platform()})
def works() -> None:
    work()

with dg.DagsterInstance.local_temp(str(folder)) as instance:
    works.execute_in_process(instance=instance, tags=tags)
"""


class Watch:
    """Looks of the watchdog at one instance."""

    def __init__(self, instance: dg.DagsterInstance, database: Database) -> None:
        self.instance, self.database, self.cursor = instance, database, ""

    def look(self) -> str:
        """One tick; what it says."""
        context = dg.build_sensor_context(self.instance, cursor=self.cursor or None, resources={"platform": Platform()})
        with context:
            said = run_watchdog(context)
            self.cursor = context.cursor or ""
        assert isinstance(said, dg.SkipReason)
        return str(said.skip_message)

    def later(self, seconds: float) -> None:
        """Let the last look have been so long ago."""
        vigil = Vigil.parse(self.cursor)
        since = {run_id: at - seconds for run_id, at in vigil.silent_since.items()}
        self.cursor = Vigil(vigil.looked_at - seconds, since).text()

    def run(self, status: dg.DagsterRunStatus, silent_for: float) -> str:
        """A run whose last beat was so many seconds ago."""
        run = self.instance.create_run_for_job(defs.resolve_job_def("source_survey"), status=status)
        self.database.signals.beat_run(run.run_id)
        with self.database.admin_engine.begin() as connection:
            connection.execute(
                sa.text(
                    "update ogf.run_heartbeats set beat_at = beat_at - make_interval(secs => :s) where run_id = :r"
                ),
                {"s": silent_for, "r": run.run_id},
            )
        return run.run_id

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        found = self.instance.get_run_by_id(run_id)
        assert found is not None
        return found.status


@pytest.fixture
def watch(database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Watch]:
    monkeypatch.setenv("DATABASE_URL", database.admin_engine.url.render_as_string(hide_password=False))
    load_settings.cache_clear()
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield Watch(instance, database)
    load_settings.cache_clear()


def test_a_run_that_is_silent_at_one_look_is_not_ended_yet() -> None:
    first = Vigil().look(["a"], now=1000, allowed=ALLOWED)
    assert first.dead(ALLOWED) == []
    assert first.look(["a"], 1015, ALLOWED).look(["a"], 1030, ALLOWED).dead(ALLOWED) == []
    assert first.look(["a"], 1020, ALLOWED).look(["a"], 1040, ALLOWED).dead(ALLOWED) == ["a"]


def test_a_run_that_beats_again_is_forgotten() -> None:
    vigil = Vigil().look(["a", "b"], 1000, ALLOWED).look(["b"], 1020, ALLOWED).look(["a", "b"], 1050, ALLOWED)
    assert vigil.dead(ALLOWED) == ["b"]


def test_after_a_pause_in_which_nobody_looked_all_begins_anew() -> None:
    vigil = Vigil().look(["a"], 1000, ALLOWED).look(["a"], 1001 + LONGEST_GAP, ALLOWED)
    assert vigil.dead(ALLOWED) == []
    turned_back = vigil.look(["a"], 900, ALLOWED)
    assert turned_back.dead(ALLOWED) == []


def test_what_the_watchdog_remembers_survives_being_stored() -> None:
    vigil = Vigil().look(["a"], 1000.5, ALLOWED)
    assert Vigil.parse(vigil.text()) == vigil
    assert Vigil.parse(None) == Vigil.parse("") == Vigil()


def test_a_silent_run_fails_at_a_later_look_and_one_that_beats_goes_on(watch: Watch) -> None:
    dead, alive = watch.run(STATUS.STARTED, silent_for=600), watch.run(STATUS.STARTED, silent_for=60)
    assert watch.look() == "2 runs at work, 1 silent, 0 of them ended."
    watch.later(50)
    assert watch.look() == "2 runs at work, 1 silent, 1 of them ended."
    assert (watch.status(dead), watch.status(alive)) == (STATUS.FAILURE, STATUS.STARTED)
    watch.later(50)
    assert watch.look() == "1 runs at work, 0 silent, 0 of them ended."


def test_a_run_that_died_while_it_was_being_cancelled_ends_as_cancelled(watch: Watch) -> None:
    run_id = watch.run(STATUS.CANCELING, silent_for=600)
    watch.look()
    watch.later(50)
    watch.look()
    assert watch.status(run_id) is STATUS.CANCELED


def test_beats_of_runs_that_ended_long_ago_are_removed(watch: Watch) -> None:
    old, new = watch.run(STATUS.SUCCESS, silent_for=90_000), watch.run(STATUS.SUCCESS, silent_for=80_000)
    watch.look()
    assert set(watch.database.signals.run_silences([old, new])) == {new}


def test_every_step_of_ours_opens_the_resource_that_beats() -> None:
    for job in defs.resolve_all_job_defs():
        for node in job.nodes:
            assert isinstance(node.definition, dg.OpDefinition)
            keys = {*node.definition.required_resource_keys, *(o.io_manager_key for o in node.definition.output_defs)}
            assert keys & {"platform", "lake_io"}, f"{job.name}.{node.name} would be taken for dead"


class Worker:
    """A run in a process of its own."""

    def __init__(self, folder: Path, tags: dict[str, str]) -> None:
        command = [sys.executable, "-c", WORKER, str(folder), json.dumps(tags)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._folder = folder

    @property
    def run_id(self) -> str:
        """Its run, once the work has begun."""
        started = self._folder / "run_id"
        _until(started.exists, "the beginning of the work", 60)
        return str(_until(started.read_text, "its run id"))

    def finish(self) -> int:
        """Let the work be done; the exit code of the process."""
        (self._folder / "done").touch()
        return self.process.wait(30)


@contextmanager
def working(folder: Path, tags: dict[str, str] | None = None) -> Iterator[Worker]:
    """A run that works until it is told to finish."""
    worker = Worker(folder, tags or {})
    try:
        yield worker
    finally:
        worker.process.kill()
        worker.process.wait()


def _until(found: Callable[[], Any], what: str, seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come within {seconds} s")


def _beats(database: Database, run_id: str) -> float | None:
    """Seconds since the last beat."""
    return database.signals.run_silences([run_id]).get(run_id)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFGRIDFLOW_RUN_SILENT_SECONDS", str(SHORT))


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_a_worker_that_is_killed_with_everything_around_it_has_its_job_tried_again(desk: Desk, tmp_path: Path) -> None:
    job = desk.ask()
    (request,) = desk.tick()
    with working(tmp_path, dict(request.tags)) as worker, dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        desk.instance = instance
        watch = Watch(instance, desk.database)
        run_id = worker.run_id
        _until(lambda: _beats(desk.database, run_id), "a beat")
        worker.process.kill()
        worker.process.wait()
        watch.look()
        desk.tick()
        assert (watch.status(run_id), desk.job(job).status) == (STATUS.STARTED, "running")
        with desk.database.admin_engine.begin() as connection:
            connection.execute(sa.text("update ogf.run_heartbeats set beat_at = beat_at - interval '1 minute'"))
        watch.look()
        watch.later(2)
        assert watch.look().endswith("1 of them ended.")
        desk.tick()
        again = desk.job(job)
    assert (again.status, again.attempts) == ("pending", 1)
    assert again.error == f"The run ended before it was done; run {run_id} has the log."


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_a_run_that_works_through_a_long_absence_of_the_database_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with cluster_folder() as folder:
        settings = Settings(_env_file=None, environment="test", data_dir=folder / "data")
        database = connect(settings)
        without_durability(database.admin_engine.url)
        monkeypatch.setenv("DATABASE_URL", database.admin_engine.url.render_as_string(hide_password=False))
        load_settings.cache_clear()
        with working(tmp_path) as worker, dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
            watch = Watch(instance, database)
            run_id = worker.run_id
            _until(lambda: _beats(database, run_id), "a beat")
            _kill_server(settings.postgres_dir)
            time.sleep(SHORT + 0.5)  # it is the silence itself that is tested
            embedded.start(settings.postgres_dir)
            _until(lambda: (_beats(database, run_id) or SHORT) < 1, "the next beat")
            since = time.monotonic()
            while time.monotonic() - since < SHORT / 2:
                said = watch.look()
            assert said == "1 runs at work, 0 silent, 0 of them ended."
            assert worker.finish() == 0
            assert watch.status(run_id) is STATUS.SUCCESS
        database.close()
        load_settings.cache_clear()


def _kill_server(data: Path) -> None:
    for pid in cluster.postgres_processes(data):
        with suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()
    _until(lambda: not cluster.postgres_processes(data), "the end of PostgreSQL")
