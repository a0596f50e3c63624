"""Gzip billing objects (RFC 1952): refused when hostile, and unpacked by ISA-L while the engine reads them.

ISA-L takes a third of the time of the engine's own unpacking and checks the checksum, which the engine does not. The
engine reads such an object as a file of known size: the trailer states it for one member below 4 GiB, any other object
is unpacked once before to count. What goes wrong meanwhile is kept here and asked for when the engine has read: it at
times goes on after an error of a file (DuckDB 2.0).
"""

from __future__ import annotations

import gzip
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from isal import igzip, isal_zlib

from offgridflow_pipeline.connectors.errors import BillingObjectError
from offgridflow_pipeline.connectors.reading.relation import MAXIMUM_LINE_BYTES, LocalObject, ReadLimits, quoted

if TYPE_CHECKING:
    from offgridflow_pipeline.lake.engine import Engine

MAGIC = b"\x1f\x8b"
DAMAGED = ("the gzip stream is damaged or cut off", "Deliver the object again")
OVERSIZED = (f"the row is longer than {MAXIMUM_LINE_BYTES} bytes", "Remove the oversized cell")
#: What reading an unpacked stream raises when it is damaged or cut off.
UNREADABLE: tuple[type[Exception], ...] = (EOFError, isal_zlib.error, gzip.BadGzipFile)
SCHEME = "gunzip"
_PROBE_BYTES = 32 * 2**20
_CHUNK_BYTES = 2**20
_TRAILER = struct.Struct("<I")
#: A member begins like this: identification, method "deflate", flags whose three highest bits are reserved.
_MEMBER = re.compile(rb"\x1f\x8b\x08[\x00-\x1f]", re.DOTALL)
_MEMBER_BYTES = 4
#: Half of what the trailer's 32 bits can state, since the size behind the probe is only guessed.
_SURELY_STATED_BYTES = 2**31
#: Bytes that look like a member and fail to unpack, before it is cheaper to unpack everything.
_CANDIDATES = 16
_LOOK_BYTES = 2**16
_UNFINISHED = "it was not read to its end"
#: Files the engine reads -> what is wrong with them, or that their end was not reached.
_TROUBLES: dict[Path, str] = {}


@dataclass(frozen=True, slots=True)
class Probe:
    """The first megabytes of a gzip object: bytes read, and bytes they unpack to."""

    packed: int
    unpacked: int

    @property
    def ratio(self) -> float:
        """Unpacked bytes per packed byte."""
        return self.unpacked / self.packed


def is_gzip(path: Path) -> bool:
    """Whether the file begins as a gzip stream does."""
    with path.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def probed(item: LocalObject, limits: ReadLimits) -> Probe | None:
    """What the object's beginning tells of it; None when it is no gzip stream.

    Raises:
        BillingObjectError: larger than the limits, unpacked or as it is, or a damaged gzip stream.
    """
    size = item.path.stat().st_size
    if not is_gzip(item.path):
        if size > limits.maximum_bytes:
            raise BillingObjectError(item.source, f"it has {size:,} bytes", "Split the export into smaller files")
        return None
    return _checked_for_bomb(item, size, limits)


def engine_source(item: LocalObject, probe: Probe | None, limits: ReadLimits) -> str:
    """SQL literal of the address at which the engine reads the object's plain text.

    An address of `SCHEME` needs `register`, and `trouble` when it was read.

    Raises:
        BillingObjectError: damaged, or larger than the limits where only unpacking tells.
    """
    if probe is None:
        return quoted(str(item.path))
    path = item.path.absolute()
    _TROUBLES.pop(path, None)
    stated = stated_size(item.path)
    is_surely_stated = probe.unpacked <= stated and probe.ratio * item.path.stat().st_size <= _SURELY_STATED_BYTES
    is_one = is_surely_stated and not _may_have_more_members(item.path)
    return quoted(f"{SCHEME}://{stated if is_one else _counted_size(item, limits)}{path}")


def trouble(item: LocalObject, *, unfinished: bool) -> str | None:
    """What went wrong while the engine read the object, if anything, in the words of a refusal.

    Args:
        unfinished: whether it is wrong that the end was not reached: the engine said it had read everything.
    """
    found = _TROUBLES.get(item.path.absolute())
    return None if found == _UNFINISHED and not unfinished else found


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
            return _UnpackedFile(*_local(path))

        def info(self, path: str, **_options: Any) -> dict[str, Any]:
            return {"name": path, "size": _local(path)[1], "type": "file"}

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
    """A gzip file read as what it was made from.

    The engine drops a last row that is longer than its buffer without a word (DuckDB 2.0): such a file is refused.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self._stream = igzip.IGzipFile(path, "rb")
        self._last_line = LastLine()
        _TROUBLES.setdefault(path, _UNFINISHED)

    def read(self, size: int) -> bytes:
        try:
            data: bytes = self._stream.read(size)
            self._last_line.add(data)
            if self._stream.tell() >= self._size:
                self._finish()
        except UNREADABLE:
            self._fail(DAMAGED[0])
        return data

    def seek(self, offset: int, whence: int = 0) -> None:
        self._stream.seek(offset, whence)

    def close(self) -> None:
        self._stream.close()

    def _finish(self) -> None:
        # Reading on at the end makes the stream compare checksum and size.
        if self._stream.read(1):
            self._fail(DAMAGED[0])
        if self._last_line.length > MAXIMUM_LINE_BYTES:
            self._fail(OVERSIZED[0])
        if _TROUBLES.get(self._path) == _UNFINISHED:
            del _TROUBLES[self._path]

    def _fail(self, problem: str) -> NoReturn:
        _TROUBLES[self._path] = problem
        raise OSError(f"{self._path}: {problem}") from None


class LastLine:
    """Length in bytes of the last line that is not empty, of text given piece by piece."""

    def __init__(self) -> None:
        self.length = 0
        self._since_line_break = 0

    def add(self, data: bytes) -> None:
        """The next piece of the text."""
        end = len(data)
        while end and data[end - 1] in b"\r\n":
            end -= 1
        if end:
            start = data.rfind(b"\n", 0, end) + 1
            self.length = end - start + (0 if start else self._since_line_break)
        begun = data.rfind(b"\n") + 1
        self._since_line_break = len(data) - begun + (0 if begun else self._since_line_break)


def _local(address: str) -> tuple[Path, int]:
    """Path and unpacked size of an address of `SCHEME`."""
    size, slash, path = address.removeprefix(f"{SCHEME}://").partition("/")
    return Path(slash + path), int(size)


def _counted_size(item: LocalObject, limits: ReadLimits) -> int:
    """Unpacked size of all members, counted; everything else about them is checked by the way."""
    size = item.path.stat().st_size
    allowed = min(limits.maximum_bytes, int(limits.maximum_ratio * size))
    counted = 0
    try:
        with igzip.IGzipFile(item.path, "rb") as stream:
            while piece := stream.read(_CHUNK_BYTES):
                counted += len(piece)
                if counted > allowed:
                    raise _bomb(item, counted / size, size)
    except UNREADABLE:
        raise BillingObjectError(item.source, *DAMAGED) from None
    return counted


def _may_have_more_members(path: Path) -> bool:
    """Whether a member may begin behind the first: those bytes may also stand in a member by chance."""
    failed = 0
    with path.open("rb") as stream, path.open("rb") as other:
        tail = stream.read(_MEMBER_BYTES)[1:]
        while chunk := stream.read(_CHUNK_BYTES):
            text = tail + chunk
            for found in _MEMBER.finditer(text):
                other.seek(stream.tell() - len(text) + found.start())
                if failed >= _CANDIDATES or _unpacks(other.read(_LOOK_BYTES)):
                    return True
                failed += 1
            tail = text[-_MEMBER_BYTES + 1 :]
    return False


def _unpacks(beginning: bytes) -> bool:
    """Whether the bytes unpack, as far as they are looked at: bytes that are there by chance fail soon."""
    try:
        isal_zlib.decompressobj(31).decompress(beginning, _LOOK_BYTES)
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
        raise _bomb(item, ratio, size)
    return probe


def _bomb(item: LocalObject, ratio: float, size: int) -> BillingObjectError:
    return BillingObjectError(
        item.source,
        f"it unpacks to about {ratio:,.0f} times its {size:,} bytes, refused as a decompression bomb",
        "Check where it came from; raise OFFGRIDFLOW_MAXIMUM_COMPRESSION_RATIO or "
        "OFFGRIDFLOW_MAXIMUM_OBJECT_BYTES only for a trusted source",
    )
