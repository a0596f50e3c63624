"""The common part of our own fakes of providers' APIs: an HTTP server that records, pages and fails on demand.

What an API answers stands in its own module, written from the official model.
"""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

_DECIMAL = re.compile(r'"\\u0000([^"\\]+)\\u0000"')


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it arrived; header names in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back; Decimals in the body become JSON numbers digit by digit."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Api(Protocol):
    """A fake API."""

    requests: list[Request]
    failures: deque[Answer]
    endpoint: str

    def answer(self, request: Request) -> Answer: ...


class ScriptedApi:
    """An API that knows nothing: it gives the answers of `failures` in turn, then 404."""

    def __init__(self, *answers: Answer) -> None:
        self.requests: list[Request] = []
        self.failures: deque[Answer] = deque(answers)
        self.endpoint = ""

    def answer(self, request: Request) -> Answer:
        return Answer(404, {"message": request.path})


@contextmanager
def serving(api: Api) -> Iterator[None]:
    """Serve the API on a free port of this machine; sets its `endpoint`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            text = self.rfile.read(length)
            parts = urlsplit(self.path)
            request = Request(
                self.command,
                parts.path,
                {name: values[-1] for name, values in parse_qs(parts.query).items()},
                {name.lower(): value for name, value in self.headers.items()},
                json.loads(text) if text else None,
            )
            api.requests.append(request)
            self._send(api.failures.popleft() if api.failures else api.answer(request))

        def _send(self, answer: Answer) -> None:
            content = b"" if answer.body is None else _json(answer.body)
            self.send_response(answer.status)
            for name, value in {"content-type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            if answer.status != 204:
                self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Keep the test's output clean; requests are recorded."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _json(body: Any) -> bytes:
    text = json.dumps(body, default=_marked)
    return _DECIMAL.sub(r"\1", text).encode()


def _marked(value: object) -> str:
    if not isinstance(value, Decimal):
        raise TypeError(f"{value!r} is no JSON")
    return f"\0{value}\0"
