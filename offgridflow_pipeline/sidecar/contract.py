"""The OpenAPI document: what FastAPI knows of the routes, and what frame and doors around them answer besides.

Checked in as docs/openapi.json; ``make openapi`` (``python -m offgridflow_pipeline.sidecar``) writes it anew.
Examples of bodies are data: `data/examples.json`, by the name of their schema. Nothing here serves a request.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts

from offgridflow_pipeline.sidecar.entrance.idempotency import FORM as KEY_FORM
from offgridflow_pipeline.sidecar.entrance.idempotency import HEADER as KEY_HEADER
from offgridflow_pipeline.sidecar.entrance.middleware import (
    COOKIELESS_PATHS,
    SAFE_METHODS,
    SIGNED_PATHS,
    UNLIMITED_PATHS,
)
from offgridflow_pipeline.sidecar.entrance.problems import MEDIA_TYPE, ProblemDocument, title_of

if TYPE_CHECKING:
    from fastapi import FastAPI

EXAMPLES = Path(__file__).with_name("data") / "examples.json"
METHODS = frozenset({"get", "head", "post", "put", "patch", "delete"})
#: Components that FastAPI makes for its own errors, which nobody gets to see here.
_FASTAPI_ERRORS = ("HTTPValidationError", "ValidationError")

DESCRIPTION = """\
Figures are decimals as text: nothing is rounded. Times are UTC, RFC 3339. Every answer that is no success is a problem
document (RFC 9457) whose `code` is stable. Every answer has `X-Request-Id`, the `trace_id` of its problems.

Lists are pages: send `next_cursor` as `cursor`, with the same filters. Reads with an `ETag` take `If-None-Match`.
What creates takes `Idempotency-Key`: the same request sent again within 24 hours gets the first answer again.
"""

TAGS: Mapping[str, str] = {
    "emissions": "Published figures: totals, trend, quality.",
    "evidence": "What a figure is made of: ledger lines, explanations, factors.",
    "reports": "Editions of a month's report, decisions on them, their files.",
    "runs": "Work asked of the pipeline.",
    "uploads": "Activity files: fuel, electricity, travel, spend.",
    "connectors": "Where bills and carbon statements come from.",
    "auth": "Signing in and out, second factor, passwords, exchange tokens.",
    "me": "One's own account.",
    "tenant": "The organisation and its settings.",
    "members": "Members and invitations.",
    "api-keys": "Credentials of machines.",
    "audit": "The organisation's audit log.",
    "billing": "The subscription: plan, limits, use, and the ways to Stripe's pages.",
    "webhooks": "Events that other services send, signed.",
    "health": "For machines that watch.",
    "gate": "For the proxy before the Dagster UI.",
    "machines": "Public keys of this installation.",
}

SECURITY_SCHEMES: Mapping[str, Mapping[str, str]] = {
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "__Host-ogf_session",
        "description": "Session of a person, from `POST /v1/auth/login`. Unsafe requests must come from our origin.",
    },
    "api_key": {"type": "http", "scheme": "bearer", "description": "API key of a machine: `ogf_live_…`."},
    "exchange_token": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "Token of ten minutes, from `POST /v1/auth/token`.",
    },
}
_PERSON, _ANYBODY = ("session",), ("session", "api_key", "exchange_token")

_HEADERS: Mapping[str, Mapping[str, Any]] = {
    "ETag": {"description": "Changes when the answer does.", "required": True},
    "Location": {"description": "Path of what was created or asked for.", "required": True},
    "Retry-After": {"description": "Seconds to wait."},
    "RateLimit": {"description": "Policy, what is left of it, and seconds until there is more."},
    "RateLimit-Policy": {"description": "Policy, its quota and its window in seconds."},
    "WWW-Authenticate": {"description": "How to prove who you are.", "required": True},
}
#: Statuses that a client asks for by a header, which handlers read themselves.
_ASKED_BY_HEADER: Mapping[str, tuple[str, str]] = {
    "206": ("Range", "One range of bytes: bytes=0-1023."),
    "304": ("If-None-Match", "`ETag` of the answer that you hold: 304 when it still is the answer."),
}
_PROBLEM_HEADERS: Mapping[int, tuple[str, ...]] = {
    401: ("WWW-Authenticate",),
    429: ("Retry-After", "RateLimit", "RateLimit-Policy"),
    503: ("Retry-After",),
}


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the app, in a stable order."""
    found = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version="3.1.0",
        summary=app.summary,
        description=DESCRIPTION,
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
    )
    examples = json.loads(EXAMPLES.read_text(encoding="utf-8"))
    doors = _doors(app)
    for path, method, operation in operations(found):
        _complete(path, method, operation, doors[path, method])
    components = found["components"]
    components["schemas"] = _schemas(components["schemas"], examples)
    components["responses"] = {_name(status): _problem(status) for status in sorted(_statuses(found))}
    components["headers"] = {name: {**header, "schema": {"type": "string"}} for name, header in _HEADERS.items()}
    components["securitySchemes"] = {name: dict(scheme) for name, scheme in SECURITY_SCHEMES.items()}
    found["paths"] = dict(sorted(found["paths"].items()))
    return found


def text(contract: Mapping[str, Any]) -> str:
    """The document as it is checked in."""
    return json.dumps(contract, indent=1, ensure_ascii=False) + "\n"


def operations(contract: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method in lower case, and operation of everything that can be asked."""
    for path, item in contract["paths"].items():
        for method, operation in item.items():
            if method in METHODS:
                yield path, method, operation


def _doors(app: FastAPI) -> dict[tuple[str, str], Any]:
    """The door of each route: the dependency that says what it asks for."""
    found: dict[tuple[str, str], Any] = {}
    for route in iter_route_contexts(app.routes):
        for method in (getattr(route, "methods", None) or ()) if hasattr(route, "dependant") else ():
            found[str(route.path), method.lower()] = next(_declared(route.dependant), None)
    return found


def _declared(dependant: Any) -> Iterator[Any]:
    for dependency in dependant.dependencies:
        if hasattr(dependency.call, "__ogf_access__"):
            yield dependency.call
        yield from _declared(dependency)


def _complete(path: str, method: str, operation: dict[str, Any], door: Any) -> None:
    """Add who may ask, what the frame and the door answer, and the headers that come along."""
    access, machines = door.__ogf_access__, door.__ogf_machines__
    schemes = () if access == "public" else _ANYBODY if machines else _PERSON
    operation.setdefault("security", [{scheme: []} for scheme in schemes])
    if ":" in access:
        operation["x-permission"] = access
    responses = operation["responses"]
    declared = {int(status) for status in responses}
    for status in sorted(declared | _around(path, method, operation, access)):
        if status >= 400:
            responses[str(status)] = {"$ref": f"#/components/responses/{_name(status)}"}
    operation["responses"] = dict(sorted(responses.items()))
    for parameter in operation.get("parameters", ()):
        if parameter["name"] == KEY_HEADER:  # optional for FastAPI, so that its absence is answered with 400
            parameter["required"] = True
            parameter["schema"] = {**_plain_text(parameter["schema"]), "pattern": f"^{KEY_FORM}$"}
    _add_headers(operation)


def _around(path: str, method: str, operation: Mapping[str, Any], access: str) -> set[int]:
    """Statuses that do not come from the handler: of the frame, the door, the form of the request, or a failure."""
    found = {500, 503}  # 503: the database is out of reach
    if path not in UNLIMITED_PATHS:
        found.add(429)
    if access != "public":
        found |= {401, 403}
    if method.upper() not in SAFE_METHODS and path not in COOKIELESS_PATHS and not path.startswith(SIGNED_PATHS):
        found.add(403)
    if method.upper() not in SAFE_METHODS:
        found.add(413)
    if "requestBody" in operation:
        found |= {400, 422}
    if operation.get("parameters"):
        found.add(422)
    return found


def _add_headers(operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    creates = any(parameter["name"] == KEY_HEADER for parameter in operation.get("parameters", ()))
    for status, response in responses.items():
        if "304" in responses and status in {"200", "206", "304"}:
            response.setdefault("headers", {})["ETag"] = _header("ETag")
        if status == "201" or (creates and status == "202"):
            response.setdefault("headers", {})["Location"] = _header("Location")
    for status, (name, description) in _ASKED_BY_HEADER.items():
        if status in responses:
            header = {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}
            operation.setdefault("parameters", []).append(header)


def _schemas(found: Mapping[str, Any], examples: Mapping[str, Any]) -> dict[str, Any]:
    """The schemas with their examples; a page is an example of what it lists."""
    problem = ProblemDocument.model_json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
    schemas = {**found, **problem.pop("$defs"), "Problem": problem}
    for name in _FASTAPI_ERRORS:
        schemas.pop(name, None)
    for name, example in examples.items():
        schemas[name] = {**schemas[name], "examples": [example]}
    for name, schema in schemas.items():
        if name.startswith("Page_"):
            item = examples.get(name.removeprefix("Page_").removesuffix("_"))
            schemas[name] = {**schema, "examples": [{"items": [item], "next_cursor": None}]}
    return dict(sorted(schemas.items()))


def _statuses(found: Mapping[str, Any]) -> set[int]:
    return {
        int(status) for *_, operation in operations(found) for status in operation["responses"] if int(status) >= 400
    }


def _problem(status: int) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": title_of(status),
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if headers := _PROBLEM_HEADERS.get(status):
        response["headers"] = {name: _header(name) for name in headers}
    return response


def _name(status: int) -> str:
    return title_of(status).replace(" ", "").replace("-", "")


def _header(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/headers/{name}"}


def _plain_text(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a text that must be there."""
    kept = {name: value for name, value in schema.items() if name not in {"anyOf", "default"}}
    return {"type": "string", **kept}
