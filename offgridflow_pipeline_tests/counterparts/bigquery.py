"""A BigQuery server for tests: bqemulator in a virtual environment of its own, on free ports.

Installed by ``install_from_lock.sh`` beside this file. What it cannot do is listed in test-counterparts.md 6: no
load jobs of JSON, no dry runs.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from offgridflow_pipeline.connectors.access import GcpAccess
from offgridflow_pipeline_tests.counterparts.installation import counterparts_folder
from offgridflow_pipeline_tests.counterparts.processes import free_port, wait_until_ready

PROJECT = "ogf-test"
READY_SECONDS = 90.0
INSTALL_SCRIPT = "install_from_lock.sh bqemulator"


class NotInstalledError(RuntimeError):
    """The emulator is not installed; the message says how to install it."""


@dataclass(frozen=True, slots=True)
class BigQueryServer:
    """A running server: address of the REST API, and of the Storage Read API (gRPC without TLS)."""

    endpoint: str
    grpc_address: str

    @property
    def access(self) -> GcpAccess:
        """Access for our connectors."""
        return GcpAccess(api_endpoint=self.endpoint, anonymous=True)

    def client(self) -> Any:
        """A client of the official library."""
        from google.api_core.client_options import ClientOptions
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import bigquery

        return bigquery.Client(
            project=PROJECT,
            credentials=AnonymousCredentials(),
            client_options=ClientOptions(api_endpoint=self.endpoint),
        )

    def new_dataset(self) -> str:
        """A new, empty dataset."""
        name = f"billing_{uuid.uuid4().hex[:12]}"
        self.client().create_dataset(f"{PROJECT}.{name}")
        return name


@contextmanager
def bigquery_server() -> Iterator[BigQueryServer]:
    """Start the emulator as a process of its own.

    Raises:
        NotInstalledError: the install script has not been run.
    """
    home = counterparts_folder() / "bqemulator"
    program = home / "venv" / "bin" / "bqemulator"
    if not (home / "installed.lock").is_file():
        raise NotInstalledError(f"no BigQuery emulator at {home}: run {Path(__file__).parent / INSTALL_SCRIPT}")
    rest, grpc = free_port(), free_port()
    command = [program, "start", "--rest-port", str(rest), "--grpc-port", str(grpc), "--project", PROJECT]
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    with (
        tempfile.TemporaryDirectory(prefix="ogf-bq-") as folder,
        (Path(folder) / "log").open("w+") as log,
        subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=folder) as process,
    ):
        try:
            server = BigQueryServer(f"http://127.0.0.1:{rest}", f"127.0.0.1:{grpc}")
            wait_until_ready(
                "The BigQuery emulator",
                process,
                log,
                partial(
                    urllib.request.urlopen, f"{server.endpoint}/bigquery/v2/projects/{PROJECT}/datasets", timeout=5
                ),
                READY_SECONDS,
            )
            yield server
        finally:
            process.kill()
