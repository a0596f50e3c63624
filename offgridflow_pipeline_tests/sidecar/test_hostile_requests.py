"""Whatever is sent to whatever route, of API and portal alike: it is answered, and never with a failure of ours."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import uuid
from collections import Counter
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.sidecar import portal
from offgridflow_pipeline.sidecar.entrance.problems import MEDIA_TYPE
from offgridflow_pipeline_tests.sidecar import hostile
from offgridflow_pipeline_tests.sidecar.access_matrix import QUERIES, Asked, Asker, asked_routes
from offgridflow_pipeline_tests.sidecar.hostile import FORM, JSON, Answer, Request
from offgridflow_pipeline_tests.sidecar.world import ORIGIN, PASSWORD, Someone, World

pytestmark = pytest.mark.slow

UNSAFE = {"POST", "PUT", "PATCH", "DELETE"}
#: Routes that read headers themselves, and one of each kind of the others: these get every header.
READ_BY_HEADERS = {
    "/gate", "/livez", "/", "/v1/api-keys", "/v1/auth/token", "/v1/emissions/totals", "/v1/runs",
    "/v1/reports/{report_id}/artifacts/{name}", "/v1/uploads",
}  # fmt: skip


class Sender:
    """Sends hostile requests to a route as an owner, who signs in anew whenever a request ended the session."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asker = Asker(world)
        self.person = self.asker._people["owner"]
        self.statuses: Counter[int] = Counter()

    def session(self) -> tuple[tuple[str, str], ...]:
        token = self.world.session(self.person.user_id, self.asker.own)
        headers = Someone(self.person.user_id, self.person.email, self.asker.own, token).headers
        return tuple((name.lower(), value) for name, value in headers.items())

    def failures(self, requests: Iterator[Request]) -> list[str]:
        """Requests that were not answered, or answered with a failure, or with a refusal in another form."""

        async def all_of_them() -> list[str]:
            found, credential = [], self.session()
            for request in requests:
                own = {name for name, _ in request.headers}
                if "cookie" in own or "authorization" in own:
                    headers = request.headers
                else:
                    headers = (*(pair for pair in credential if pair[0] not in own), *request.headers)
                sent = Request(request.what, request.method, request.path, request.query, headers, request.body)
                answer = await hostile.ask(self.world.app, sent)
                self.statuses[answer.status] += 1
                if fault := _fault(request, answer):
                    found.append(f"{request.method} {request.path[:80]}: {request.what}: {fault}")
                if answer.status in (401, 303) or b"session has ended" in answer.body:
                    credential = self.session()
            return found

        return asyncio.run(all_of_them())

    def path(self, asked: Asked) -> str:
        """A path of the route that names things which are there."""
        return quote(self.asker._path(asked, "own", self.person), safe="/")


def _fault(request: Request, answer: Answer) -> str:
    if answer.error or answer.status >= 500 or answer.status == 0:
        return f"{answer.status} {answer.error or answer.body[:200]!r}"
    is_api = not portal.serves(request.path.partition("%")[0])
    if answer.status >= 400 and is_api and answer.content_type != MEDIA_TYPE:
        return f"{answer.status} {answer.content_type}"
    return ""


@pytest.fixture(scope="module")
def sender(database: Database, api_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Sender:
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    return Sender(World(database, api_database, tmp_path_factory.mktemp("hostile")))


def routes(sender: Sender) -> list[Asked]:
    found = asked_routes(sender.world.app)
    assert len(found) > 100
    return found


def test_no_text_in_a_path_is_answered_with_a_failure(sender: Sender) -> None:
    def requests() -> Iterator[Request]:
        for asked in routes(sender):
            template = re.sub(r":\w+}", "}", asked.route.path)
            values = dict.fromkeys(asked.parameters, "a")
            for what, path in hostile.in_path(template, values):
                yield Request(what, asked.method, path, headers=(("content-type", JSON),), body=(b"{}",))

    assert sender.failures(requests()) == []


def test_no_text_in_a_query_is_answered_with_a_failure(sender: Sender) -> None:
    def requests() -> Iterator[Request]:
        for asked in routes(sender):
            if asked.method == "GET":
                path = sender.path(asked)
                for what, query in hostile.in_query(_names(asked, "query_params"), QUERIES.get(path, {})):
                    yield Request(what, "GET", path, query)

    assert sender.failures(requests()) == []


def test_no_header_is_answered_with_a_failure(sender: Sender) -> None:
    def requests() -> Iterator[Request]:
        for asked in routes(sender):
            path = sender.path(asked)
            every = asked.route.path in READ_BY_HEADERS
            for name, value in hostile.HEADERS if every else hostile.FEW_HEADERS:
                what = f"{name}: {value[:30]!r}"
                yield Request(what, asked.method, path, headers=((name, value),), body=(b"{}",))

    assert sender.failures(requests()) == []


def test_no_body_is_answered_with_a_failure(sender: Sender) -> None:
    def requests() -> Iterator[Request]:
        for asked in routes(sender):
            if asked.method not in UNSAFE:
                continue
            path, is_form = sender.path(asked), _is_form(sender, asked)
            for what, body in hostile.BODIES.items():
                yield _with_body(what, asked, path, FORM if is_form else JSON, body)
            parts = (b"a" * 65536,) * 9
            yield Request("too large, in parts", asked.method, path, headers=(("content-type", JSON),), body=parts)
            for content_type in hostile.CONTENT_TYPES:
                yield _with_body(content_type[:40], asked, path, content_type, b'{"a":1}')
            for what, body in hostile.multipart(_names(asked, "body_params")) if is_form else ():
                yield _with_body(what, asked, path, "multipart/form-data; boundary=x", body)

    assert sender.failures(requests()) == []


def _is_form(sender: Sender, asked: Asked) -> bool:
    return "data" in sender.asker._body(asked) or portal.serves(asked.route.path)


def test_no_value_of_a_field_is_answered_with_a_failure(sender: Sender) -> None:
    def requests() -> Iterator[Request]:
        for asked in routes(sender):
            if asked.route.body_field is None:
                continue
            path, valid = sender.path(asked), sender.asker._body(asked)
            if _is_form(sender, asked):
                names = _names(asked, "body_params")
                bodies, content_type = hostile.in_form(names, valid.get("data", {})), FORM
            else:
                model = asked.route.body_field.field_info.annotation
                bodies, content_type = hostile.in_json(valid.get("json"), getattr(model, "model_fields", {})), JSON
            for what, body in bodies:
                yield _with_body(what, asked, path, content_type, body)

    assert sender.failures(requests()) == []
    assert sender.statuses[422] > 1000
    assert sender.statuses[401] < sum(sender.statuses.values()) / 3


def _names(asked: Asked, kind: str) -> list[str]:
    return [field.alias for field in getattr(asked.route.dependant, kind)]


def _with_body(what: str, asked: Asked, path: str, content_type: str, body: bytes) -> Request:
    headers = (
        ("content-type", content_type),
        ("content-length", str(len(body))),
        ("idempotency-key", f"k{uuid.uuid4().hex}"),
    )
    return Request(what, asked.method, path, headers=headers, body=(body,))


def test_nul_and_half_a_surrogate_pair_are_told_with_their_place(sender: Sender) -> None:
    for what, query, body, pointer in (
        ("GET /v1/factors", {"key": "a\0b"}, None, "/query/key"),
        ("PATCH /v1/me", {}, b'{"muted_mail":["a","\\u0000"]}', "/body/muted_mail/1"),
        ("PATCH /v1/me", {}, b'{"na\\ud800me":1}', "/body"),
    ):
        method, _, path = what.partition(" ")
        answer = sender.world.client.request(
            method, path, params=query, content=body, headers={**dict(sender.session()), "content-type": JSON}
        )
        assert answer.status_code == 422, what
        assert (answer.json()["code"], answer.json()["errors"][0]["pointer"]) == ("invalid_text", pointer)


@pytest.mark.parametrize("host", ["testserver/gate?", "a/livez", "[", "[::1", "a@b"])
def test_a_host_that_is_none_never_changes_the_path_that_is_asked(sender: Sender, host: str) -> None:
    answer = sender.world.client.get("/v1/me", headers={**dict(sender.session()), "host": host})
    assert (answer.status_code, answer.json()["instance"]) == (400, "/v1/me")


def test_a_browser_with_a_strange_name_may_sign_in_and_its_name_is_shown_without_what_cannot_be_kept(
    sender: Sender,
) -> None:
    person = sender.world.someone(sender.asker.own, "viewer")
    body = json.dumps({"email": person.email, "password": PASSWORD}).encode()
    headers = (*ORIGIN.items(), ("content-type", JSON), ("user-agent", "a\0b\xff\r\n" + "c" * 5000))
    lower = tuple((name.lower(), value) for name, value in headers)
    answer = asyncio.run(
        hostile.ask(sender.world.app, Request("user-agent", "POST", "/v1/auth/login", "", lower, (body,)))
    )
    assert answer.status == 200, answer
    listed = sender.world.client.get("/v1/me/sessions", headers=person.headers).json()["items"]
    assert any(session["user_agent"].startswith("ab\xffccc") for session in listed), listed


def test_a_body_that_turns_out_too_large_or_unreadable_on_its_way_is_told_so(sender: Sender) -> None:
    headers = (*sender.session(), ("content-type", JSON))
    for parts, told in (
        ((b'"' + b"a" * 99_999,) * 3, (413, "body_too_large")),
        ((b"\xff\xfe\xfd",), (400, "unreadable_body")),
        ((b"[" * 100_000,), (400, "unreadable_body")),
        ((b"{",), (422, "invalid_request")),
    ):
        request = Request("a body in parts", "PATCH", "/v1/me", "", headers, parts)
        answer = asyncio.run(hostile.ask(sender.world.app, request))
        assert (answer.status, json.loads(answer.body)["code"]) == told


def test_another_method_is_told_every_method_that_there_is(sender: Sender) -> None:
    for path, methods in (("/v1/me", "GET, PATCH"), ("/v1/connectors/a", "DELETE, GET, PATCH"), ("/members", "GET")):
        answer = sender.world.client.request("PUT", path, headers=dict(sender.session()))
        assert (answer.status_code, answer.headers["allow"]) == (405, methods)
