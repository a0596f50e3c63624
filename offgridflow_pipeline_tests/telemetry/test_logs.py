"""Log lines: one chain for ours and the libraries', ids of the request, and no secret whatever its place."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from fastapi import FastAPI, Request
from pydantic import SecretStr
from starlette.testclient import TestClient

from offgridflow_pipeline.connectors.secrets.shapes import redacted
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline.telemetry import access_lines, logs

CANARY = "canary-9f2c71d6-8b"

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Lines written since the test began."""
    stream = io.StringIO()
    root, library = logging.getLogger(), logging.getLogger("uvicorn.error")
    handlers, level, library_level = root.handlers[:], root.level, library.level
    library.setLevel(logging.NOTSET)  # a server that another test ran in this process may have set it
    settings = Settings(_env_file=None, environment="test", log_format="json", session_pepper=SecretStr(CANARY))
    logs.configure(settings, redact=redacted, stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:], root.level = handlers, level
    library.setLevel(library_level)
    structlog.reset_defaults()


def test_ours_and_the_libraries_lines_have_one_form(lines: Lines) -> None:
    structlog.stdlib.get_logger("offgridflow.x").info("started", port=8000)
    logging.getLogger("uvicorn.error").warning("Worker %s ended", 7)
    ours, theirs = lines()
    assert (ours["event"], ours["port"], ours["level"], ours["logger"]) == ("started", 8000, "info", "offgridflow.x")
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("Worker 7 ended", "warning", "uvicorn.error")
    assert ours["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    "fields",
    [
        {"password": CANARY},
        {"headers": {"Authorization": f"Basic {CANARY}", "x": "y"}},
        {"nested": [{"session_token": "whatever it is"}, f"pepper is {CANARY}"]},
        {"link": "https://x/reset-password?token=abcdefgh12345"},
        {"key": "ogf_live_ABCDEFGHIJ_0123456789abcdefghijklmnopqrstuvwxyz01234567890_abcdef"},
        {"cookie_line": "a=b; ogf_session=abcdefgh12345; c=d"},
        {"url": "postgresql://ogf:hunter2hunter2@host/ogf"},
        {"error": ValueError(f"the value {CANARY} is wrong")},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_no_secret_is_written_whatever_its_place(lines: Lines, fields: dict[str, Any]) -> None:
    structlog.stdlib.get_logger("offgridflow.x").warning("seen", **fields)
    (line,) = lines()
    text = json.dumps(line)
    assert logs.BLACKED_OUT in text
    for secret in (CANARY, "abcdefgh12345", "0123456789abcdef", "hunter2", "whatever"):
        assert secret not in text


def test_a_libraries_message_and_a_traceback_are_redacted_too(lines: Lines) -> None:
    try:
        int(f"cannot open with {CANARY}")
    except ValueError:
        logging.getLogger("some.library").exception("failed for %s", f"Bearer {CANARY}AAAAAAAA")
    (line,) = lines()
    assert "ValueError" in line["exception"]
    assert CANARY not in json.dumps(line)


def test_a_request_writes_one_line_with_its_ids_and_without_its_query(lines: Lines) -> None:
    app = FastAPI()

    @app.get("/v1/things")
    def things(request: Request) -> dict[str, str]:
        request.state.request_id = "r-1"
        request.state.caller = "key:ABC"
        request.state.tenant = "alder"
        structlog.stdlib.get_logger("offgridflow.x").info("within")
        return {}

    app.add_middleware(logs.RequestLog)
    TestClient(app).get("/v1/things?token=abcdefgh12345")
    logging.getLogger("later").warning("outside")
    within, request, outside = [line for line in lines() if not line["logger"].startswith("httpx")]
    for line in (within, request):
        assert (line["request_id"], line["caller"], line["tenant"]) == ("r-1", "key:ABC", "alder")
    assert (request["method"], request["path"], request["status"]) == ("GET", "/v1/things", 200)
    assert request["duration_ms"] >= 0
    assert "request_id" not in outside


def test_a_failing_request_writes_its_line_as_500(lines: Lines) -> None:
    app = FastAPI()

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("no")

    app.add_middleware(logs.RequestLog)
    TestClient(app, raise_server_exceptions=False).get("/broken")
    (line,) = [line for line in lines() if line["event"] == "request"]
    assert line["status"] == 500


def test_health_checks_write_no_line(lines: Lines) -> None:
    app = FastAPI()
    app.add_api_route("/livez", lambda: {})
    app.add_middleware(logs.RequestLog)
    TestClient(app).get("/livez")
    assert [line for line in lines() if line["event"] == "request"] == []


def test_a_run_bound_to_the_context_is_in_every_line(lines: Lines) -> None:
    with structlog.contextvars.bound_contextvars(run_id="run-7"):
        structlog.stdlib.get_logger("offgridflow.x").info("step")
    assert lines()[0]["run_id"] == "run-7"


def test_text_lines_are_for_people() -> None:
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        logs.configure(Settings(_env_file=None, log_format="text"), stream=stream)
        structlog.stdlib.get_logger("offgridflow.x").info("started", port=8000)
    finally:
        root.handlers[:], root.level = handlers, level
        structlog.reset_defaults()
    assert "started" in stream.getvalue()
    assert "port=8000" in stream.getvalue()


def a_line(form: str, path: str, *, plain: bool) -> str:
    """The line of one request without its time stamp, written by the short way or by the whole chain."""
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    settings = Settings(_env_file=None, environment="test", log_format=form, session_pepper=SecretStr(CANARY))
    fields = {"method": "GET", "path": path, "status": 200, "duration_ms": 1.5, "caller": "key:ABC", "tenant": "alder"}
    try:
        logs.configure(settings, redact=redacted, stream=stream)
        if plain:
            access_lines.write(fields)
        else:
            structlog.stdlib.get_logger(access_lines.LOGGER).info("request", **fields)
    finally:
        root.handlers[:], root.level = handlers, level
        structlog.reset_defaults()
    return re.sub(r"[0-9-]{10}T[0-9:.]{8,15}Z", "TIME", stream.getvalue())


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("path", ["/v1/things", f"/v1/{CANARY}", "/v1/ogf_live_ABCDEFGHIJ_0123456789abcdefghijklmn"])
def test_the_line_of_a_request_has_the_form_of_every_line(form: str, path: str) -> None:
    line = a_line(form, path, plain=True)
    assert line == a_line(form, path, plain=False)
    assert "TIME" in line
    assert CANARY not in line
    assert "0123456789abcdef" not in line


@pytest.mark.parametrize("path", ["/a%0Alevel=error", "/two%20words", '/"', "/ü"])
def test_a_path_of_a_client_cannot_forge_a_line(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    app = FastAPI()
    app.add_middleware(logs.RequestLog)
    try:
        logs.configure(Settings(_env_file=None, log_format="text"), stream=sys.stderr)
        TestClient(app).get(path)
    finally:
        root.handlers[:], root.level = handlers, level
        structlog.reset_defaults()
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "offgridflow.access" in line]
    assert " status=404" in line
