"""Raw objects kept unmodified and content-addressed: ``<root>/<tenant>/raw/sha256/<aa>/<sha>``.

Billing objects and report artefacts live here. An object appears under its hash only when complete, is
stored once however often it is delivered, and is checked against its hash whenever it is read.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offgridflow_pipeline.lake import storage

CHUNK_BYTES = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TENANT = re.compile(r"[a-z0-9](-?[a-z0-9]){1,62}")


class RawObjectError(ValueError):
    """An object cannot be stored or read; names the object and the cure."""


@dataclass(frozen=True, slots=True)
class RawObject:
    """A stored object: SHA-256 of its bytes, size in bytes, and where it lies."""

    sha256: str
    size_bytes: int
    uri: str


class RawObjects:
    """Content-addressed store of one lake."""

    def __init__(self, root: str, storage_options: Mapping[str, str] | None = None) -> None:
        self._root = storage.normal_root(root)
        self._options = dict(storage_options or {})

    def put(self, tenant: str, path: Path) -> RawObject:
        """Store the file; storing the same bytes again changes nothing, and mends a damaged local object.

        Raises:
            RawObjectError: the file changed while it was stored, or the tenant is not a slug.
        """
        with path.open("rb") as source:
            sha, size = _digest(source)
        uri = self._uri(tenant, sha)
        filesystem, place = storage.filesystem(uri, self._options)
        if not self._holds(filesystem, place, sha, size):
            store = _store_local if storage.is_local(uri) else _store_remote
            if store(filesystem, place, path, sha) != sha:
                raise RawObjectError(f"{path} changed while it was stored: wait until it is complete and run again.")
        return RawObject(sha, size, uri)

    def open(self, tenant: str, sha256: str) -> tuple[Any, int]:
        """The object as a seekable binary stream, and its size in bytes. The caller closes it and checks the bytes.

        Raises:
            RawObjectError: the object is missing.
        """
        uri = self._uri(tenant, sha256)
        filesystem, place = storage.filesystem(uri, self._options)
        try:
            stream = filesystem.open_input_file(place)
        except FileNotFoundError:
            raise _missing(tenant, sha256, uri) from None
        return stream, int(stream.size())

    @contextmanager
    def local_path(self, tenant: str, sha256: str, name: str | None = None) -> Iterator[Path]:
        """A local file to read the object's bytes from, called `name` when given; gone when the context ends.

        Raises:
            RawObjectError: the object is missing or its bytes changed.
        """
        uri = self._uri(tenant, sha256)
        filesystem, place = storage.filesystem(uri, self._options)
        with tempfile.TemporaryDirectory(prefix="ogf-object-") as folder:
            target = Path(folder) / Path(name or sha256).name
            try:
                with filesystem.open_input_stream(place) as source:
                    if storage.is_local(uri):
                        target.symlink_to(place)
                        found, _ = _digest(source)
                    else:
                        with target.open("wb") as sink:
                            found, _ = _digest(source, sink)
            except FileNotFoundError:
                raise _missing(tenant, sha256, uri) from None
            if found != sha256:
                raise RawObjectError(f"Raw object {uri} was changed after it was stored: restore it.")
            yield target

    def _uri(self, tenant: str, sha256: str) -> str:
        if not _TENANT.fullmatch(tenant) or not _SHA256.fullmatch(sha256):
            raise RawObjectError(f"Not a tenant slug and SHA-256: {tenant!r}, {sha256!r}.")
        return f"{self._root}/{tenant}/raw/sha256/{sha256[:2]}/{sha256}"

    def _holds(self, filesystem: Any, place: str, sha256: str, size: int) -> bool:
        info = filesystem.get_file_info(place)
        if not info.is_file or info.size != size:
            return False
        if not storage.is_local(self._root):
            return True  # an object store checks what it keeps; reading it again would cost a download
        with filesystem.open_input_stream(place) as source:
            return _digest(source)[0] == sha256


def _missing(tenant: str, sha256: str, uri: str) -> RawObjectError:
    return RawObjectError(f"Raw object {sha256} of {tenant} is missing at {uri}: restore it.")


def _digest(source: Any, sink: Any = None) -> tuple[str, int]:
    """SHA-256 and size of a stream, copied to `sink` on the way."""
    digest = hashlib.sha256()
    size = 0
    while chunk := source.read(CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
        if sink is not None:
            sink.write(chunk)
    return digest.hexdigest(), size


def _store_local(filesystem: Any, place: str, path: Path, sha256: str) -> str:
    target = Path(place)
    filesystem.create_dir(str(target.parent), recursive=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".partial-", delete=False) as sink:
        partial = Path(sink.name)
        try:
            with path.open("rb") as source:
                found, _ = _digest(source, sink)
            if found == sha256:
                sink.flush()
                partial.chmod(0o644)
                partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    return found


def _store_remote(filesystem: Any, place: str, path: Path, sha256: str) -> str:
    # An object store shows an object only when its upload is complete.
    with path.open("rb") as source, filesystem.open_output_stream(place) as sink:
        found, _ = _digest(source, sink)
    if found != sha256:
        with suppress(OSError):
            filesystem.delete_file(place)
    return found
