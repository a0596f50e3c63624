"""An S3 server for tests: moto on a free port, driven through boto3, pyarrow and deltalake alike."""

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

from offgridflow_pipeline_tests.counterparts.processes import free_port, wait_until_ready

REGION = "us-east-1"
CREDENTIAL = "testing"


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
    port = free_port()
    command = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    # Into a file, not a pipe: nobody reads it, and a full pipe would stop the server after some hundred requests.
    with (
        tempfile.TemporaryDirectory(prefix="ogf-s3-") as folder,  # its recorder writes where it runs
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen([sys.executable, "-c", command], stdout=log, stderr=subprocess.STDOUT, cwd=folder) as process,
    ):
        try:
            server = S3Server(f"http://127.0.0.1:{port}")
            wait_until_ready(
                "The S3 server",
                process,
                log,
                partial(urllib.request.urlopen, f"{server.endpoint}/moto-api/data.json", timeout=5),
            )
            yield server
        finally:
            process.kill()
