"""The OpenAPI document: what is checked in is what is served, and it tells of every operation what there is to tell."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.sidecar import __main__ as sidecar_command
from offgridflow_pipeline.sidecar.contract import EXAMPLES, SECURITY_SCHEMES, TAGS, operations
from offgridflow_pipeline.sidecar.entrance.problems import MEDIA_TYPE
from offgridflow_pipeline_tests.sidecar.access_matrix import Asker, asked_routes
from offgridflow_pipeline_tests.sidecar.serving import statements
from offgridflow_pipeline_tests.sidecar.world import World

CHECKED_IN = Path(__file__).parents[2] / "docs" / "openapi.json"
MACHINES = {"api_key", "exchange_token"}


@cache
def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(CHECKED_IN.read_text("utf-8"))
    return found


@pytest.fixture(scope="module")
def world(database: Database, api_database: Database, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(database, api_database, tmp_path_factory.mktemp("contract"))


def test_the_document_that_is_checked_in_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    sidecar_command.main()
    assert capsys.readouterr().out == CHECKED_IN.read_text("utf-8"), "run `make openapi`, read the difference"


def test_the_app_serves_the_document_that_is_checked_in(world: World) -> None:
    answer = world.client.get("/v1/openapi.json")
    assert answer.json() == document()
    assert list(answer.json()["paths"]) == list(document()["paths"])


def test_the_document_is_openapi_3_1() -> None:
    assert document()["openapi"] == "3.1.0"
    schemathesis.openapi.from_dict(document()).validate()


def test_every_operation_has_an_id_of_its_own_a_summary_a_description_and_one_tag_that_is_described() -> None:
    ids: list[str] = []
    for path, method, operation in operations(document()):
        ids.append(operation["operationId"])
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", operation["operationId"])
        assert operation["summary"], (method, path)
        assert len(operation["description"]) > 10, (method, path)
        assert len(operation["tags"]) == 1
        assert operation["tags"][0] in TAGS, (method, path)
    assert len(set(ids)) == len(ids) > 60
    assert {operation["tags"][0] for *_, operation in operations(document())} == set(TAGS)


def test_every_parameter_is_described() -> None:
    for path, method, operation in operations(document()):
        for parameter in operation.get("parameters", ()):
            assert parameter.get("description"), (method, path, parameter["name"])


def _resolved(found: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in found:
        target: Any = document()
        for part in found["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        found = target
    return found


def _bodies() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Where, and the media type object, of every body of JSON or of a form that is asked for or answered."""
    for path, method, operation in operations(document()):
        places = {"request": operation.get("requestBody", {}), **operation["responses"]}
        for place, found in places.items():
            for media_type, content in _resolved(found).get("content", {}).items():
                if "json" in media_type or "form" in media_type:
                    yield f"{method} {path} {place} {media_type}", content


def _examples(content: Mapping[str, Any]) -> list[Any]:
    if "examples" in content:
        return [_resolved(example)["value"] for example in content["examples"].values()]
    return [content["example"]] if "example" in content else list(_resolved(content["schema"]).get("examples", ()))


def test_every_body_has_an_example_and_every_example_has_the_form_of_its_body() -> None:
    checked = 0
    for where, content in _bodies():
        schema = {**content["schema"], "components": document()["components"]}
        validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
        examples = _examples(content)
        assert examples, where
        for example in examples:
            assert [str(error) for error in validator.iter_errors(example)] == [], where
            checked += 1
    assert checked > 300


def test_no_example_is_of_a_schema_that_nobody_uses() -> None:
    text = CHECKED_IN.read_text("utf-8")
    for name in json.loads(EXAMPLES.read_text("utf-8")):
        page_or_body = f'"#/components/schemas/{name}"'
        assert page_or_body in text, name


def test_every_failure_is_described_as_a_problem() -> None:
    for path, method, operation in operations(document()):
        failures = {status: _resolved(found) for status, found in operation["responses"].items() if status >= "400"}
        assert "500" in failures
        for status, found in failures.items():
            schema = found["content"][MEDIA_TYPE]["schema"]
            assert list(found["content"]) == [MEDIA_TYPE], (method, path, status)
            assert schema == {"$ref": "#/components/schemas/Problem"}
        assert "default" not in operation["responses"]


def test_who_may_ask_is_what_the_routes_declare(world: World) -> None:
    declared = {(a.route.path, a.method.lower()): a.access for a in asked_routes(world.app)}
    for path, method, operation in operations(document()):
        access, schemes = declared[path, method], {name for option in operation["security"] for name in option}
        assert schemes <= set(SECURITY_SCHEMES)
        assert operation.get("x-permission", access) == access
        assert ("x-permission" in operation) == (":" in access)
        if access == "public":
            assert schemes == set() or {} in operation["security"], (method, path)
        else:
            assert schemes, (method, path)
            assert {"401", "403"} <= set(operation["responses"])


def test_a_key_is_turned_away_from_what_is_described_for_people_alone_and_from_nothing_else(world: World) -> None:
    asker = Asker(world)
    described = {(path, method): operation for path, method, operation in operations(document())}
    for asked in asked_routes(world.app):
        operation = described.get((asked.route.path, asked.method.lower()))
        if operation is not None and operation["security"] != []:
            status = asker.ask(asked, "api_key", "own").status
            schemes = {name for option in operation["security"] for name in option}
            if schemes & MACHINES:
                assert status not in (401, 403), (asked.method, asked.route.path)
            elif {} not in operation["security"]:
                assert status == 403, (asked.method, asked.route.path)


def test_what_creates_tells_where_and_what_is_read_conditionally_has_a_tag() -> None:
    for path, method, operation in operations(document()):
        responses = operation["responses"]
        names = {parameter["name"] for parameter in operation.get("parameters", ())}
        if "201" in responses or "Idempotency-Key" in names:
            created = responses.get("201", responses.get("202"))
            assert created["headers"]["Location"], (method, path)
        if "304" in responses:
            assert "If-None-Match" in names, (method, path)
            assert responses["200"]["headers"]["ETag"], (method, path)


#: The export streams the whole chain in transactions of its own; /gate writes that somebody entered.
COUNTED_ELSEWHERE = {"/v1/audit/export", "/gate"}


def test_no_read_of_the_api_asks_the_database_more_than_three_times(world: World) -> None:
    asker, counted = Asker(world), 0
    described = {(path, method) for path, method, _ in operations(document())}
    for asked in asked_routes(world.app):
        path, method = asked.route.path, asked.method
        if (path, method.lower()) not in described or method not in ("GET", "HEAD") or path in COUNTED_ELSEWHERE:
            continue
        for caller in ("owner", "api_key"):
            asker.ask(asked, caller, "own")  # what is read once per process is read now
            with statements(world.api) as seen:
                status = asker.ask(asked, caller, "own").status
            if status < 400:
                assert len(_of_the_request(seen)) <= 3, (method, path, caller, seen)
                counted += 1
    assert counted > 40


def _of_the_request(seen: list[str]) -> list[str]:
    """The statements of the request itself: before it the asker makes what it names, and a session."""
    begun = [number for number, statement in enumerate(seen) if "ogf.begin_" in statement]
    return seen[begun[-1] :] if begun else []
