"""Object stores that billing files lie in: one module per store, the same three verbs.

What the files mean (manifests, periods, newest delivery) is asked in `connectors.deliveries`; here are only names and
bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from offgridflow_pipeline.connectors.access import (
    Access,
    AwsAccess,
    AzureAccess,
    GcpAccess,
    HttpsAccess,
    LocalAccess,
)
from offgridflow_pipeline.connectors.errors import DeliveryError

if TYPE_CHECKING:
    from offgridflow_pipeline.connectors.stores.transfer import TransferLimits

#: Size of an object whose store does not state it (an https answer in chunks).
UNKNOWN_SIZE = -1
_SCHEME = re.compile(r"^([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_AZURE_SCHEMES = frozenset({"az", "abfs", "abfss"})


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object: its URI, the mark of its content, its size in bytes, and when it was last written.

    `etag` is the ETag, the generation (Google), or size and time of a local file.
    """

    uri: str
    etag: str
    size_bytes: int
    modified_at: datetime | None = None


class Store(Protocol):
    """A store, opened with the access of one connection."""

    def list(self, uri: str) -> list[StoredObject]:
        """All objects at a file, folder or prefix, sorted by URI.

        Raises:
            DeliveryError: nothing exists there, or the store refuses; names the missing right and the cure.
        """
        ...

    def read_bytes(self, item: StoredObject) -> bytes:
        """The bytes of a small object such as a manifest, as it was listed.

        Raises:
            DeliveryError: it is not small, changed since it was listed, or the store refuses.
        """
        ...

    def download(self, item: StoredObject, target: Path) -> None:
        """Copy the object, as it was listed, to a local file; the file appears when it is complete and verified.

        Raises:
            DeliveryError: the object changed, arrived damaged, or the store refuses.
        """
        ...


def open_store(uri: str, access: Access, limits: TransferLimits | None = None) -> Store:
    """The store that the URI lies in, opened with the access.

    Raises:
        DeliveryError: no store is known for the URI, or the access is one for another store.
    """
    from offgridflow_pipeline.connectors.stores.transfer import TransferLimits

    bounds = limits or TransferLimits()
    match = _SCHEME.match(uri)
    scheme = match[1].lower() if match else ""
    if scheme == "" and isinstance(access, LocalAccess):
        from offgridflow_pipeline.connectors.stores.local import LocalStore

        return LocalStore(access, bounds)
    if scheme == "s3" and isinstance(access, AwsAccess):
        from offgridflow_pipeline.connectors.stores.s3 import S3Store

        return S3Store(access, bounds)
    if (scheme in _AZURE_SCHEMES or scheme == "https") and isinstance(access, AzureAccess):
        from offgridflow_pipeline.connectors.stores.azure_blob import AzureBlobStore

        return AzureBlobStore(uri, access, bounds)
    if scheme == "gs" and isinstance(access, GcpAccess):
        from offgridflow_pipeline.connectors.stores.gcs import GcsStore

        return GcsStore(access, bounds)
    if scheme == "https" and isinstance(access, HttpsAccess):
        from offgridflow_pipeline.connectors.stores.https import HttpsStore

        return HttpsStore(access, bounds)
    raise DeliveryError(
        f"{uri} cannot be read with {type(access).__name__}: give a local path, s3://, az://, abfss://, gs:// or "
        "https:// and the access of that provider."
    )
