"""Single files over https, from hosts that the operator lists; guarded against requests forged through a uri.

A host without a port is asked on 443 and only where all its addresses are public; ``host:port`` in the list admits
private addresses too. What was resolved and judged is what is connected to. Redirects stay on the same host.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from offgridflow_pipeline.connectors.access import HttpsAccess
from offgridflow_pipeline.connectors.errors import AccessDeniedError, DeliveryError
from offgridflow_pipeline.connectors.stores import UNKNOWN_SIZE, StoredObject
from offgridflow_pipeline.connectors.stores.answers import Answer, Place, refusal, unreachable
from offgridflow_pipeline.connectors.stores.transfer import (
    CHUNK_BYTES,
    InterruptedBodyError,
    Known,
    Sink,
    TransferLimits,
    changed,
    download,
    interruptible,
    oversized,
    small_bytes,
)

if TYPE_CHECKING:
    from requests import Response, Session

_REDIRECTS = 3
#: RFC 9530, e.g. ``sha-256=:base64:``, of the whole representation also where only a part is sent.
_REPR_DIGEST = re.compile(r"\b(sha-256|sha-512)=:([A-Za-z0-9+/=]+):")
_RANGE_START = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")


class HttpsStore:
    """Files of the hosts that the access lists."""

    def __init__(self, access: HttpsAccess, limits: TransferLimits) -> None:
        self._hosts = frozenset(host.lower() for host in access.allowed_hosts)
        self._identity = "the connection's bearer token" if access.bearer_token.get_secret_value() else "no identity"
        self._limits = limits
        self._session = _session(access, limits)

    def list(self, uri: str) -> list[StoredObject]:
        """The one file."""
        with self._answer(uri, "list", "HEAD") as answer:
            if answer.status_code not in (405, 501):
                return [self._stored(uri, answer)]
        with self._answer(uri, "list", "GET") as answer:  # a server without HEAD; the body is left unread
            return [self._stored(uri, answer)]

    def read_bytes(self, item: StoredObject) -> bytes:
        """The bytes of a small file."""
        return small_bytes(item, self._limits, self._read_on)

    def download(self, item: StoredObject, target: Path) -> None:
        """Copy the file."""
        download(item, target, self._limits, self._read_on, partial(self._known, item))

    def _stored(self, uri: str, answer: Response) -> StoredObject:
        size = answer.headers.get("Content-Length", "")
        if size.isdigit() and int(size) > self._limits.maximum_bytes:
            raise oversized(uri, int(size), self._limits.maximum_bytes)
        return StoredObject(uri, _mark(answer.headers), int(size) if size.isdigit() else UNKNOWN_SIZE)

    def _read_on(self, sink: Sink) -> None:
        import urllib3

        mark = sink.item.etag
        headers = {"Want-Repr-Digest": "sha-256=1"}
        if sink.offset:
            # If-Range takes a strong validator only: anything else would be continued blindly.
            if mark.startswith("W/") or not mark:
                sink.restart()
            else:
                headers |= {"Range": f"bytes={sink.offset}-", "If-Range": mark}
        with self._answer(sink.item.uri, "get", "GET", headers) as answer:
            if _mark(answer.headers) != mark:
                raise changed(sink.item)
            if sink.offset and answer.status_code != 206:
                sink.restart()
            elif sink.offset:
                start = _RANGE_START.match(answer.headers.get("Content-Range", ""))
                if start is None or int(start[1]) != sink.offset:
                    raise InterruptedBodyError("the server sent another part")
            elif not _states_its_end(answer.headers):
                raise DeliveryError(
                    f"{sink.item.uri} comes without a length: a cut body could not be told from a whole one. "
                    "Serve it with Content-Length."
                )
            if not sink.offset:
                sink.expect(_digests(answer.headers))
            chunks = answer.raw.stream(CHUNK_BYTES, decode_content=False)
            sink.take(interruptible(chunks, urllib3.exceptions.HTTPError, ConnectionError))

    def _known(self, item: StoredObject) -> Known:
        (found,) = self.list(item.uri)
        if item.size_bytes not in (UNKNOWN_SIZE, found.size_bytes):
            raise changed(item)
        return Known(found.etag)

    @contextmanager
    def _answer(
        self, uri: str, operation: str, method: str, headers: Mapping[str, str] | None = None
    ) -> Iterator[Response]:
        """The answer, redirects on the same host followed, its body still to be read."""
        import requests

        asked = uri
        for _ in range(_REDIRECTS + 1):
            self._require_allowed(asked)
            try:
                answer = self._session.request(
                    method,
                    asked,
                    headers={"Accept-Encoding": "identity", **(headers or {})},
                    stream=True,
                    allow_redirects=False,
                    timeout=(self._limits.connect_seconds, self._limits.read_seconds),
                )
            except requests.RequestException as error:
                raise _untrusted(uri, error) or unreachable(uri, error) from None
            with answer:
                if not answer.is_redirect:
                    self._require_success(uri, operation, answer)
                    yield answer
                    return
                asked = _followed(asked, answer.headers["Location"])
        raise DeliveryError(f"{uri} redirects more than {_REDIRECTS} times: give the address it ends at.")

    def _require_success(self, uri: str, operation: str, answer: Response) -> None:
        status = answer.status_code
        if status < 300 or (operation == "list" and status in (405, 501)):
            return
        parts = urlsplit(uri)
        place = Place(uri, parts.netloc, self._identity, parts.path)
        raise refusal("https", Answer(operation, (str(status),), answer.reason or ""), place)

    def _require_allowed(self, uri: str) -> None:
        parts = urlsplit(uri)
        if parts.scheme != "https" or not parts.hostname or parts.username or parts.query or parts.fragment:
            raise DeliveryError(
                f"{parts.scheme}://{parts.hostname}{parts.path} is no plain https address: names, passwords and "
                "queries do not belong into a uri, give a bearer token as the connection's secret."
            )
        if admitted(parts.hostname, parts.port or 443, self._hosts) is None:
            raise AccessDeniedError(
                f"{uri} lies on a host that is not listed: add {parts.netloc} to https.allowed_hosts of the "
                "connection, if it may be asked."
            )


def admitted(host: str, port: int, listed: frozenset[str]) -> str | None:
    """How the list admits host and port: ``public`` or ``any`` addresses; None when it does not."""
    name = f"[{host}]" if ":" in host else host
    if f"{name}:{port}".lower() in listed:
        return "any"
    return "public" if port == 443 and host.lower() in listed else None


def _session(access: HttpsAccess, limits: TransferLimits) -> Session:
    from requests import Session
    from urllib3.util import Retry

    from offgridflow_pipeline.connectors.stores.guarded_connection import guarded_adapter

    retry = Retry(
        total=limits.attempts - 1,
        redirect=0,
        status_forcelist=(408, 429, 500, 502, 503, 504),
        allowed_methods=frozenset({"GET", "HEAD"}),
        backoff_factor=limits.pause_seconds,
        backoff_jitter=limits.pause_seconds,
        backoff_max=20,
        retry_after_max=60,
        raise_on_status=False,
    )
    session = Session()
    # Neither proxies nor ~/.netrc: the guard must see the real address, and no other secret may be sent.
    session.trust_env = False
    hosts = frozenset(host.lower() for host in access.allowed_hosts)
    session.mount("https://", guarded_adapter(lambda host, port: admitted(host, port, hosts) == "any", retry))
    if access.ca_bundle:
        session.verify = access.ca_bundle
    if token := access.bearer_token.get_secret_value():
        session.headers["Authorization"] = f"Bearer {token}"
    return session


def _followed(asked: str, location: str) -> str:
    found = urljoin(asked, location)
    here, there = urlsplit(asked), urlsplit(found)
    if (here.scheme, here.netloc) != (there.scheme, there.netloc):
        raise AccessDeniedError(
            f"{asked} redirects to another host ({there.hostname}): it is not followed, give the address itself."
        )
    return found


def _mark(headers: Mapping[str, str]) -> str:
    return headers.get("ETag") or headers.get("Last-Modified") or ""


def _states_its_end(headers: Mapping[str, str]) -> bool:
    return "Content-Length" in headers or "chunked" in headers.get("Transfer-Encoding", "").lower()


def _digests(headers: Mapping[str, str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name, text in _REPR_DIGEST.findall(headers.get("Repr-Digest", "")):
        try:
            found[name.replace("-", "")] = b64decode(text, validate=True)
        except Base64Error:
            continue  # not a digest: nothing to hold the bytes against
    return found


def _untrusted(uri: str, error: Exception) -> DeliveryError | None:
    if "CERTIFICATE_VERIFY_FAILED" not in str(error):
        return None
    return DeliveryError(
        f"{uri} cannot be read: the certificate of {urlsplit(uri).netloc} is not one that we trust. Correct it, or "
        "give the certificate authority of a private host."
    )
