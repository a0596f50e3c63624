"""An S3 server for tests: moto on a free port, driven through boto3, pyarrow and deltalake alike."""

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

REGION = "us-east-1"
CREDENTIAL = "testing"
READY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server: its endpoint, and how each library is told about it."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables for boto3."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": CREDENTIAL,
            "AWS_SECRET_ACCESS_KEY": CREDENTIAL,
            "AWS_DEFAULT_REGION": REGION,
        }

    @property
    def storage_options(self) -> dict[str, str]:
        """Options for deltalake and the raw objects."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": CREDENTIAL,
            "AWS_SECRET_ACCESS_KEY": CREDENTIAL,
            "AWS_REGION": REGION,
        }

    def client(self, service: str = "s3") -> Any:
        """A boto3 client of the server; moto answers for other services at the same endpoint."""
        import boto3

        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            aws_access_key_id=CREDENTIAL,
            aws_secret_access_key=CREDENTIAL,
            region_name=REGION,
        )

    def new_bucket(self) -> str:
        """A new, empty bucket."""
        name = f"ogf-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name)
        return name


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Start the server as a process of its own on a free port.

    Not in a thread: deltalake holds the interpreter's lock while it waits for an answer.
    """
    port = _free_port()
    command = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    # Into a file, not a pipe: nobody reads it, and a full pipe would stop the server after some hundred requests.
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen([sys.executable, "-c", command], stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            server = S3Server(f"http://127.0.0.1:{port}")
            _wait_until_ready(server, process, log)
            yield server
        finally:
            process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(server: S3Server, process: subprocess.Popen[bytes], log: IO[str]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(f"{server.endpoint}/moto-api/data.json", timeout=5):
            return
        time.sleep(0.05)
    log.seek(0)
    raise RuntimeError(f"The S3 server did not start: {log.read()[-2000:]}")
