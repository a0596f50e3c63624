"""uvicorn's HTTP protocol with bounds: bytes of a request's head, seconds of its head and body.

uvicorn keeps headers of any length and waits for them for ever; without credential a few connections could fill the
memory or use up the process's descriptors. A proxy in front bounds the same, but nobody has to have one.
"""

from __future__ import annotations

from asyncio import TimerHandle
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

#: Beyond the piece of the network that the head began in (256 KiB at most).
MAXIMUM_HEAD_BYTES = 64 * 1024
#: From the connection, or the first byte of a request, to the end of its head.
HEAD_SECONDS = 20.0
#: From there to the end of its body: the largest upload over a slow line.
BODY_SECONDS = 300.0


class BoundedHttpProtocol(HttpToolsProtocol):
    """Closes connections whose request does not come to an end."""

    _in_head = True
    _head_began = False
    _head_bytes = 0
    _deadline: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there: it has to say what it wants."""
        super().connection_made(transport)
        self._expect_within(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is expected any more."""
        self._expect_within(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take the bytes; too many of a head that does not end close the connection."""
        self._head_began = False
        super().data_received(data)
        if self._in_head and not self._head_began:
            self._head_bytes += len(data)
            if self._head_bytes > MAXIMUM_HEAD_BYTES:
                self.transport.close()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._in_head = self._head_began = True
        self._head_bytes = 0
        self._expect_within(HEAD_SECONDS)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is there, the body may follow."""
        self._in_head = False
        self._expect_within(BODY_SECONDS)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is whole: how long its answer takes is another matter."""
        self._expect_within(None)
        super().on_message_complete()

    def _expect_within(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self.transport.close)
