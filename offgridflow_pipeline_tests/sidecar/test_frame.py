"""The frame around every request: origin of unsafe requests, size, client address, rate, headers of the answer."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline.sidecar.app import answer
from offgridflow_pipeline.sidecar.entrance.middleware import MAXIMUM_BODY_BYTES, RequestFrame, client_address
from offgridflow_pipeline.sidecar.entrance.problems import MEDIA_TYPE

ORIGIN = "https://app.example"


@dataclass
class Refused:
    policy: str = "address"
    quota: int = 5
    window_seconds: int = 60
    retry_after_seconds: float = 11.2


@dataclass
class Limiter:
    """Refuses the addresses it is told to; what is counted is tested where limits live."""

    refused: frozenset[str] = frozenset()
    in_memory: bool = True

    def refusal(self, policy: str, key: str) -> Refused | None:
        return Refused() if key in self.refused else None


@dataclass
class Mail:
    nudges: int = 0

    def nudge(self) -> None:
        self.nudges += 1


@dataclass
class FrameServices:
    settings: Settings
    rate_limiter: Limiter = field(default_factory=Limiter)
    mail: Mail = field(default_factory=Mail)
    secure_cookies: bool = True


@dataclass
class Answer:
    status: int
    headers: Headers
    body: bytes


def services(**changes: Any) -> FrameServices:
    return FrameServices(Settings(_env_file=None, environment="test", public_url=ORIGIN, **changes))


def ask(
    frame_services: FrameServices,
    method: str = "GET",
    path: str = "/v1/me",
    headers: dict[str, str] | None = None,
    body: tuple[bytes, ...] = (),
    client: str = "203.0.113.7",
) -> Answer:
    """One request through the frame, to an app that reads the body and answers 200 with the client's address."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive()).get("more_body"):
            assert message["type"] == "http.request"
        text = scope["state"]["client_ip"].encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-mine", b"1")]})
        await send({"type": "http.response.body", "body": text})

    sent: list[Any] = []
    parts: Iterator[Any] = iter(
        [{"type": "http.request", "body": part, "more_body": True} for part in body]
        + [{"type": "http.request", "body": b"", "more_body": False}]
    )

    async def receive() -> Any:
        return next(parts)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "client": (client, 1),
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
    }
    asyncio.run(RequestFrame(app, frame_services, answer)(scope, receive, send))  # type: ignore[arg-type]
    return Answer(sent[0]["status"], Headers(raw=sent[0]["headers"]), b"".join(m.get("body", b"") for m in sent[1:]))


SITES = (None, "same-origin", "same-site", "cross-site", "none")
ORIGINS = (None, ORIGIN, "https://app.example.evil", "http://app.example", "null")
TYPES = (None, "application/json", "application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x")
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")


def _allowed(method: str, site: str | None, origin: str | None) -> bool:
    if method in {"GET", "HEAD", "OPTIONS"}:
        return True
    return site in {"same-origin", "none"} if site is not None else origin == ORIGIN


@pytest.mark.parametrize("method", METHODS)
def test_an_unsafe_request_passes_only_from_our_own_pages_whatever_its_content_type(method: str) -> None:
    for site, origin, content_type in product(SITES, ORIGINS, TYPES):
        headers = {"sec-fetch-site": site, "origin": origin, "content-type": content_type, "cookie": "ogf_session=x"}
        answer = ask(services(), method, headers={name: value for name, value in headers.items() if value is not None})
        expected = 200 if _allowed(method, site, origin) else 403
        assert answer.status == expected, (method, site, origin, content_type)


def test_a_request_with_a_credential_in_its_header_needs_no_origin() -> None:
    answer = ask(services(), "POST", headers={"authorization": "Bearer x", "sec-fetch-site": "cross-site"})
    assert answer.status == 200


def test_signing_in_from_a_foreign_page_is_refused_too() -> None:
    refused = ask(services(), "POST", "/v1/auth/login", headers={"origin": "https://evil.example"})
    assert (refused.status, refused.headers["content-type"]) == (403, MEDIA_TYPE)
    assert b"cross_site" in refused.body


def test_a_body_that_says_it_is_too_large_is_not_read() -> None:
    answer = ask(services(), "POST", headers={"origin": ORIGIN, "content-length": str(MAXIMUM_BODY_BYTES + 1)})
    assert answer.status == 413


def test_a_body_that_grows_too_large_without_saying_so_is_cut_off() -> None:
    parts = (b"x" * MAXIMUM_BODY_BYTES, b"y")
    assert ask(services(), "POST", headers={"origin": ORIGIN}, body=parts).status == 413
    assert ask(services(), "POST", headers={"origin": ORIGIN}, body=parts[:1]).status == 200


def test_only_the_upload_routes_take_large_bodies() -> None:
    headers = {"origin": ORIGIN, "content-length": str(20 * 2**20)}
    assert ask(services(), "POST", "/v1/uploads", headers=headers).status == 200
    assert ask(services(), "POST", "/v1/uploads/x", headers=headers).status == 413


@pytest.mark.parametrize("length", ["-1", "1e3", "0x10", "", "1,1"])
def test_a_length_that_is_no_number_is_refused(length: str) -> None:
    assert ask(services(), "POST", headers={"origin": ORIGIN, "content-length": length}).status == 400


def test_an_address_that_asks_too_often_is_told_when_to_come_back() -> None:
    limited = services()
    limited.rate_limiter = Limiter(frozenset({"203.0.113.7"}))
    answer = ask(limited)
    assert answer.status == 429
    assert answer.headers["retry-after"] == "12"
    assert answer.headers["ratelimit-policy"] == '"address";q=5;w=60'
    assert answer.headers["ratelimit"] == '"address";r=0;t=12'
    assert ask(limited, path="/livez").status == 200


def test_every_answer_carries_the_security_headers_and_an_id_of_its_own() -> None:
    first, second = ask(services()), ask(services())
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert first.headers["x-mine"] == "1"
    assert "default-src 'none'" in first.headers["content-security-policy"]
    assert first.headers["strict-transport-security"].startswith("max-age=31536000")
    for name in ("x-content-type-options", "referrer-policy", "cross-origin-opener-policy", "permissions-policy"):
        assert name in first.headers
    assert first.headers["cache-control"] == "no-store"
    refused = ask(services(), "POST")
    assert "content-security-policy" in refused.headers


def test_mail_is_sent_right_after_a_request_that_may_have_written_some() -> None:
    frame_services = services()
    ask(frame_services, "GET")
    ask(frame_services, "POST", headers={"origin": "https://evil.example"})
    assert frame_services.mail.nudges == 0
    ask(frame_services, "POST", headers={"origin": ORIGIN})
    assert frame_services.mail.nudges == 1


def test_a_remote_store_of_the_rates_is_asked_beside_the_event_loop() -> None:
    limited = services()
    limited.rate_limiter = Limiter(frozenset({"203.0.113.7"}), in_memory=False)
    assert ask(limited).status == 429


def test_trace_is_off() -> None:
    assert ask(services(), "TRACE").status == 405


def test_without_trusted_proxies_a_forwarded_address_is_not_believed() -> None:
    assert ask(services(), headers={"x-forwarded-for": "198.51.100.1"}).body == b"203.0.113.7"


def test_behind_trusted_proxies_the_rightmost_hop_that_none_of_them_is_counts() -> None:
    trusting = services(trusted_proxies=["10.0.0.0/8"])
    forged = {"x-forwarded-for": "1.2.3.4, 198.51.100.1, 10.0.0.2"}
    assert ask(trusting, headers=forged, client="10.0.0.1").body == b"198.51.100.1"
    assert ask(trusting, headers=forged, client="203.0.113.7").body == b"203.0.113.7"


@given(st.text(max_size=60), st.sampled_from(["10.0.0.1", "203.0.113.7", "unix"]))
def test_no_forwarded_header_breaks_the_frame_or_invents_trust(header: str, peer: str) -> None:
    networks = [ipaddress.ip_network("10.0.0.0/8")]
    headers = Headers({"x-forwarded-for": header.encode("ascii", "ignore").decode()})
    found = client_address({"client": (peer, 1)}, headers, networks)
    assert found == peer or peer == "10.0.0.1"
