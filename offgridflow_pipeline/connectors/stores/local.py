"""Local files and folders, below the roots of the access where it names any; symbolic links are resolved first."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from offgridflow_pipeline.connectors.access import LocalAccess
from offgridflow_pipeline.connectors.errors import AccessDeniedError, DeliveryError
from offgridflow_pipeline.connectors.stores import StoredObject
from offgridflow_pipeline.connectors.stores.transfer import (
    CHUNK_BYTES,
    Known,
    Sink,
    TransferLimits,
    changed,
    download,
    small_bytes,
)


class LocalStore:
    """Files of this machine."""

    def __init__(self, access: LocalAccess, limits: TransferLimits) -> None:
        self._roots = tuple(Path(root).resolve() for root in access.roots)
        self._limits = limits

    def list(self, uri: str) -> list[StoredObject]:
        """The file, or the files of the folder that are neither hidden nor begin with an underscore."""
        path = Path(uri)
        self._require_allowed(path)
        try:
            if path.is_file():
                return [_stored(path)]
            if not path.is_dir():
                raise DeliveryError(f"{uri} does not exist: check the connection's uri.")
            found = [p for p in path.rglob("*") if p.is_file() and not p.name.startswith((".", "_"))]
            return sorted((_stored(p) for p in found if self._is_allowed(p)), key=lambda item: item.uri)
        except PermissionError as error:
            raise _unreadable(error.filename or uri) from None

    def read_bytes(self, item: StoredObject) -> bytes:
        """The bytes of a small file."""
        self._require_allowed(Path(item.uri))
        return small_bytes(item, self._limits, _read_on)

    def download(self, item: StoredObject, target: Path) -> None:
        """Copy the file."""
        self._require_allowed(Path(item.uri))
        download(item, target, self._limits, _read_on, lambda: Known(_present(item).etag))

    def _require_allowed(self, path: Path) -> None:
        if not self._is_allowed(path):
            raise AccessDeniedError(
                f"{path} lies outside the folders that local bills may lie in "
                f"({', '.join(str(root) for root in self._roots)}): move it there, or let the operator add its folder."
            )

    def _is_allowed(self, path: Path) -> bool:
        resolved = path.resolve()
        return not self._roots or any(resolved.is_relative_to(root) for root in self._roots)


def _read_on(sink: Sink) -> None:
    _present(sink.item)
    try:
        with Path(sink.item.uri).open("rb") as file:
            file.seek(sink.offset)
            sink.take(_chunks(file))
    except FileNotFoundError:
        raise changed(sink.item) from None
    except PermissionError:
        raise _unreadable(sink.item.uri) from None
    if sink.offset < sink.item.size_bytes:
        raise changed(sink.item)  # a local file does not break off: it was cut


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.read(CHUNK_BYTES), b"")


def _present(item: StoredObject) -> StoredObject:
    try:
        found = _stored(Path(item.uri))
    except FileNotFoundError:
        raise changed(item) from None
    if found.etag != item.etag:
        raise changed(item)
    return found


def _stored(path: Path) -> StoredObject:
    info = path.stat()
    written = datetime.fromtimestamp(info.st_mtime, UTC)
    return StoredObject(str(path), f"{info.st_size}-{info.st_mtime_ns}", info.st_size, written)


def _unreadable(name: object) -> AccessDeniedError:
    return AccessDeniedError(f"{name} may not be read by this process: grant it read access.")
