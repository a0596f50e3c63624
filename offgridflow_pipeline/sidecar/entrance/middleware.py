"""What happens around every request, as pure ASGI: id, client address, size, rate, origin, and headers of the answer.

Order (service reference, 3.2): request id, body limit, client address, rate per address, origin of unsafe requests;
then the route. Answers made here are problems too.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import re
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request

from offgridflow_pipeline.sidecar.entrance.problems import Problem

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from offgridflow_pipeline.identity.rate_limits import Refused
    from offgridflow_pipeline.settings import Settings
    from offgridflow_pipeline.sidecar.services import Services

MAXIMUM_BODY_BYTES = 256 * 1024
#: Multipart framing of an upload beside the file itself.
UPLOAD_OVERHEAD_BYTES = 64 * 1024
UPLOAD_PATHS = frozenset({"/v1/uploads", "/uploads"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: Machines that sign their requests by themselves: a browser's origin says nothing about them.
SIGNED_PATHS = ("/v1/webhooks/",)
#: A large invoice in an event; Stripe states no bound of its own (stripe reference, section 3).
SIGNED_BODY_BYTES = 1024 * 1024
#: Open to machines without a credential, and deaf to cookies: nothing can be forged in somebody's name.
COOKIELESS_PATHS = frozenset({"/v1/api-keys/revoke-by-value"})
#: `/gate` is asked for every file of the Dagster UI, by the proxy: the UI's own requests are not ours to count.
UNLIMITED_PATHS = frozenset({"/livez", "/readyz", "/gate"})

#: Where forms may lead besides this site: the pages of Stripe to which ours redirect.
PAYMENT_PAGES = ("https://checkout.stripe.com", "https://billing.stripe.com")
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; font-src 'self'; "
        f"form-action 'self' {' '.join(PAYMENT_PAGES)}; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=()",
    "Cache-Control": "no-store",
}
#: An address with a port: 203.0.113.7:4711, [2001:db8::1]:4711; brackets alone too.
_WITH_PORT = re.compile(r"(\d{1,3}(?:\.\d{1,3}){3}):\d{1,5}|\[([0-9a-fA-F:.]+)\](?::\d{1,5})?")
_HOST = re.compile(r"(?:[A-Za-z0-9._-]*|\[([0-9A-Fa-f:.]+)\])(?::\d{1,5})?")
_LENGTH = re.compile(r"[0-9]{1,18}")
EncodedHeaders: TypeAlias = list[tuple[bytes, bytes]]
TRANSPORT_SECURITY = "max-age=31536000; includeSubDomains"

_ENCODED_TRANSPORT_SECURITY = (b"strict-transport-security", TRANSPORT_SECURITY.encode())

log = logging.getLogger("offgridflow.sidecar")


class RequestFrame:
    """Outermost middleware: everything below it can rely on `scope["state"]`: request_id, client_ip."""

    def __init__(self, app: ASGIApp, services: Services, answer: Callable[[Request, Problem], Response]) -> None:
        """`answer` makes a page or a document of a refusal, as the app does of its own."""
        self._app = app
        self._services = services
        self._answer = answer
        self._trusted = [ipaddress.ip_network(text) for text in services.settings.trusted_proxies]
        self._origin = services.settings.public_url.rstrip("/")
        self._headers = _encoded_headers(services.settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; anything but HTTP passes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        state = scope.setdefault("state", {})
        state["request_id"] = uuid.uuid4().hex
        state["client_ip"] = client_address(scope, headers, self._trusted)
        framed = _FramedSend(send, state["request_id"], self._headers, secure=self._services.secure_cookies)
        refusal = self._refusal(scope, headers) or await self._too_often(scope["path"], state["client_ip"])
        if refusal is not None:
            await self._answer(Request(scope), refusal)(scope, receive, framed.send)
            return
        body = _BoundedBody(receive, self._body_limit(scope["path"]))
        try:
            await self._app(scope, body.receive, framed.send)
        except BodyTooLargeError:
            if not framed.started:
                await self._answer(Request(scope), _too_large())(scope, receive, framed.send)
        if scope["method"] not in SAFE_METHODS:
            self._services.mail.nudge()

    async def _too_often(self, path: str, address: str) -> Problem | None:
        if path in UNLIMITED_PATHS:
            return None
        limiter = self._services.rate_limiter
        policy = "webhook.address" if path.startswith(SIGNED_PATHS) else "address"
        if limiter.in_memory:
            refused = limiter.refusal(policy, address)
        else:
            refused = await run_in_threadpool(limiter.refusal, policy, address)
        return too_many(refused) if refused is not None else None

    def _refusal(self, scope: Scope, headers: Headers) -> Problem | None:
        path, method = scope["path"], scope["method"]
        if method == "TRACE":
            return Problem(405, "method_not_allowed", headers={"Allow": "GET, HEAD, POST, PUT, PATCH, DELETE"})
        length = headers.get("content-length", "0")
        if not is_host(headers.get("host", "")) or not _LENGTH.fullmatch(length):
            return Problem(400, "bad_request", "Host is no host, or Content-Length no number.")
        if int(length) > self._body_limit(path):
            return _too_large()
        by_cookie = "authorization" not in headers and path not in COOKIELESS_PATHS
        if method not in SAFE_METHODS and not path.startswith(SIGNED_PATHS) and by_cookie:
            return foreign_origin(headers, self._origin)
        return None

    def _body_limit(self, path: str) -> int:
        if path in UPLOAD_PATHS:
            return self._services.settings.maximum_upload_bytes + UPLOAD_OVERHEAD_BYTES
        if path.startswith(SIGNED_PATHS):
            return SIGNED_BODY_BYTES
        return MAXIMUM_BODY_BYTES


class BodyTooLargeError(HTTPException):
    """More body arrived than the route takes; FastAPI takes other exceptions for a body that cannot be read."""

    def __init__(self) -> None:
        super().__init__(413)


class _BoundedBody:
    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._left = limit

    async def receive(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise BodyTooLargeError
        return message


class _FramedSend:
    """Sends, with the headers that every answer has; what a route set itself stays."""

    def __init__(self, send: Send, request_id: str, headers: EncodedHeaders, *, secure: bool) -> None:
        self._send = send
        self._request_id = request_id
        self._headers = headers
        self._secure = secure
        self.started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = message["headers"] = list(message.get("headers", ()))
            stated = {name for name, _ in headers}
            headers += [(name, value) for name, value in self._headers if name not in stated]
            if self._secure:
                headers.append(_ENCODED_TRANSPORT_SECURITY)
            headers.append((b"x-request-id", self._request_id.encode()))
        await self._send(message)


def _encoded_headers(settings: Settings) -> EncodedHeaders:
    """The headers of every answer. Outside of production forms may lead to what stands in for Stripe, too."""
    stated = dict(SECURITY_HEADERS)
    if settings.stripe_api_url and settings.environment != "production":
        stand_in = urlsplit(settings.stripe_api_url)
        policy = stated["Content-Security-Policy"]
        last = PAYMENT_PAGES[-1]
        stated["Content-Security-Policy"] = policy.replace(last, f"{last} {stand_in.scheme}://{stand_in.netloc}")
    return [(name.lower().encode(), value.encode()) for name, value in stated.items()]


def client_address(
    scope: Scope, headers: Headers, trusted: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]
) -> str:
    """Address of the client: of X-Forwarded-For the rightmost hop that no trusted proxy wrote; else the peer.

    All lines of the header count: a client may send one of its own, behind which a proxy adds another.
    """
    peer = (scope.get("client") or ("unknown", 0))[0]
    hops = [hop.strip() for line in headers.getlist("x-forwarded-for") for hop in line.split(",") if hop.strip()]
    address = peer
    while hops and _is_trusted(address, trusted):
        address = _without_port(hops.pop())
    return address


def is_host(text: str) -> bool:
    """Whether the Host header names a host, or is empty: Starlette puts it into `request.url` as it is.

    A host with a slash in it would change what the app takes for the path; one with half a bracket would be a 500.
    """
    found = _HOST.fullmatch(text)
    if found is None:
        return False
    try:
        return found[1] is None or bool(ipaddress.IPv6Address(found[1]))
    except ValueError:
        return False


def _without_port(hop: str) -> str:
    """Some proxies add the client's port, with which every connection would pass for another client."""
    found = _WITH_PORT.fullmatch(hop)
    return (found[1] or found[2]) if found else hop


def _is_trusted(address: str, trusted: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in trusted)


def foreign_origin(headers: Headers, origin: str) -> Problem | None:
    """Refusal of an unsafe request that a browser sends for another site (service reference, section 5)."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return None if site in {"same-origin", "none"} else _cross_site()
    stated = headers.get("origin")
    return None if stated is not None and stated == origin else _cross_site()


def _cross_site() -> Problem:
    return Problem(403, "cross_site", "The request does not come from this site. Machines send an API key instead.")


def _too_large() -> Problem:
    return Problem(413, "body_too_large", "The body is larger than this route takes.")


def too_many(refused: Refused) -> Problem:
    """429 with the headers that tell a client when to come back."""
    wait = max(1, math.ceil(refused.retry_after_seconds))
    return Problem(
        429,
        "rate_limited",
        f"Too many requests: try again in {wait} s.",
        headers={
            "Retry-After": str(wait),
            "RateLimit-Policy": f'"{refused.policy}";q={refused.quota};w={refused.window_seconds}',
            "RateLimit": f'"{refused.policy}";r=0;t={wait}',
        },
    )
