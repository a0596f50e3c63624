"""Every route x every role x {own, foreign, unknown id}, asked of the app: what `access_matrix.csv` states.

``python -m offgridflow_pipeline_tests.sidecar.access_matrix`` prints the table anew; read the difference before you
check it in.
"""

from __future__ import annotations

import csv
import io
import re
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from fastapi.routing import iter_route_contexts

from offgridflow_pipeline.sidecar.entrance.problems import MEDIA_TYPE
from offgridflow_pipeline_tests.sidecar.world import ORIGIN, ROLE_NAMES, Someone, World, once_for_each

TABLE = Path(__file__).with_name("access_matrix.csv")
CALLERS = ("anonymous", *ROLE_NAMES)
IDS = ("own", "foreign", "unknown")
_LONG = timedelta(days=1)
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
#: What differs between two answers to the same question: ids of requests, and the path that was asked for.
_VARYING = re.compile(rb'"instance":"[^"]*"|[0-9a-f]{32}')


_OCTOBER = {"first": "2026-10-01", "last": "2026-10-31"}
SIGN_INS = frozenset({"POST /sign-in", "POST /v1/auth/login"})
QUERIES = {
    "/v1/emissions/totals": {"from": "2026-10-01", "to": "2026-10-31"},
    "/v1/emissions/series": {"from": "2026-10-01", "to": "2026-10-31"},
    "/v1/emissions/lines": {"from": "2026-10-01", "to": "2026-10-31"},
    "/v1/quality": {"from": "2026-10-01", "to": "2026-10-31"},
}
#: Bodies of routes whose model has no example of its own.
BODIES: dict[str, Any] = {
    "POST /v1/runs": {"type": "connector_sync", "payload": _OCTOBER},
    "POST /v1/reports": {"month": "2026-10"},
    "POST /v1/connectors/{connection_id}/sync": _OCTOBER,
}
FORMS: dict[str, dict[str, str]] = {
    "POST /connections/{connection_id}/sync": _OCTOBER,
    "POST /keys": {"name": "portal", "permissions": "emissions:read"},
    "POST /members/invitations": {"email": "anna@alder.example", "role": "viewer"},
    "POST /members/{user_id}": {"role": "analyst"},
    "POST /reports": {"month": "2026-10"},
    "POST /billing/checkout": {"plan": "pro"},
    "POST /settings/profile": {"name": "Somebody Else", "locale": "en"},
}


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, the content that tells one refusal from another, and where it leads."""

    status: int
    content: bytes
    location: str = ""


@dataclass(frozen=True)
class Asked:
    """One route and method, and what it declares."""

    route: Any  #: as it is served: FastAPI's route with the prefix of its router
    method: str

    @cached_property
    def access(self) -> str:
        """What the route asks for: a permission, `signed_in` or `public`; empty when it forgot to say."""
        return ",".join(dict.fromkeys(_declared(self.route.dependant)))

    @property
    def parameters(self) -> list[str]:
        """Names in its path."""
        return _PARAMETER.findall(self.route.path)

    @property
    def names_things(self) -> bool:
        """Whether the path names something of a tenant or a person."""
        return bool(self.parameters) and self.access != "public"


def _declared(dependant: Any) -> Iterator[str]:
    for dependency in dependant.dependencies:
        if found := getattr(dependency.call, "__ogf_access__", None):
            yield found
        yield from _declared(dependency)


def asked_routes(app: Any) -> list[Asked]:
    """Every route of the app and its methods, in order of path."""
    routes = [context for context in iter_route_contexts(app.routes) if hasattr(context, "dependant")]
    found = [Asked(route, method) for route in routes for method in sorted(route.methods)]
    return sorted(found, key=lambda asked: (asked.route.path, asked.method))


class Asker:
    """Asks as each role of the tenant `own`, for things of `own`, of `foreign`, and for things nobody has."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.own, self.foreign = world.tenant(), world.tenant()
        self._people = {role: world.someone(self.own, role) for role in ROLE_NAMES if role != "api_key"}
        self._key = world.key(self.own)
        self._line = once_for_each(world.ledger_line)
        self._report = once_for_each(world.report)
        self._upload = once_for_each(world.upload)

    def ask(self, asked: Asked, caller: str, ids: str) -> Answer:
        """The answer of the app."""
        someone = self._people.get(caller)
        path = self._path(asked, ids, someone)
        headers = {**self._credential(caller), "Idempotency-Key": uuid.uuid4().hex}
        self.world.client.cookies.clear()  # what an answer before this one set is no credential of this caller
        content = self._body(asked)
        found = self.world.client.request(asked.method, path, headers=headers, params=QUERIES.get(path), **content)
        assert found.status_code < 500 or found.headers["content-type"] == MEDIA_TYPE, (path, found.text)
        location = _VARYING.sub(b"", found.headers.get("location", "").encode()).decode()
        return Answer(found.status_code, _VARYING.sub(b"", found.content), location)

    def _credential(self, caller: str) -> dict[str, str]:
        if caller == "anonymous":
            return dict(ORIGIN)
        if caller == "api_key":
            return self._key
        person = self._people[caller]
        token = self.world.session(person.user_id, self.own)
        return Someone(person.user_id, person.email, self.own, token).headers

    def _path(self, asked: Asked, ids: str, someone: Someone | None) -> str:
        tenant = {"own": self.own, "foreign": self.foreign}.get(ids, "")
        values = {name: self._value(name, asked, tenant, someone) for name in asked.parameters}
        return _PARAMETER.sub(lambda match: str(values[match[1]]), asked.route.path)

    def _value(self, name: str, asked: Asked, tenant: str, someone: Someone | None) -> Any:
        """An id of the tenant; without a tenant one that nobody has. What the request may change is made anew."""
        world, method = self.world, asked.method
        changing = method not in ("GET", "HEAD")
        approved = asked.route.path.endswith("/issue")
        reviewed = world.approved_report if approved else world.report
        makers: dict[str, Callable[[str], Any]] = {
            "report_id": lambda t: f"rep_{(reviewed if changing else self._report)(t)}",
            "name": lambda _t: "report.pdf",
            "job_id": lambda t: f"job_{world.job(t)}",
            "user_id": lambda t: world.someone(t).user_id,
            "invitation_id": world.invitation,
            "key_id": lambda t: world._key(t).row.key_id,
            "connection_id": world.connection,
            "upload_id": lambda t: f"upl_{self._upload(t)}",
            "line_id": self._line,
            "session_id": lambda t: self._session_id(t, someone),
            "slug": lambda t: t,
            "verb": lambda _t: "review",
        }
        nobody: dict[str, Any] = {
            "report_id": f"rep_{uuid.uuid4()}", "job_id": f"job_{uuid.uuid4()}", "upload_id": f"upl_{uuid.uuid4()}",
            "key_id": "Zz9Zz9Zz9Z", "connection_id": "nothing-here", "line_id": "0" * 64, "slug": "nobody-here",
        }  # fmt: skip
        if asked.access == "public":
            return "nothing-here"
        if not tenant and name not in ("name", "verb"):
            return nobody.get(name, uuid.uuid4())
        return makers[name](tenant)

    def _session_id(self, tenant: str, someone: Someone | None) -> Any:
        if tenant == self.own and someone is not None:
            self.world.session(someone.user_id, tenant)
            owner = someone.user_id
        else:
            owner = self.world.someone(tenant).user_id
        with self.world.api.user(owner) as scope:
            return self.world.api.within(scope).sessions.list(owner, _LONG)[0].session_id

    def _body(self, asked: Asked) -> dict[str, Any]:
        """A body of the right form: ours for the route, else the example of the route's own model."""
        key = f"{asked.method} {asked.route.path}"
        if key == "POST /v1/uploads":
            return {"data": {"kind": "fuel"}, "files": {"file": ("f.csv", b"date,quantity,unit\n", "text/csv")}}
        if key in SIGN_INS:  # an address of its own for each: the delay grows with failures
            who = {"email": f"{uuid.uuid4().hex}@alder.example", "password": "no-such-password"}
            return {"json": who} if "/v1" in key else {"data": who}
        if key in FORMS:
            return {"data": _unique(FORMS[key])}
        if key in BODIES:
            return {"json": BODIES[key]}
        if asked.route.body_field is None:
            return {}
        model = asked.route.body_field.field_info.annotation
        examples = getattr(model, "model_config", {}).get("json_schema_extra", {}).get("examples")
        return {"json": _unique(examples[0])} if examples else {}


def _unique(body: dict[str, Any]) -> dict[str, Any]:
    """The body under a name of its own, where names are unique."""
    return {
        name: f"n{uuid.uuid4().hex}" if name in ("name", "id", "connection_id") else value
        for name, value in body.items()
    }


def rows(world: World) -> Iterator[dict[str, str]]:
    """The table, one row per route, method and kind of id."""
    asker = Asker(world)
    for asked in asked_routes(world.app):
        for ids in IDS if asked.names_things else ("-",):
            statuses = {caller: str(asker.ask(asked, caller, ids).status) for caller in CALLERS}
            yield {
                "method": asked.method,
                "path": asked.route.path,
                "access": asked.access,
                "ids": ids,
                **statuses,
            }


def table(found: list[dict[str, str]]) -> str:
    """The table as text."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ["method", "path", "access", "ids", *CALLERS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return text.getvalue()


def main() -> None:
    """Print the table of the app as it is."""
    from offgridflow_pipeline_tests.counterparts.postgres import migrated_database

    with migrated_database() as operator, tempfile.TemporaryDirectory() as folder:
        world = World(operator, operator.connected_as("ogf_api"), Path(folder))
        sys.stdout.write(table(list(rows(world))))
        world.api.close()


if __name__ == "__main__":
    main()
