"""Requests that no honest client sends, for any route: tables of texts, values, bodies and headers, and who asks them.

Asked of the ASGI app itself, since clients refuse to send most of them.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from offgridflow_pipeline.sidecar.entrance.middleware import MAXIMUM_BODY_BYTES

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
DIGITS = "9" * 5000  #: more than Python makes an int of

#: Percent-encoded texts, for paths, queries and forms.
TEXTS = {
    "NUL": "%00",
    "NUL inside": "a%00b",
    "half a surrogate pair": "%ED%A0%80",
    "no UTF-8": "%FF%FEx",
    "overlong UTF-8": "%C0%80",
    "line break": "a%0D%0Ab",
    "long": "a" * 8000,
    "digits": DIGITS,
    "minus": f"-{DIGITS}",
    "no number": "NaN",
    "infinite": "1e400",
    "foreign digits": "%D9%A2%D9%A0%D9%A2%D9%A6-%D9%A1%D9%A0",
    "year 0": "0000-01",
    "first day": "0001-01-01",
    "last day": "9999-12-31",
    "last instant": "9999-12-31T23:59:59-23:59",
    "path": "..%2F..%2Fetc%2Fpasswd",
    "quotes": "%27%22%3B--%5C%25",
    "template": "%7B%7B7%2A7%7D%7D%24%7Bx%7D",
    "emoji": "%F0%9F%98%80",
    "turned around": "%E2%80%AEx",
    "empty": "",
    "percent": "%25s%25n",
}
#: Values of a field in JSON, as JSON.
VALUES = {
    "null": "null",
    "true": "true",
    "zero": "0",
    "minus one": "-1",
    "large": "1e308",
    "infinite": "1e400",
    "not a number": "NaN",
    "digits": "9" * 4000,
    "too many digits": DIGITS,
    "list": "[]",
    "lists": "[[[[]]]]",
    "object": "{}",
    "objects": '{"a":{"a":{"a":null}}}',
    "empty": '""',
    "NUL": '"a\\u0000b"',
    "half a surrogate pair": '"a\\ud800b"',
    "other half": '"\\udfff"',
    "long": f'"{"a" * 100_000}"',
    "line break": '"a\\r\\nBcc: b@example.org"',
    "turned around": '"\\u202ex"',
    "first instant": '"0001-01-01T00:00:00+23:59"',
    "last instant": '"9999-12-31T23:59:59-23:59"',
    "foreign digits": '"\\u0662\\u0660\\u0662\\u0666-\\u0661\\u0660"',
    "year 0": '"0000-01"',
    "list of NUL": '["\\u0000"]',
    "name of half a pair": '{"\\ud800": 1}',
}
#: Whole bodies, whatever the route asks for.
BODIES = {
    "nothing": b"",
    "broken": b"{",
    "text": b'"x"',
    "null": b"null",
    "list": b"[]",
    "deep lists": b"[" * 100_000,
    "deep and closed": b"[" * 900 + b"]" * 900,
    "deep objects": b'{"a":' * 20_000,
    "no UTF-8": b'{"a":"\xff\xfe"}',
    "surrogate as bytes": b'{"a":"\xed\xa0\x80"}',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf{}",
    "NUL bytes": b"\0" * 100,
    "NUL in a name": b'{"a\\u0000b":1}',
    "half a pair in a name": b'{"\\ud800":1}',
    "long name": b'{"' + b"n" * 100_000 + b'":1}',
    "many names": json.dumps({f"n{number}": number for number in range(20_000)}).encode(),
    "slashes in a name": b'{"a/b~c":1}',
    "twice the same name": b'{"a":1,"a":{"a":2,"a":3}}',
    "too large": b'"' + b"a" * MAXIMUM_BODY_BYTES + b'"',
}
CONTENT_TYPES = (
    "", "text/plain", "application/xml", "application/json; charset=utf-16", "application/jsonx", "multipart/form-data",
    "multipart/form-data; boundary=", "multipart/form-data; boundary=x", FORM, "\xff/\xfe", "a" * 8000, "application/json, a/b",
)  # fmt: skip
HEADERS = (
    ("host", "["), ("host", "a/gate?"), ("host", "[::::]"), ("host", "a:99999999"), ("host", "\xff"), ("host", "a b"),
    ("content-length", "\xb2"), ("content-length", "-1"), ("content-length", DIGITS), ("content-length", ""),
    ("cookie", "ogf_session=\xff\xfe"), ("cookie", "ogf_session=" + "a" * 8000), ("cookie", "ogf_session"), ("cookie", ";;=;"),
    ("cookie", 'ogf_session="\\377"'), ("cookie", "ogf_language=\xff; language=%00"),
    ("authorization", ""), ("authorization", "Bearer"), ("authorization", "Bearer \xff"), ("authorization", "Basic eDp5"),
    ("authorization", "Bearer ogf_live_"), ("authorization", "Bearer ogf_live_\xe9\xe9_\xe9_\xe9"),
    ("authorization", "Bearer ogf_live_" + "a" * 8000), ("authorization", "Bearer a.b.c"),
    ("authorization", "Bearer eyJhbGciOiJub25lIn0.e30."), ("authorization", "Bearer " + "e30." * 2000),
    ("range", "bytes=0-" + DIGITS), ("range", "bytes=-" + DIGITS), ("range", "bytes=\xb2-\xb3"), ("range", "bytes=5-2"),
    ("if-none-match", "\xff"), ("if-none-match", "," * 8000), ("if-none-match", "*"), ("if-range", "\xff"),
    ("idempotency-key", ""), ("idempotency-key", "\xff"), ("idempotency-key", "a" * 8000),
    ("user-agent", "\xff\xfe"), ("user-agent", "a\0b"), ("user-agent", "a" * 8000), ("user-agent", ""),
    ("accept-language", "\xff"), ("accept-language", "de;q=" + DIGITS), ("accept-language", "," * 8000),
    ("accept-language", "de;q=nan"), ("accept-language", "x-\xe4;q=\xb2"), ("accept", "\xff"),
    ("x-forwarded-for", "\xff, [, 1.2.3.4:99999"), ("x-forwarded-for", "," * 8000),
    ("traceparent", "00-" + "0" * 32), ("traceparent", "\xff"), ("tracestate", "=" * 8000), ("baggage", "\xff=%00"),
    ("sec-fetch-site", "\xff"), ("origin", "\xff"), ("x-gate-mode", "\xff"), ("x-original-uri", "//[\xff%00"),
    ("x-original-method", "\xff"), ("x-forwarded-uri", "http://["), ("x-forwarded-method", ""), ("expect", "100-continue"),
)  # fmt: skip


#: What frame, door and pages read of every request.
FEW_HEADERS = (
    ("host", "["), ("user-agent", "a\0b"), ("accept-language", "x-\xe4;q=\xb2"), ("authorization", "Bearer ogf_live_\xe9"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """One request as a server hands it to the app; `what` says what is wrong with it."""

    what: str
    method: str
    path: str  #: percent-encoded
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `error` is the exception that left the app."""

    status: int
    content_type: str
    body: bytes
    error: str = ""


async def ask(app: Any, request: Request) -> Answer:
    """The answer of the app."""
    sent: list[Any] = []
    parts = list(request.body or (b"",))

    async def receive() -> Any:
        if not parts:
            await asyncio.Event().wait()  # the client stays and says no more
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "root_path": "",
        "method": request.method, "path": unquote(request.path), "raw_path": request.path.encode(),
        "query_string": request.query.encode(), "client": ("203.0.113.7", 1), "server": ("127.0.0.1", 8000),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in request.headers], "state": {},
    }  # fmt: skip
    error = ""
    try:
        await app(scope, receive, send)
    except Exception as raised:  # noqa: BLE001  whatever leaves the app is told
        error = f"{type(raised).__name__}: {raised}"
    headers = dict(sent[0]["headers"]) if sent else {}
    body = b"".join(message.get("body", b"") for message in sent[1:])
    status = sent[0]["status"] if sent else 0
    return Answer(status, headers.get(b"content-type", b"").decode(), body, error)


def in_path(template: str, values: dict[str, str]) -> Iterator[tuple[str, str]]:
    """The path with each hostile text in the place of each of its parameters; and what it is."""
    for name in values:
        for what, text in TEXTS.items():
            others = {other: quote(value, safe="") for other, value in values.items()}
            yield f"{what} as {name}", template.format(**{**others, name: text})


def in_query(names: Iterable[str], valid: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Queries with each hostile text as each parameter of a valid one; and what it is."""
    for name in names:
        rest = "".join(f"&{other}={value}" for other, value in valid.items() if other != name)
        for what, text in TEXTS.items():
            yield f"{what} as {name}", f"{name}={text}{rest}"
    yield "one many times", "&".join(["a=a"] * 2000)
    yield "NUL as a name", "%00=a"
    yield "broken escapes", "%=%zz&&=;"


def in_json(valid: Any, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Bodies with each hostile value as each field of a valid one, at any depth; and what it is."""
    known = valid if isinstance(valid, dict) else {}
    for place in dict.fromkeys((*_places(known), *((name,) for name in names))):
        for what, value in VALUES.items():
            yield f"{what} as {'/'.join(place)}", _with(known, place, value)
    for name, value in known.items():
        yield f"{name} twice", f'{{"{name}":[{{}}],{json.dumps(known)[1:-1]},"{name}":{json.dumps(value)}}}'.encode()


def _places(value: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, part in value.items():
        yield (name,)
        yield from ((name, *place) for place in (_places(part) if isinstance(part, dict) else ()))


def _with(valid: dict[str, Any], place: tuple[str, ...], value: str) -> bytes:
    """The valid body with the value, which need not be JSON, in that place."""
    here = "@here@"
    body = copy.deepcopy(valid)
    within = body
    for name in place[:-1]:
        within = within[name]
    within[place[-1]] = here
    return json.dumps(body).replace(json.dumps(here), value).encode()


def in_form(names: Iterable[str], valid: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """Forms with each hostile text as each field; and what it is."""
    names = tuple(names)
    for name in names:
        rest = "".join(f"&{other}={quote(value, safe='')}" for other, value in valid.items() if other != name)
        for what, text in TEXTS.items():
            yield f"{what} as {name}", f"{name}={text}{rest}".encode()
    yield "many fields", "&".join(f"f{number}=a" for number in range(5000)).encode()
    yield "NUL as a name", b"%00=a"


def multipart(names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Bodies with the boundary `x`: broken ones, and files with strange names and contents."""
    end = b"\r\n--x--\r\n"

    def part(disposition: str, content: bytes) -> bytes:
        return f"--x\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode("latin-1") + content

    for name in names:
        for what, content in {"NUL": b"\0", "no UTF-8": b"\xff\xfe", "long": b"a" * 100_000, "nothing": b""}.items():
            yield f"{what} as {name}", part(f'name="{name}"', content) + end
            yield f"a file of {what} as {name}", part(f'name="{name}"; filename="a.csv"', content) + end
        for file_name in ("\\0", "\xff\xfe", "../../a", "a" * 5000, '"', "a%00b", "a\0b"):
            yield f"a file {file_name[:9]!r} as {name}", part(f'name="{name}"; filename="{file_name}"', b"a,b\n") + end
    yield "no name", part("", b"a") + end
    yield "no end", part('name="a"', b"a")
    yield "many parts", b"".join(part(f'name="f{number}"', b"a") + b"\r\n" for number in range(1500)) + end
    yield "a long header", b"--x\r\n" + b"h: " + b"a" * 100_000 + b"\r\n\r\na" + end
    yield "no header", b"--x\r\n\r\n\r\n" + end
