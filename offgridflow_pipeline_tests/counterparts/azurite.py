"""An Azure Blob server for tests: azurite on a free port, with an account of its own.

Installed by ``install_azurite.sh`` beside this file. It has no Data Lake endpoint, and it must not check the API
version, since the library speaks a newer one (test-counterparts.md 5).
"""

from __future__ import annotations

import base64
import os
import secrets
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from offgridflow_pipeline.connectors.access import AzureAccess
from offgridflow_pipeline_tests.counterparts.installation import counterparts_folder
from offgridflow_pipeline_tests.counterparts.processes import free_port, wait_until_ready

ACCOUNT = "ogftest"


@dataclass(frozen=True, slots=True)
class BlobServer:
    """A running server: its endpoint (with the account in its path) and the account's key."""

    endpoint: str
    key: str

    @property
    def access(self) -> AzureAccess:
        """Access for our connectors."""
        return AzureAccess(account_key=SecretStr(self.key), account_url=self.endpoint)

    @property
    def storage_options(self) -> dict[str, str]:
        """Options for deltalake."""
        return {
            "azure_storage_account_name": ACCOUNT,
            "azure_storage_account_key": self.key,
            "azure_storage_endpoint": self.endpoint,
            "allow_http": "true",
        }

    def client(self) -> Any:
        """A client of the official library."""
        from azure.core.credentials import AzureNamedKeyCredential
        from azure.storage.blob import BlobServiceClient

        return BlobServiceClient(self.endpoint, credential=AzureNamedKeyCredential(ACCOUNT, self.key))

    def new_container(self) -> str:
        """A new, empty container."""
        name = f"ogf-{uuid.uuid4().hex[:12]}"
        self.client().create_container(name)
        return name


def azurite_program() -> Path:
    """The installed server; may not exist."""
    return counterparts_folder() / "azurite" / "node_modules" / ".bin" / "azurite-blob"


@contextmanager
def blob_server() -> Iterator[BlobServer]:
    """Start the server as a process of its own on a free port."""
    key = base64.b64encode(secrets.token_bytes(64)).decode()
    port = free_port()
    command = [
        str(azurite_program()), "--silent", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry",
        "--blobHost", "127.0.0.1", "--blobPort", str(port),
    ]  # fmt: skip
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "AZURITE_ACCOUNTS": f"{ACCOUNT}:{key}",
    }
    with (
        tempfile.TemporaryDirectory(prefix="ogf-azurite-") as folder,
        (Path(folder) / "log").open("w+") as log,
        subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=folder) as process,
    ):
        try:
            wait_until_ready("azurite", process, log, partial(socket.create_connection, ("127.0.0.1", port), timeout=5))
            yield BlobServer(f"http://127.0.0.1:{port}/{ACCOUNT}", key)
        finally:
            process.kill()
