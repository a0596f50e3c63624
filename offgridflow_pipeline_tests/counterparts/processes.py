"""Servers that run as processes of their own: a free port for them, and waiting until they answer."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import IO, Any


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(
    name: str,
    process: subprocess.Popen[bytes],
    log: IO[str],
    connect: Callable[[], AbstractContextManager[Any]],
    seconds: float = 60.0,
) -> None:
    """Wait until `connect` succeeds.

    Raises:
        RuntimeError: the process ended, or the seconds are over; with the end of its log.
    """
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), connect():
            return
        time.sleep(0.05)
    log.seek(0)
    raise RuntimeError(f"{name} did not start: {log.read()[-2000:]}")
