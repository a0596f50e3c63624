"""An HTTP server that stands in front of another, or alone: records requests, cuts bodies, answers by rules.

For what real servers and emulators do not do on demand: connections that break off, denials, pages, redirects.
"""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

_HOP_BY_HOP = frozenset({"connection", "transfer-encoding", "keep-alive", "content-length", "date", "server"})


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it arrived; header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The path without its query."""
        return urlsplit(self.target).path

    @property
    def form(self) -> dict[str, str]:
        """The fields of a form in the body, such as those of STS."""
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}


@dataclass(slots=True)
class Response:
    """An answer; after `cut_after` bytes of the body the connection breaks off."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_after: int | None = None


Forward = Callable[[], Response]
#: Answers a request, or returns None to leave it to the next rule; `forward()` asks the server behind.
Rule = Callable[[Request, Forward], Response | None]


class ScriptedServer:
    """A running server; `rules` are asked in order, then the request is forwarded (404 without a server behind)."""

    def __init__(self, endpoint: str, upstream: str) -> None:
        self.endpoint = endpoint
        self.requests: list[Request] = []
        self.rules: list[Rule] = []
        self._upstream = urlsplit(upstream)

    @property
    def netloc(self) -> str:
        """Host and port."""
        return urlsplit(self.endpoint).netloc

    def asked(self, method: str, part: str = "") -> list[Request]:
        """Recorded requests of the method whose path holds the text."""
        return [r for r in self.requests if r.method == method and part in r.path]

    def answer(self, request: Request) -> Response:
        """What the rules or the server behind say."""
        self.requests.append(request)

        def forward() -> Response:
            return self._forward(request)

        for rule in self.rules:
            if (found := rule(request, forward)) is not None:
                return found
        return forward()

    def _forward(self, request: Request) -> Response:
        if not self._upstream.hostname:
            return Response(404)
        connection = http.client.HTTPConnection(self._upstream.hostname, self._upstream.port or 80, timeout=30)
        try:
            connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                if name not in {"connection", "transfer-encoding", "expect"}:
                    connection.putheader(name, value)
            connection.endheaders(request.body or None)
            answer = connection.getresponse()
            headers = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP}
            if request.method == "HEAD" and (length := answer.getheader("Content-Length")):
                headers["Content-Length"] = length
            return Response(answer.status, headers, answer.read())
        finally:
            connection.close()


def cut_bodies(part: str, after: int, times: int = 1) -> Rule:
    """A rule that breaks off the first `times` bodies of GET requests whose path holds the text."""
    left = [times]

    def rule(request: Request, forward: Forward) -> Response | None:
        if request.method != "GET" or part not in request.path or not left[0]:
            return None
        response = forward()
        if response.status in (200, 206) and len(response.body) > after:
            left[0] -= 1
            response.cut_after = after
        return response

    return rule


def first_do(method: str, part: str, action: Callable[[], object]) -> Rule:
    """A rule that does something once, just before the first such request is forwarded."""
    done: list[bool] = []

    def rule(request: Request, _forward: Forward) -> Response | None:
        if request.method == method and part in request.path and not done:
            done.append(True)
            action()
        return None

    return rule


def always(method: str, part: str, response: Response) -> Rule:
    """A rule that gives this answer to all such requests."""

    def rule(request: Request, _forward: Forward) -> Response | None:
        return response if request.method == method and part in request.path else None

    return rule


@contextmanager
def scripted_server(upstream: str = "", certificate: Path | None = None) -> Iterator[ScriptedServer]:
    """Start the server on a free port of 127.0.0.1; over TLS with `certificate` (see `own_certificate`)."""

    class Handler(_Handler):
        scripted: ScriptedServer

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
        scheme = "https"
    Handler.scripted = ScriptedServer(f"{scheme}://127.0.0.1:{httpd.server_address[1]}", upstream)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield Handler.scripted
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    scripted: ScriptedServer

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        response = self.scripted.answer(Request(self.command, self.path, headers, body))
        self.send_response(response.status)
        stated = {name.lower() for name in response.headers}
        for name, value in response.headers.items():
            self.send_header(name, value)
        if not stated & {"content-length", "transfer-encoding"} and response.status != 204:
            self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        with suppress(OSError):  # the client may have seen enough
            self.wfile.write(response.body if response.cut_after is None else response.body[: response.cut_after])
        self.close_connection = self.close_connection or response.cut_after is not None

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _any  # noqa: N815  names of the base class

    def log_message(self, *_arguments: object) -> None:
        """Requests are recorded, not printed."""


def own_certificate(folder: Path) -> Path:
    """A new certificate for 127.0.0.1 and localhost with its key, in one file that also serves as its authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path
