"""The bytes of one object: continued where a connection broke off, measured, verified, visible only when complete.

A store says how to go on reading at an offset and what it knows of the object at the end; nothing here knows a
provider. Retries of single requests belong to each provider's library, bounded by `TransferLimits`.
"""

from __future__ import annotations

import hashlib
import io
import random
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from offgridflow_pipeline.connectors.errors import DeliveryError
from offgridflow_pipeline.connectors.providers.calls import ProviderUnavailableError
from offgridflow_pipeline.connectors.stores import UNKNOWN_SIZE, StoredObject

CHUNK_BYTES = 2**20
_LONGEST_PAUSE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class TransferLimits:
    """Bounds of one object: bytes, seconds without an answer, tries of a request, continuations of a body."""

    maximum_bytes: int = 64 * 2**30
    maximum_small_bytes: int = 16 * 2**20
    connect_seconds: float = 10.0
    read_seconds: float = 60.0
    attempts: int = 5
    continuations: int = 8
    pause_seconds: float = 0.5
    maximum_seconds: float = 6 * 3600.0


class InterruptedBodyError(Exception):
    """A body ended before its length was reached; what arrived is kept and reading goes on behind it."""


class _Hasher(Protocol):
    def update(self, data: bytes, /) -> object: ...

    def digest(self) -> bytes: ...


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


def _crc32c() -> _Hasher:
    import google_crc32c

    return google_crc32c.Checksum()  # type: ignore[no-untyped-call]


_HASHERS: dict[str, Callable[[], _Hasher]] = {
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
    "sha512": hashlib.sha512,
    "crc32": _Crc32,
    "crc32c": _crc32c,
}


@dataclass(frozen=True, slots=True)
class Known:
    """What a store says of an object: its present ETag, and digests of the whole where it states any."""

    etag: str
    digests: Mapping[str, bytes] = field(default_factory=dict)


class Sink:
    """Where a body goes; `offset` is how many of its bytes have arrived."""

    def __init__(self, item: StoredObject, file: BinaryIO, maximum_bytes: int, maximum_seconds: float) -> None:
        self.item = item
        self.offset = 0
        self.expected: dict[str, bytes] = {}
        self._file = file
        self._maximum_bytes = maximum_bytes
        self._maximum_seconds = maximum_seconds
        self._started = time.monotonic()
        self._hashers: dict[str, _Hasher] = {"md5": _HASHERS["md5"]()}

    def expect(self, digests: Mapping[str, bytes]) -> None:
        """Hold the object against these digests of the whole; to be called before the first byte arrives."""
        for algorithm in digests.keys() & _HASHERS.keys():
            self._hashers.setdefault(algorithm, _HASHERS[algorithm]())
            self.expected[algorithm] = digests[algorithm]

    def measure(self, algorithm: str) -> None:
        """Compute this digest too: the store will state it at the end only."""
        self._hashers.setdefault(algorithm, _HASHERS[algorithm]())

    def write(self, data: bytes) -> int:
        """Append bytes.

        Raises:
            DeliveryError: more than was listed or is allowed, or the whole takes too long.
        """
        self.offset += len(data)
        if self.item.size_bytes != UNKNOWN_SIZE and self.offset > self.item.size_bytes:
            raise changed(self.item)
        if self.offset > self._maximum_bytes:
            raise oversized(self.item.uri, self.offset, self._maximum_bytes)
        if time.monotonic() - self._started > self._maximum_seconds:
            raise ProviderUnavailableError(
                f"{self.item.uri} took longer than {self._maximum_seconds:,.0f} seconds: run again later."
            )
        for hasher in self._hashers.values():
            hasher.update(data)
        return self._file.write(data)

    def take(self, chunks: Iterable[bytes]) -> None:
        """Append every chunk."""
        for chunk in chunks:
            self.write(chunk)

    def restart(self) -> None:
        """Forget what arrived: the store cannot continue a body."""
        self.offset = 0
        self._file.seek(0)
        self._file.truncate()
        self._hashers = {algorithm: _HASHERS[algorithm]() for algorithm in self._hashers}

    def verify(self, known: Known | None = None) -> None:
        """Hold what arrived against everything that is known of the object.

        Raises:
            DeliveryError: the object is another one by now, or the bytes are not those the store has.
        """
        if known is not None and known.etag != self.item.etag:
            raise changed(self.item)
        for algorithm, stated in {**self.expected, **(known.digests if known else {})}.items():
            hasher = self._hashers.get(algorithm)
            if hasher is not None and hasher.digest() != stated:
                raise DeliveryError(
                    f"{self.item.uri} arrived damaged: its {algorithm} is {hasher.digest().hex()}, the store states "
                    f"{stated.hex()}. Run again; if it stays, deliver the object again."
                )


#: Goes on reading at `sink.offset` until the body ends; raises InterruptedBodyError where a connection breaks off.
ReadOn = Callable[[Sink], None]


def download(
    item: StoredObject, target: Path, limits: TransferLimits, read_on: ReadOn, known: Callable[[], Known]
) -> None:
    """Copy an object into `target`, which appears complete and verified or not at all.

    Raises:
        DeliveryError: it changed, arrived damaged, is too large, or broke off too often.
    """
    if item.size_bytes > limits.maximum_bytes:
        raise oversized(item.uri, item.size_bytes, limits.maximum_bytes)
    partial = target.with_name(f".{target.name}.partial")
    try:
        with partial.open("wb") as file:
            sink = Sink(item, file, limits.maximum_bytes, limits.maximum_seconds)
            _receive(sink, limits, read_on)
            sink.verify(known())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def small_bytes(item: StoredObject, limits: TransferLimits, read_on: ReadOn) -> bytes:
    """The bytes of a small object.

    Raises:
        DeliveryError: as `download`.
    """
    if item.size_bytes > limits.maximum_small_bytes:
        raise oversized(item.uri, item.size_bytes, limits.maximum_small_bytes)
    content = io.BytesIO()
    sink = Sink(item, content, limits.maximum_small_bytes, limits.maximum_seconds)
    _receive(sink, limits, read_on)
    sink.verify()
    return content.getvalue()


def interruptible(chunks: Iterator[bytes], *errors: type[Exception]) -> Iterator[bytes]:
    """The chunks; these errors of the connection (not of whoever takes the chunks) interrupt the body."""
    try:
        yield from chunks
    except errors as error:
        raise InterruptedBodyError(type(error).__name__) from error


def changed(item: StoredObject) -> DeliveryError:
    """The error for an object that is no longer the listed one."""
    return DeliveryError(f"{item.uri} changed while it was read: run again.")


def oversized(uri: str, size: int, maximum: int) -> DeliveryError:
    """The error for an object over a limit."""
    return DeliveryError(f"{uri} has {size:,} bytes or more, at most {maximum:,} are read: split the export.")


def _receive(sink: Sink, limits: TransferLimits, read_on: ReadOn) -> None:
    if sink.item.size_bytes == 0:
        return
    for continuation in range(limits.continuations + 1):
        try:
            read_on(sink)
        except InterruptedBodyError as error:
            reason = str(error)
        else:
            if sink.offset >= sink.item.size_bytes:  # always, when the size is unknown
                return
            reason = "the body ended early"
        if continuation < limits.continuations:
            pause = min(_LONGEST_PAUSE_SECONDS, limits.pause_seconds * 2**continuation)
            time.sleep(random.uniform(0, pause))  # noqa: S311  spreads retries, no secret
    raise ProviderUnavailableError(
        f"{sink.item.uri} broke off {limits.continuations + 1} times, last after {sink.offset:,} of "
        f"{sink.item.size_bytes:,} bytes ({reason}): run again later."
    )
