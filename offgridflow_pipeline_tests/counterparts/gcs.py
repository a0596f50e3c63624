"""A Google Cloud Storage server for tests: gcp-storage-emulator on a free port.

It lists everything in one page and ignores generation preconditions and credentials; tests of those put a
`ScriptedServer` in front of it. Delta tables do not work on it (test-counterparts.md 6).
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

from offgridflow_pipeline.connectors.access import GcpAccess

READY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class GcsServer:
    """A running server."""

    endpoint: str

    @property
    def access(self) -> GcpAccess:
        """Access for our connectors."""
        return GcpAccess(api_endpoint=self.endpoint, anonymous=True)

    def client(self) -> Any:
        """A client of the official library."""
        from google.api_core.client_options import ClientOptions
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage

        return storage.Client(
            project="ogf-test",
            credentials=AnonymousCredentials(),
            client_options=ClientOptions(api_endpoint=self.endpoint),
        )

    def new_bucket(self) -> str:
        """A new, empty bucket."""
        name = f"ogf-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(name)
        return name


@contextmanager
def gcs_server() -> Iterator[GcsServer]:
    """Start the server as a process of its own on a free port."""
    port = _free_port()
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--quiet", "--in-memory"]
    command += ["--host=127.0.0.1", f"--port={port}"]
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            server = GcsServer(f"http://127.0.0.1:{port}")
            _wait_until_ready(server, process, log)
            yield server
        finally:
            process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(server: GcsServer, process: subprocess.Popen[bytes], log: IO[str]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(f"{server.endpoint}/storage/v1/b?project=ogf-test", timeout=5):
            return
        time.sleep(0.05)
    log.seek(0)
    raise RuntimeError(f"The storage emulator did not start: {log.read()[-2000:]}")
