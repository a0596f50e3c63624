"""Slow and endless requests end; others are served over the same protocol as before."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import uvicorn

from offgridflow_pipeline.cli.serve import PROTOCOL
from offgridflow_pipeline.sidecar.entrance import http_protocol
from offgridflow_pipeline_tests.counterparts.processes import free_port

LINE = b"GET / HTTP/1.1\r\nHost: x\r\n"


async def _told_its_length(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the number of bytes of the body."""
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(str(length)))]}
    )
    await send({"type": "http.response.body", "body": str(length).encode()})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    port = free_port()
    config = uvicorn.Config(
        _told_its_length, host="127.0.0.1", port=port, http=PROTOCOL, log_config=None, lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield port
    server.should_exit = True
    thread.join(10)


def _rest(connection: socket.socket) -> bytes:
    """What the server still says until it closes; raises TimeoutError when it does not within a second."""
    connection.settimeout(1)
    found = b""
    try:
        while piece := connection.recv(65536):
            found += piece
    except ConnectionResetError:
        pass  # closed as well, with bytes of ours on the way
    return found


def test_a_head_that_does_not_end_is_cut_off(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(LINE)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            for _ in range(1_000):
                connection.sendall(b"X-Y: " + b"a" * 50_000 + b"\r\n")


@pytest.mark.parametrize("said", [b"", b"G", LINE])
def test_who_does_not_say_what_they_want_is_not_waited_for(
    port: int, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(said)
        assert _rest(connection) == b""


def test_a_body_that_does_not_come_is_not_waited_for(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "BODY_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n1")
        assert _rest(connection) == b""


def test_a_connection_serves_one_large_request_after_the_other(port: int) -> None:
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client:
        for size in (0, 3_000_000, 10):
            answer = client.post("/", content=b"x" * size, headers={"X-Long": "a" * 20_000})
            assert (answer.status_code, answer.text) == (200, str(size))


def test_requests_sent_at_once_behind_a_large_body_are_answered(port: int) -> None:
    body = b"x" * 200_000
    first = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(first + body + LINE[:-4])
        time.sleep(0.05)
        connection.sendall(LINE[-4:] + b"Connection: close\r\n\r\n")
        assert _rest(connection).count(b"HTTP/1.1 200 OK") == 2
