"""The common part of our own fakes of providers' APIs: JSON over a scripted server, recorded, failing on demand.

What an API answers stands in its own module, written from the official model.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from offgridflow_pipeline_tests.counterparts import scripted_server as scripted

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

    def answered(arrived: scripted.Request, _forward: scripted.Forward) -> scripted.Response:
        parts = urlsplit(arrived.target)
        request = Request(
            arrived.method,
            parts.path,
            {name: values[-1] for name, values in parse_qs(parts.query).items()},
            arrived.headers,
            json.loads(arrived.body) if arrived.body else None,
        )
        api.requests.append(request)
        answer = api.failures.popleft() if api.failures else api.answer(request)
        content = b"" if answer.body is None else _json(answer.body)
        return scripted.Response(answer.status, {"content-type": "application/json", **answer.headers}, content)

    with scripted.scripted_server() as server:
        server.rules.append(answered)
        api.endpoint = server.endpoint
        yield


def _json(body: Any) -> bytes:
    text = json.dumps(body, default=_marked)
    return _DECIMAL.sub(r"\1", text).encode()


def _marked(value: object) -> str:
    if not isinstance(value, Decimal):
        raise TypeError(f"{value!r} is no JSON")
    return f"\0{value}\0"
