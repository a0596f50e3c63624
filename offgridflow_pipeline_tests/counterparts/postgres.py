"""PostgreSQL for tests: the embedded server, or a fresh database on the server that DATABASE_URL names.

The default installation's own code starts the server, in a folder of its own and without durability. With
DATABASE_URL the databases are dropped afterwards; roles are shared by the server and stay. Debian's own
server (PostgreSQL 15, the oldest supported) is the comparison.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import sqlalchemy as sa
from pydantic import SecretStr

from offgridflow_pipeline.database.engine import Database, open_database
from offgridflow_pipeline.database.server import embedded
from offgridflow_pipeline.settings import Settings

FOLDER_PREFIX = "ogf-pg-"
DEBIAN_BINARIES = Path("/usr/lib/postgresql/15/bin")


def server_url() -> sa.URL | None:
    """The administrative URL of a real server from the environment; None = use the embedded one."""
    stated = os.environ.get("DATABASE_URL", "")
    return sa.make_url(stated).set(drivername="postgresql+psycopg") if stated else None


def settings(data_dir: Path, url: sa.URL | None) -> Settings:
    """Settings of a test, independent of the environment and of `.env` files."""
    return Settings(
        _env_file=None,
        environment="test",
        data_dir=data_dir,
        database_url=SecretStr(url.render_as_string(hide_password=False)) if url is not None else None,
    )


@contextmanager
def cluster_folder() -> Iterator[Path]:
    """A folder for embedded servers, short enough for a socket; its servers are stopped at the end.

    Not pytest's tmp_path: as root the server runs as another user, who needs to enter the parent folders.
    """
    remove_abandoned_folders()
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
    me = psutil.Process()
    (folder / "owner").write_text(f"{me.pid} {me.create_time()}")
    try:
        yield folder
    finally:
        _remove(folder)


def remove_abandoned_folders() -> None:
    """Stop the servers of test runs that were killed, and remove their folders."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        try:
            pid, started = (folder / "owner").read_text().split()
        except (OSError, ValueError):
            continue
        try:
            alive = psutil.Process(int(pid)).create_time() == float(started)
        except psutil.NoSuchProcess:
            alive = False
        if not alive:
            _remove(folder)


def _remove(folder: Path) -> None:
    for version in folder.glob("*/PG_VERSION"):
        embedded.stop(version.parent)
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def empty_database(url: sa.URL | None = None) -> Iterator[Database]:
    """A database of its own: not yet made, without roles and migrations; `connect` or `prepare` makes it.

    `url` names a server; without it the one of DATABASE_URL, else an embedded one.
    """
    url = url if url is not None else server_url()
    if url is None:
        with cluster_folder() as folder:
            opened = open_database(settings(folder, None))
            try:
                without_durability(opened.admin_engine.url)
                yield opened
            finally:
                opened.close()
        return
    name = f"ogf_test_{uuid.uuid4().hex[:12]}"
    opened = open_database(settings(Path(tempfile.gettempdir()), url.set(database=name)))
    try:
        yield opened
    finally:
        opened.close()
        maintenance = sa.create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
        with maintenance.connect() as connection:
            for database in (name, f"{name}_dagster"):
                connection.exec_driver_sql(f"drop database if exists {database} with (force)")
        maintenance.dispose()


@contextmanager
def migrated_database(url: sa.URL | None = None) -> Iterator[Database]:
    """A database of its own, as `connect` leaves it."""
    with empty_database(url) as opened:
        opened.prepare()
        opened.require_ready()
        yield opened


def without_durability(admin_url: sa.URL) -> None:
    """Make an embedded server of tests faster: it need not survive a power cut."""
    engine = sa.create_engine(admin_url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.exec_driver_sql(f"alter system set {setting} = off")
        connection.exec_driver_sql("select pg_reload_conf()")
    engine.dispose()


@contextmanager
def debian_server() -> Iterator[sa.URL]:
    """Debian's PostgreSQL 15 on a free port; yields its superuser's URL. It refuses to run as root."""
    folder = Path(tempfile.mkdtemp(prefix="ogf-debian-"))
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user, user)
    data = folder / "data"
    run = {
        "user": user,
        "group": user,
        "cwd": "/",
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
    }
    initdb = [
        DEBIAN_BINARIES / "initdb",
        "-D",
        data,
        "-U",
        "ogf_admin",
        "--auth=trust",
        "--no-sync",
        "-E",
        "UTF8",
    ]
    subprocess.run([*initdb, "--locale=C.UTF-8"], check=True, **run)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": folder,
        "fsync": "off",
        "password_encryption": "scram-sha-256",
    }
    arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    server = subprocess.Popen([DEBIAN_BINARIES / "postgres", "-D", data, "-p", str(port), *arguments], **run)
    url = sa.URL.create("postgresql+psycopg", "ogf_admin", host="127.0.0.1", port=port, database="postgres")
    try:
        _wait_until_ready(url, server)
        yield url
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_ready(url: sa.URL, server: subprocess.Popen[bytes]) -> None:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    deadline = time.monotonic() + 30
    while True:
        try:
            engine.connect().close()
        except sa.exc.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
