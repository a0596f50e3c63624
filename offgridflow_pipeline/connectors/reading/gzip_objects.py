"""Gzip billing objects (RFC 1952): refused when hostile, and unpacked by ISA-L while the engine reads them.

ISA-L takes a third of the time of the engine's own unpacking and checks the checksum, which the engine does not. The
engine reads such an object as a file of known size. The size is in the trailer of a stream of one member below 4 GiB;
any other object is unpacked by the engine itself.
"""

from __future__ import annotations

import gzip
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isal import igzip, isal_zlib

from offgridflow_pipeline.connectors.errors import BillingObjectError
from offgridflow_pipeline.connectors.reading.relation import MAXIMUM_LINE_BYTES, LocalObject, ReadLimits, quoted

if TYPE_CHECKING:
    from offgridflow_pipeline.lake.engine import Engine

MAGIC = b"\x1f\x8b"
DAMAGED = ("the gzip stream is damaged or cut off", "Deliver the object again")
#: What reading an unpacked stream raises when it is damaged or cut off.
UNREADABLE: tuple[type[Exception], ...] = (EOFError, isal_zlib.error, gzip.BadGzipFile)
SCHEME = "gunzip"
_PROBE_BYTES = 32 * 2**20
_CHUNK_BYTES = 2**20
_TRAILER = struct.Struct("<I")
#: A member begins like this: identification, method "deflate", flags whose three highest bits are reserved.
_MEMBER = re.compile(rb"\x1f\x8b\x08[\x00-\x1f]", re.DOTALL)
_MEMBER_BYTES = 4
#: A quarter of what the trailer's 32 bits can state, since the size behind the probe is only guessed.
_SURELY_STATED_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class Probe:
    """The first megabytes of a gzip object: bytes read, and bytes they unpack to."""

    packed: int
    unpacked: int

    @property
    def ratio(self) -> float:
        """Unpacked bytes per packed byte."""
        return self.unpacked / self.packed


def probed(item: LocalObject, limits: ReadLimits) -> Probe | None:
    """What the object's beginning tells of it; None when it is no gzip stream.

    Raises:
        BillingObjectError: larger than the limits, unpacked or as it is, or a damaged gzip stream.
    """
    with item.path.open("rb") as stream:
        zipped = stream.read(len(MAGIC)) == MAGIC
    size = item.path.stat().st_size
    if not zipped:
        if size > limits.maximum_bytes:
            raise BillingObjectError(item.source, f"it has {size:,} bytes", "Split the export into smaller files")
        return None
    return _checked_for_bomb(item, size, limits)


def engine_source(item: LocalObject, probe: Probe | None) -> tuple[str, str]:
    """How the engine reads the object's text: SQL literal of its address, and the name of the compression.

    An address of `SCHEME` needs `register`.
    """
    if probe is None:
        return quoted(str(item.path)), "none"
    size = item.path.stat().st_size
    is_stated = probe.unpacked <= stated_size(item.path) and probe.ratio * size <= _SURELY_STATED_BYTES
    if not is_stated or _may_have_more_members(item.path):
        return quoted(str(item.path)), "gzip"
    return quoted(f"{SCHEME}://{item.path}"), "none"


def register(engine: Engine) -> None:
    """Let the engine read addresses of `SCHEME`."""
    connection = engine.connection.con
    if connection.filesystem_is_registered(SCHEME):
        return
    from fsspec import AbstractFileSystem

    class UnpackedFiles(AbstractFileSystem):  # type: ignore[misc]  # the library is untyped
        """Gzip files of this machine as the files they were made from; read only."""

        protocol = SCHEME

        def open(self, path: str, mode: str = "rb", **_options: Any) -> _UnpackedFile:
            return _UnpackedFile(_local(path))

        def info(self, path: str, **_options: Any) -> dict[str, Any]:
            return {"name": path, "size": stated_size(_local(path)), "type": "file"}

        def glob(self, path: str, **_options: Any) -> list[str]:
            return [path]

    connection.register_filesystem(UnpackedFiles())


def stated_size(path: Path) -> int:
    """Unpacked size modulo 2^32 of the last member, as its trailer states it."""
    with path.open("rb") as stream:
        stream.seek(-_TRAILER.size, 2)
        size: int = _TRAILER.unpack(stream.read())[0]
    return size


class _UnpackedFile:
    """A gzip file read as what it was made from. Its errors name the file, as the engine's own do.

    The engine drops a last row that is longer than its buffer without a word (DuckDB 2.0): such a file is refused.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = stated_size(path)
        self._stream = igzip.IGzipFile(path, "rb")
        self._line_start = 0

    def read(self, size: int) -> bytes:
        try:
            data: bytes = self._stream.read(size)
            position = self._stream.tell()
            # Reading on at the end makes the stream compare checksum and size.
            is_longer = position >= self._size and bool(self._stream.read(1))
        except UNREADABLE as error:
            raise OSError(f"gzip stream of {self._path} damaged or cut off: {error}") from None
        if is_longer:
            raise OSError(f"gzip stream of {self._path} damaged: longer than its trailer states")
        if (line_end := data.rfind(b"\n")) >= 0:
            self._line_start = position - len(data) + line_end + 1
        if position >= self._size and position - self._line_start > MAXIMUM_LINE_BYTES:
            raise OSError(f"Maximum line size of {MAXIMUM_LINE_BYTES} bytes exceeded at the end of {self._path}")
        return data

    def seek(self, offset: int, whence: int = 0) -> None:
        self._stream.seek(offset, whence)

    def close(self) -> None:
        self._stream.close()


def _local(address: str) -> Path:
    return Path(address.removeprefix(f"{SCHEME}://"))


def _may_have_more_members(path: Path) -> bool:
    """Whether a member may begin behind the first: those bytes may also stand in a member by chance."""
    with path.open("rb") as stream:
        tail = stream.read(_MEMBER_BYTES)[1:]
        while chunk := stream.read(_CHUNK_BYTES):
            start = 0
            text = tail + chunk
            while found := _MEMBER.search(text, start):
                if _unpacks(path, stream.tell() - len(text) + found.start()):
                    return True
                start = found.start() + 1
            tail = text[-_MEMBER_BYTES + 1 :]
    return False


def _unpacks(path: Path, offset: int) -> bool:
    """Whether the bytes at the offset unpack, as far as they are looked at: bytes there by chance fail soon."""
    with path.open("rb") as stream:
        stream.seek(offset)
        try:
            isal_zlib.decompressobj(31).decompress(stream.read(_CHUNK_BYTES))
        except isal_zlib.error:
            return False
    return True


def _checked_for_bomb(item: LocalObject, size: int, limits: ReadLimits) -> Probe:
    """Refuse by the ratio of the first megabytes and by the trailer's size modulo 2^32 (RFC 1952)."""
    with item.path.open("rb") as stream:
        unpacking = isal_zlib.decompressobj(31)
        eaten = made = 0
        try:
            while made < _PROBE_BYTES and not unpacking.eof and (chunk := stream.read(2**16)):
                made += len(unpacking.decompress(chunk, _PROBE_BYTES))
                eaten += len(chunk) - len(unpacking.unconsumed_tail)
        except isal_zlib.error:
            raise BillingObjectError(item.source, *DAMAGED) from None
    if size < _TRAILER.size or not eaten:
        raise BillingObjectError(item.source, *DAMAGED)
    stated = stated_size(item.path)
    if stated > size * limits.maximum_ratio >= made:  # a cut-off file ends with any four bytes
        raise BillingObjectError(
            item.source,
            f"its trailer states {stated:,} bytes for {size:,}: the gzip stream is damaged or cut off, or a "
            "decompression bomb",
            "Deliver the object again",
        )
    probe = Probe(eaten, made)
    ratio = probe.ratio
    if ratio > limits.maximum_ratio or ratio * size > limits.maximum_bytes or stated > limits.maximum_bytes:
        raise BillingObjectError(
            item.source,
            f"it unpacks to about {ratio:,.0f} times its {size:,} bytes, refused as a decompression bomb",
            "Check where it came from; raise OFFGRIDFLOW_MAXIMUM_COMPRESSION_RATIO or "
            "OFFGRIDFLOW_MAXIMUM_OBJECT_BYTES only for a trusted source",
        )
    return probe
