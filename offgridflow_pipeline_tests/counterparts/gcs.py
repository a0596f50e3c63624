"""A Google Cloud Storage server for tests: gcp-storage-emulator on a free port.

It lists everything in one page and ignores generation preconditions and credentials; tests of those put a
`ScriptedServer` in front of it. Delta tables do not work on it (test-counterparts.md 6).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from offgridflow_pipeline.connectors.access import GcpAccess
from offgridflow_pipeline_tests.counterparts.processes import free_port, wait_until_ready


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
    port = free_port()
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--quiet", "--in-memory"]
    command += ["--host=127.0.0.1", f"--port={port}"]
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            server = GcsServer(f"http://127.0.0.1:{port}")
            wait_until_ready(
                "The storage emulator",
                process,
                log,
                partial(urllib.request.urlopen, f"{server.endpoint}/storage/v1/b?project=ogf-test", timeout=5),
            )
            yield server
        finally:
            process.kill()
