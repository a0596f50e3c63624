"""Idempotency-Key: a creating request that is sent again creates nothing again, and gets the first answer again.

For handlers of creating POSTs, inside the transaction of the call::

    with auth.transaction() as caller, idempotent(caller, request, body) as once:
        if once.replay is not None:
            return once.replay
        report = ...                                    # create, through caller.database
        return once.keep(JSONResponse(..., status_code=201, headers={"Location": ...}))

A route shows the header as ``_key: Annotated[str | None, idempotency_key()] = None``: optional for FastAPI, so that its
absence is answered here. `body` is the request model (or the digest of an uploaded file as bytes): with method and path
it is the fingerprint of the request. The answer is written in the transaction of the creation, so a crash leaves
neither; a `Problem` is not kept, the request may be sent again. Answers are kept for 24 hours, sealed under the pepper,
since they may hold a secret (a new API key). 400: no key; 422: the key came with another request; 409: it still runs.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fastapi import Header, Response
from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic_core import to_jsonable_python

from offgridflow_pipeline.database.idempotency import KeptAnswer, RequestKey
from offgridflow_pipeline.sidecar.entrance.problems import Problem
from offgridflow_pipeline.sidecar.services import services_of

if TYPE_CHECKING:
    from fastapi import Request

    from offgridflow_pipeline.sidecar.entrance.caller import Caller

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
#: Statuses that a route with `idempotent` may answer with, for its `problem_responses`.
STATUSES = (400, 409, 422)
FORM = r"[\x21-\x7e]{1,255}"
_NONCE_BYTES = 12


def idempotency_key() -> Any:
    """Parameter that shows the header in the OpenAPI document; `idempotent` checks it, and requires it."""
    return Header(
        alias=HEADER,
        description="Unique per creation, for example a UUID: the same request sent again creates nothing again.",
        examples=["5c1f6d2e-8a43-4a52-9a55-2b0f0a1f4c11"],
    )


class Once:
    """One creating request: its kept answer, if it was answered before, or a place to keep it."""

    def __init__(self, caller: Caller, key: RequestKey, fingerprint: bytes, seal: _Seal) -> None:
        self._caller = caller
        self._key = key
        self._fingerprint = fingerprint
        self._seal = seal
        self.replay: Response | None = None
        self.answered = False

    def keep(self, response: Response) -> Response:
        """Keep the answer in the transaction of the call, and return it."""
        body = bytes(response.body)
        self._caller.database.idempotency.keep(
            self._caller.tenant,
            self._key,
            KeptAnswer(
                self._fingerprint,
                response.status_code,
                {name: value for name, value in response.headers.items() if name != "content-length"},
                self._seal.close(body),
            ),
        )
        self.answered = True
        return response

    def find(self) -> None:
        """Set `replay` when the request was answered before.

        Raises:
            Problem: 409 while the same request runs, 422 when the key belongs to another one.
        """
        repository = self._caller.database.idempotency
        if not repository.claim(self._caller.tenant, self._key):
            raise Problem(
                409, "request_running", "The request with this key is still running.", headers={"Retry-After": "1"}
            )
        kept = repository.find(self._caller.tenant, self._key)
        if kept is None:
            return
        if kept.fingerprint != self._fingerprint:
            raise Problem(422, "key_reused", f"This {HEADER} came with another request: choose a new one.")
        body = self._seal.open(kept.body)
        self.replay = Response(body, kept.status, {**kept.headers, REPLAYED: "true"})
        self.answered = True


@contextmanager
def idempotent(caller: Caller, request: Request, body: BaseModel | bytes | None) -> Iterator[Once]:
    """Hold off the same request elsewhere until the transaction ends; yields its kept answer or a place to keep it.

    Raises:
        Problem: 400 without a usable key, 409 while the request runs, 422 when the key belongs to another request.
    """
    once = _once(caller, request, body)
    yield once
    if not once.answered:
        raise RuntimeError("The handler answered without once.keep(...): its answer cannot be repeated.")


def replay_of(caller: Caller, request: Request, body: BaseModel | bytes | None) -> Response | None:
    """The kept answer, for a handler that asks another service between two transactions; None: it is to be created.

    The same request elsewhere is not held off meanwhile: the other service must know it by the key, too.

    Raises:
        Problem: as for `idempotent`.
    """
    return _once(caller, request, body).replay


def _once(caller: Caller, request: Request, body: BaseModel | bytes | None) -> Once:
    key = request.headers.get(HEADER, "")
    if not re.fullmatch(FORM, key):
        raise Problem(400, "idempotency_key", f"Send {HEADER}: 1 to 255 visible characters, unique per creation.")
    route = f"{request.method} {getattr(request.scope.get('route'), 'path', request.url.path)}"
    request_key = RequestKey(caller.principal, route, key)
    seal = _Seal(services_of(request).pepper, caller, request_key)
    once = Once(caller, request_key, fingerprint(request.method, request.url.path, body), seal)
    once.find()
    return once


def fingerprint(method: str, path: str, body: BaseModel | bytes | None) -> bytes:
    """SHA-256 of method, path and canonical body: equal for requests that ask for the same."""
    content = body if isinstance(body, bytes) else _canonical(body)
    return hashlib.sha256(b"\n".join((method.encode(), path.encode(), content))).digest()


def _canonical(body: BaseModel | None) -> bytes:
    value = None if body is None else body.model_dump()
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_plain).encode()


def _plain(value: object) -> object:
    """A value as JSON knows it; pydantic itself writes every secret as the same stars."""
    if isinstance(value, SecretStr | SecretBytes):
        return to_jsonable_python(value.get_secret_value())
    return to_jsonable_python(value)


class _Seal:
    """AES-256-GCM under a key made of the pepper; bound to tenant, principal, route and key."""

    def __init__(self, pepper: bytes, caller: Caller, key: RequestKey) -> None:
        self._key = hashlib.blake2b(
            b"idempotency answers", key=hashlib.sha256(pepper).digest(), digest_size=32
        ).digest()
        self._bound_to = json.dumps([str(caller.tenant_id), key.principal, key.route, key.key]).encode()

    def close(self, content: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + AESGCM(self._key).encrypt(nonce, content, self._bound_to)

    def open(self, sealed: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(self._key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], self._bound_to)
