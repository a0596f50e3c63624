"""What kills leave behind: the next start gives a live server with every acknowledged row, and harms no one.

The rows are those of the reference test-counterparts, section 3.2: alien pids, zombies, dead handles, kills
during the first start, a recovery longer than the package waits for.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from offgridflow_pipeline.database.server import cluster, embedded
from offgridflow_pipeline.database.server.bootstrap import driver_arguments
from offgridflow_pipeline.database.server.embedded import EmbeddedServer, EmbeddedServerError
from offgridflow_pipeline_tests.counterparts import postgres
from offgridflow_pipeline_tests.counterparts.postgres import cluster_folder
from offgridflow_pipeline_tests.database.users import environment_of_children, server_user

PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture
def data() -> Iterator[Path]:
    with cluster_folder() as folder:
        yield folder / "postgres"


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    with cluster_folder() as folder:
        embedded.start(folder / "postgres")
        yield folder / "postgres"


@pytest.fixture
def made(shared: Path) -> Path:
    """The shared cluster, stopped."""
    embedded.stop(shared)
    return shared


def answer(server: EmbeddedServer) -> int:
    with psycopg.connect(**driver_arguments(server.admin_url())) as connection:
        return connection.execute("select 42").fetchone()[0]


def kill_postmaster(server: EmbeddedServer) -> None:
    os.kill(server.pid, signal.SIGKILL)


def test_a_killed_user_does_not_keep_the_server_running_for_ever(made: Path) -> None:
    with server_user(made, "stop") as killed:
        pid = killed.started()
        killed.kill()
    assert pid in cluster.postgres_processes(made)
    with server_user(made, "stop") as last:
        assert last.started() == pid
        last.leave()
    assert cluster.postgres_processes(made) == set()


def test_a_killed_user_does_not_keep_the_folder_from_being_deleted(data: Path) -> None:
    with server_user(data, "delete") as killed:
        killed.started()
        killed.kill()
    with server_user(data, "delete") as last:
        last.started()
        last.leave()
    assert not data.exists()


def test_a_killed_postmaster_loses_no_acknowledged_commit(made: Path) -> None:
    server = embedded.start(made)
    acknowledged = 0
    killer = threading.Timer(0.5, kill_postmaster, [server])
    with psycopg.connect(**driver_arguments(server.admin_url()), autocommit=True) as connection:
        connection.execute("create table if not exists acknowledged (n int)")
        connection.execute("truncate acknowledged")
        killer.start()
        with pytest.raises(psycopg.OperationalError):
            while True:
                connection.execute("insert into acknowledged values (%s)", [acknowledged])
                acknowledged += 1
    again = embedded.start(made)
    assert again.pid != server.pid
    with psycopg.connect(**driver_arguments(again.admin_url())) as connection:
        (found,) = connection.execute("select count(*) from acknowledged").fetchone()
    assert acknowledged > 10
    assert found in {acknowledged, acknowledged + 1}  # one commit may have been made and not acknowledged


def test_a_zombie_postmaster_is_replaced(made: Path) -> None:
    """A container without an init process never reaps it: here a process that adopts and doesn't wait."""
    script = (
        "import ctypes, os, signal, sys, psutil\n"
        "from pathlib import Path\n"
        "from offgridflow_pipeline.database.server import embedded\n"
        f"assert ctypes.CDLL(None).prctl({PR_SET_CHILD_SUBREAPER}, 1, 0, 0, 0) == 0\n"
        "data = Path(sys.argv[1])\n"
        "first = embedded.start(data)\n"
        "os.kill(first.pid, signal.SIGKILL)\n"
        "while psutil.Process(first.pid).status() != psutil.STATUS_ZOMBIE: pass\n"
        "second = embedded.start(data)\n"
        "import psycopg\n"
        "with psycopg.connect(host=str(second.socket_dir), user='postgres', dbname='postgres') as c:\n"
        "    print(first.pid != second.pid, c.execute('select 42').fetchone()[0])\n"
    )
    if not hasattr(ctypes.CDLL(None), "prctl"):
        pytest.skip("adopting processes without reaping them is a Linux feature")
    done = subprocess.run(
        [sys.executable, "-c", script, str(made)],
        env=environment_of_children(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "True 42\n", done.stderr


def test_a_pid_file_that_names_another_process_harms_neither(made: Path) -> None:
    server = embedded.start(made)
    lines = (made / "postmaster.pid").read_text().splitlines()
    kill_postmaster(server)
    stranger = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    while cluster.postgres_processes(made):
        time.sleep(0.02)
    (made / "postmaster.pid").write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
    (made / ".s.PGSQL.5432.lock").write_text("\n".join([str(stranger.pid), *lines[1:5]]) + "\n")
    with server_user(made, "stop") as user:
        pid = user.started()
        assert pid != stranger.pid
        assert answer(EmbeddedServer(made, made, pid)) == 42
        user.leave()
    assert stranger.poll() is None
    (made / "postmaster.pid").write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
    assert embedded.stop(made) is True
    assert stranger.poll() is None
    stranger.communicate()


def test_a_torn_list_of_users_is_started_anew(made: Path) -> None:
    (made / ".handle_pids.json").write_text("[12")
    assert answer(embedded.start(made)) == 42
    assert json.loads((made / ".handle_pids.json").read_text()) == [os.getpid()]


@pytest.mark.parametrize("seconds", [0.15, 0.5, 0.9])
def test_a_kill_during_the_first_start_leaves_a_folder_that_starts(data: Path, seconds: float) -> None:
    with server_user(data) as killed:
        deadline = time.monotonic() + 30
        while not data.parent.joinpath(f".{data.name}.lock").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(seconds)
        killed.kill()
    assert answer(embedded.start(data)) == 42
    assert not data.with_name(f".{data.name}.new").exists()


def test_a_recovery_longer_than_the_package_waits_for_is_waited_for(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = cluster.package()
    run = package.pgexec
    attempts: list[str] = []

    def impatient(command: str, *arguments: object, **options: object) -> str:
        if command == "pg_ctl" and not attempts:
            attempts.append(command)
            run(command, *[_without_wait(a) for a in arguments], **options)
            while not (made / "postmaster.pid").exists():
                time.sleep(0.001)
            raise subprocess.TimeoutExpired(command, 10)
        return run(command, *arguments, **options)

    monkeypatch.setattr(package, "pgexec", impatient)
    assert answer(embedded.start(made)) == 42
    assert attempts == ["pg_ctl"]


def _without_wait(argument: object) -> object:
    return tuple("-W" if part == "-w" else part for part in argument) if isinstance(argument, tuple) else argument


def test_a_server_that_cannot_start_is_refused_with_the_last_line_of_its_log(made: Path) -> None:
    configuration = made / "postgresql.conf"
    before = configuration.read_text()
    configuration.write_text(before + "\nno_such_setting = 1\n")
    try:
        with pytest.raises(EmbeddedServerError, match=r"does not start: read .*log; its last line is .*FATAL"):
            embedded.start(made)
    finally:
        configuration.write_text(before)
    assert answer(embedded.start(made)) == 42


def test_servers_of_a_killed_test_run_are_removed_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import sys\n"
        "from offgridflow_pipeline.database.server import embedded\n"
        "from offgridflow_pipeline_tests.counterparts.postgres import cluster_folder\n"
        "with cluster_folder() as folder:\n"
        "    print(folder, embedded.start(folder / 'postgres').pid, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment_of_children(),
    )
    folder, pid = run.stdout.readline().split()
    postgres.remove_abandoned_folders()
    assert psutil.pid_exists(int(pid))
    run.kill()
    run.communicate()
    assert psutil.pid_exists(int(pid))
    postgres.remove_abandoned_folders()
    assert not Path(folder).exists()
    assert cluster.postgres_processes(Path(folder) / "postgres") == set()
