"""Https files as a store: the guard against forged requests, and what a web server may do wrong while we read."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import random
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from offgridflow_pipeline.connectors.access import HttpsAccess
from offgridflow_pipeline.connectors.errors import AccessDeniedError, DeliveryError, ExpiredCredentialsError
from offgridflow_pipeline.connectors.providers.calls import ProviderUnavailableError
from offgridflow_pipeline.connectors.stores import UNKNOWN_SIZE, Store, open_store
from offgridflow_pipeline.connectors.stores.guarded_connection import is_public, judged_address
from offgridflow_pipeline.connectors.stores.https import admitted
from offgridflow_pipeline.connectors.stores.transfer import TransferLimits
from offgridflow_pipeline_tests.counterparts.scripted_server import (
    Forward,
    Request,
    Response,
    ScriptedServer,
    always,
    own_certificate,
    scripted_server,
)

QUICK = TransferLimits(pause_seconds=0.01, attempts=2, continuations=3, connect_seconds=2, read_seconds=5)
BODY = random.Random(7).randbytes(300_017)
FILE = "/exports/bill.csv"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def site(certificate: Path) -> Iterator[ScriptedServer]:
    with scripted_server(certificate=certificate) as server:
        yield server


@pytest.fixture
def access(site: ScriptedServer, certificate: Path) -> HttpsAccess:
    return HttpsAccess(SecretStr("t0ken"), frozenset({site.netloc}), str(certificate))


def _store(access: HttpsAccess, limits: TransferLimits = QUICK) -> Store:
    return open_store("https://any", access, limits)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class WebFile:
    """A rule that serves one file as a good web server does: HEAD, ETag, ranges with If-Range."""

    def __init__(self, body: bytes = BODY, etag: str = '"v1"', cut_after: int | None = None, cuts: int = 0) -> None:
        self.body, self.etag, self.cut_after, self.cuts = body, etag, cut_after, cuts
        self.extra: dict[str, str] = {}

    def __call__(self, request: Request, _forward: Forward) -> Response | None:
        if request.path != FILE:
            return None
        headers = {"ETag": self.etag, "Accept-Ranges": "bytes", **self.extra} if self.etag else dict(self.extra)
        if request.method == "HEAD":
            return Response(200, headers | {"Content-Length": str(len(self.body))})
        start = 0
        wanted = request.headers.get("range", "")
        if wanted and request.headers.get("if-range", self.etag) == self.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            headers["Content-Range"] = f"bytes {start}-{len(self.body) - 1}/{len(self.body)}"
        response = Response(206 if start else 200, headers, self.body[start:])
        if self.cuts:
            self.cuts -= 1
            response.cut_after = self.cut_after
        return response


def test_a_file_is_downloaded_with_its_token_and_verified(
    site: ScriptedServer, access: HttpsAccess, tmp_path: Path
) -> None:
    site.rules.append(WebFile())
    store = _store(access)
    (item,) = store.list(site.endpoint + FILE)
    assert (item.etag, item.size_bytes) == ('"v1"', len(BODY))
    store.download(item, tmp_path / "bill")
    assert (tmp_path / "bill").read_bytes() == store.read_bytes(item) == BODY
    assert _names(tmp_path) == ["bill"]
    assert {r.headers["authorization"] for r in site.requests} == {"Bearer t0ken"}


def test_a_body_that_breaks_off_is_continued_where_it_ended(
    site: ScriptedServer, access: HttpsAccess, tmp_path: Path
) -> None:
    site.rules.append(WebFile(cut_after=100_000, cuts=2))
    store = _store(access)
    (item,) = store.list(site.endpoint + FILE)
    store.download(item, tmp_path / "bill")
    assert (tmp_path / "bill").read_bytes() == BODY
    asked = site.asked("GET")
    assert [r.headers.get("range") for r in asked] == [None, "bytes=100000-", "bytes=200000-"]
    assert [r.headers.get("if-range") for r in asked] == [None, '"v1"', '"v1"']


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_strong_mark_a_broken_body_is_read_from_its_beginning(
    site: ScriptedServer, access: HttpsAccess, tmp_path: Path, etag: str
) -> None:
    site.rules.append(WebFile(etag=etag, cut_after=100_000, cuts=1))
    store = _store(access)
    (item,) = store.list(site.endpoint + FILE)
    store.download(item, tmp_path / "bill")
    assert (tmp_path / "bill").read_bytes() == BODY
    assert [r.headers.get("range") for r in site.asked("GET")] == [None, None]


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_a_file_that_changes_while_it_is_read_is_refused(
    site: ScriptedServer, access: HttpsAccess, tmp_path: Path, moment: str
) -> None:
    file = WebFile(cut_after=1000, cuts=moment == "between")
    site.rules.append(file)
    store = _store(access)
    (item,) = store.list(site.endpoint + FILE)

    def change(request: Request, _forward: Forward) -> None:
        if moment == "before" or "range" in request.headers or request.method == "HEAD":
            file.etag, file.body = '"v2"', BODY[::-1]

    site.rules.insert(0, change)
    with pytest.raises(DeliveryError, match=r"bill\.csv changed while it was read: run again"):
        store.download(item, tmp_path / "bill")
    assert _names(tmp_path) == []


@pytest.mark.parametrize("algorithm", ["sha-256", "sha-512"])
def test_bytes_that_do_not_fit_their_digest_are_refused(
    site: ScriptedServer, access: HttpsAccess, tmp_path: Path, algorithm: str
) -> None:
    digest = base64.b64encode(hashlib.new(algorithm.replace("-", ""), BODY).digest()).decode()
    file = WebFile(BODY[:-1] + b"x")
    file.extra = {"Repr-Digest": f"{algorithm}=:{digest}:"}
    site.rules.append(file)
    store = _store(access)
    (item,) = store.list(site.endpoint + FILE)
    with pytest.raises(DeliveryError, match="arrived damaged: its sha"):
        store.download(item, tmp_path / "bill")
    assert _names(tmp_path) == []
    file.body = BODY
    store.download(item, tmp_path / "bill")
    assert (tmp_path / "bill").read_bytes() == BODY


def test_an_oversized_file_is_refused_by_its_head_and_by_its_body(
    site: ScriptedServer, access: HttpsAccess, tmp_path: Path
) -> None:
    site.rules.append(WebFile())
    with pytest.raises(DeliveryError, match="has 300,017 bytes or more, at most 1,000 are read"):
        _store(access, replace(QUICK, maximum_bytes=1000)).list(site.endpoint + FILE)
    assert site.asked("GET") == []

    def endless(request: Request, _forward: Forward) -> Response:
        chunks = b"".join(b"%x\r\n%b\r\n" % (5000, b"x" * 5000) for _ in range(20))
        return Response(
            200, {"Transfer-Encoding": "chunked"}, b"" if request.method == "HEAD" else chunks + b"0\r\n\r\n"
        )

    site.rules.insert(0, endless)
    store = _store(access, replace(QUICK, maximum_bytes=30_000))
    (item,) = store.list(site.endpoint + FILE)
    assert item.size_bytes == UNKNOWN_SIZE
    with pytest.raises(DeliveryError, match="at most 30,000 are read"):
        store.download(item, tmp_path / "bill")
    assert _names(tmp_path) == []
    _store(access).download(item, tmp_path / "bill")
    assert (tmp_path / "bill").read_bytes() == b"x" * 100_000


def test_a_server_without_head_is_asked_with_get(site: ScriptedServer, access: HttpsAccess, tmp_path: Path) -> None:
    site.rules += [always("HEAD", "", Response(405)), WebFile()]
    store = _store(access)
    (item,) = store.list(site.endpoint + FILE)
    store.download(item, tmp_path / "bill")
    assert (tmp_path / "bill").read_bytes() == BODY


# The guard.


def test_a_host_that_is_not_listed_is_refused_without_asking_it(site: ScriptedServer, access: HttpsAccess) -> None:
    store = _store(replace(access, allowed_hosts=frozenset({"files.example.org"})))
    with pytest.raises(AccessDeniedError, match="lies on a host that is not listed: add 127.0.0.1:.*allowed_hosts"):
        store.list(site.endpoint + FILE)
    assert site.requests == []


@pytest.mark.parametrize(
    "uri",
    ["https://user:pw@host/a", "https://host/a?sig=secret", "https://host/a#b", "http://host/a", "https:///a"],
)
def test_only_a_plain_https_address_is_asked_and_secrets_in_it_are_not_repeated(access: HttpsAccess, uri: str) -> None:
    with pytest.raises(DeliveryError) as raised:
        _store(access).list(uri)
    assert "pw" not in str(raised.value)
    assert "secret" not in str(raised.value).replace("connection's secret", "")


def test_a_listed_name_with_a_private_address_is_refused_unless_listed_with_its_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolved = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 443)) for ip in ("93.184.215.14", "10.0.0.7")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: resolved)
    store = _store(HttpsAccess(allowed_hosts=frozenset({"files.example.org"})))
    with pytest.raises(
        AccessDeniedError, match=r"has the address 10\.0\.0\.7.*listed with its port \(files.example.org"
    ):
        store.list("https://files.example.org/bill.csv")
    assert judged_address("files.example.org", 443, any_address=True) == "93.184.215.14"


def test_the_connection_goes_to_the_address_that_was_judged(
    site: ScriptedServer, certificate: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A name server that answers differently the second time changes nothing; TLS still checks the name."""
    site.rules.append(WebFile())
    port = int(site.netloc.partition(":")[2])
    real, asked = socket.getaddrinfo, []

    def resolve(host: str, *arguments: object, **options: object) -> object:
        asked.append(host)
        return real("127.0.0.1" if host == "localhost" else host, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    access = HttpsAccess(allowed_hosts=frozenset({f"localhost:{port}"}), ca_bundle=str(certificate))
    (item,) = _store(access).list(f"https://localhost:{port}{FILE}")
    assert item.size_bytes == len(BODY)
    assert asked.count("localhost") == 1


def test_a_certificate_of_nobody_we_trust_is_refused(site: ScriptedServer, access: HttpsAccess) -> None:
    with pytest.raises(DeliveryError, match="the certificate of 127.0.0.1:.* is not one that we trust"):
        _store(replace(access, ca_bundle="")).list(site.endpoint + FILE)
    assert site.requests == []


def test_a_redirect_to_another_host_is_refused_and_the_token_stays_here(
    site: ScriptedServer, access: HttpsAccess, certificate: Path
) -> None:
    with scripted_server(certificate=certificate) as other:
        site.rules.append(always("HEAD", FILE, Response(302, {"Location": other.endpoint + FILE})))
        both = replace(access, allowed_hosts=frozenset({site.netloc, other.netloc}))
        with pytest.raises(AccessDeniedError, match="redirects to another host"):
            _store(both).list(site.endpoint + FILE)
        assert other.requests == []


def test_a_redirect_on_the_same_host_is_followed_but_not_for_ever(
    site: ScriptedServer, access: HttpsAccess, tmp_path: Path
) -> None:
    def moved(request: Request, _forward: Forward) -> Response | None:
        return Response(307, {"Location": FILE}) if request.path == "/latest" else None

    site.rules += [moved, WebFile()]
    store = _store(access)
    (item,) = store.list(f"{site.endpoint}/latest")
    assert item.uri == f"{site.endpoint}/latest"
    store.download(item, tmp_path / "bill")
    assert (tmp_path / "bill").read_bytes() == BODY
    site.rules.insert(0, always("HEAD", "", Response(302, {"Location": "/latest"})))
    with pytest.raises(DeliveryError, match="redirects more than 3 times"):
        store.list(f"{site.endpoint}/latest")


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (401, ExpiredCredentialsError, "does not accept the bearer token"),
        (403, AccessDeniedError, "does not let us read /exports/bill.csv"),
        (404, DeliveryError, "has no file /exports/bill.csv"),
        (503, ProviderUnavailableError, "Run again later"),
    ],
)
def test_a_refusal_of_the_server_names_its_reason(
    site: ScriptedServer, access: HttpsAccess, status: int, error: type[DeliveryError], message: str
) -> None:
    site.rules.append(always("HEAD", "", Response(status)))
    with pytest.raises(error, match=message) as raised:
        _store(access).list(site.endpoint + FILE)
    assert type(raised.value) is error
    assert "t0ken" not in str(raised.value)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1",
        "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:7f00:1::1",
    ],
)  # fmt: skip
def test_private_loopback_link_local_and_wrapped_addresses_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@given(st.ip_addresses(v=4))
def test_an_address_is_as_public_as_the_one_it_wraps(address: ipaddress.IPv4Address) -> None:
    wrapped = [
        ipaddress.IPv6Address(f"::ffff:{address}"),
        ipaddress.IPv6Address((0x64FF9B << 96) | int(address)),
    ]
    assert {is_public(one) for one in wrapped} == {is_public(address)}
    assert not (is_public(address) and (address.is_private or address.is_multicast or address.is_loopback))


@pytest.mark.parametrize(
    ("host", "port", "verdict"),
    [
        ("files.example.org", 443, "public"),
        ("FILES.example.org", 443, "public"),
        ("files.example.org", 8443, None),
        ("internal", 8443, "any"),
        ("internal", 443, None),
        ("example.org", 443, None),
        ("evil-files.example.org", 443, None),
    ],
)
def test_the_list_admits_exactly_what_it_names(host: str, port: int, verdict: str | None) -> None:
    assert admitted(host, port, frozenset({"files.example.org", "internal:8443"})) == verdict
