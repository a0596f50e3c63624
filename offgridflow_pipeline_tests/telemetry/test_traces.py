"""Traces of requests: what arrives in a real OTLP receiver, what never does, and what an absent one does to nobody."""

import logging
import time
import uuid
from collections.abc import Iterator

import dagster as dg
import pytest

from offgridflow_pipeline.defs.telemetry import export_run
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline.telemetry.traces import Reachability
from offgridflow_pipeline_tests.counterparts.otlp import Collector, attributes_of, collector
from offgridflow_pipeline_tests.counterparts.processes import free_port
from offgridflow_pipeline_tests.telemetry.conftest import Serve

CANARY = "canary-9f2c71d6"


@pytest.fixture
def receiver() -> Iterator[Collector]:
    with collector() as running:
        yield running


def by_name(receiver: Collector, part: str) -> list[dict[str, object]]:
    return [attributes_of(span.attributes) for span in receiver.spans if part in span.name]


def test_a_requests_span_has_its_route_and_its_statements_below_it(serve: Serve, receiver: Collector) -> None:
    served = serve(otlp_endpoint=receiver.endpoint, trace_sample_rate=1.0)
    served.client.get("/v1/things/one")
    served.telemetry.shutdown()
    (request,) = [span for span in receiver.spans if span.name == "GET /v1/things/{name}"]
    statements = [span for span in receiver.spans if span.name.startswith("select")]
    assert {span.trace_id for span in statements} == {request.trace_id}
    assert attributes_of(request.attributes)["http.route"] == "/v1/things/{name}"
    assert attributes_of(statements[-1].attributes)["db.query.text"] == "select %(name)s"
    assert receiver.services == {"offgridflow-api"}


def test_metrics_reach_the_collector_too(serve: Serve, receiver: Collector) -> None:
    served = serve(otlp_endpoint=receiver.endpoint)
    served.client.get("/v1/things/one")
    served.scrape()
    served.telemetry.shutdown()
    assert {"http.server.request.duration", "offgridflow.runs.queued", "offgridflow.auth.attempts"} <= (
        receiver.metric_names
    )


def test_a_secret_in_query_header_cookie_or_error_is_nowhere_in_what_is_sent(serve: Serve, receiver: Collector) -> None:
    served = serve(otlp_endpoint=receiver.endpoint, trace_sample_rate=1.0)
    served.client.get(
        f"/v1/things/one?token={CANARY}",
        headers={"Authorization": f"Bearer {CANARY}", "X-Api-Key": CANARY, "Cookie": f"ogf_session={CANARY}"},
    )
    assert served.client.get("/v1/broken").status_code == 500
    served.telemetry.shutdown()
    errors = [attributes_of(event.attributes) for span in receiver.spans for event in span.events]
    assert "exception.type" in errors[0]
    assert len(receiver.bodies) >= 2
    assert not [body for body in receiver.bodies if CANARY.encode() in body]


@pytest.mark.parametrize(("flags", "expected"), [("01", 1), ("00", 0)])
def test_the_parents_decision_is_obeyed(serve: Serve, receiver: Collector, flags: str, expected: int) -> None:
    served = serve(otlp_endpoint=receiver.endpoint, trace_sample_rate=0.5)
    trace_id = uuid.uuid4().hex
    served.client.get("/v1/things/one", headers={"traceparent": f"00-{trace_id}-00f067aa0ba902b7-{flags}"})
    served.telemetry.shutdown()
    assert sum(span.trace_id.hex() == trace_id for span in receiver.spans if "GET" in span.name) == expected


@dg.asset
def figures() -> None:
    """An asset of no partition."""


def test_the_request_and_the_run_that_it_asked_for_are_one_trace(serve: Serve, receiver: Collector) -> None:
    from offgridflow_pipeline.sidecar.run_requests import traceparent

    served = serve(otlp_endpoint=receiver.endpoint, trace_sample_rate=1.0)
    asked: list[str | None] = []
    served.app.add_api_route("/v1/ask", _asking(traceparent, asked), methods=["POST"])
    assert served.client.post("/v1/ask").status_code == 200
    served.telemetry.shutdown()
    assert asked[0] is not None
    with dg.DagsterInstance.ephemeral() as instance:
        run = dg.materialize([figures], instance=instance, tags={"traceparent": asked[0]})
        (record,) = instance.get_run_records(dg.RunsFilter(run_ids=[run.run_id]))
        assert export_run(instance, record, Settings(_env_file=None, otlp_endpoint=receiver.endpoint))
    (request,) = [span for span in receiver.spans if span.name == "POST /v1/ask"]
    (root,) = [span for span in receiver.spans if span.name.startswith("run ")]
    (step,) = [span for span in receiver.spans if span.name == "figures"]
    assert request.trace_id == root.trace_id == step.trace_id
    assert root.parent_span_id == request.span_id
    assert step.parent_span_id == root.span_id
    assert receiver.services == {"offgridflow-api", "offgridflow-pipeline"}


def _asking(traceparent: object, asked: list[str | None]) -> object:
    from fastapi import Request

    def ask(request: Request) -> dict[str, str]:
        asked.append(traceparent(request))
        return {}

    return ask


def test_an_unreachable_collector_costs_one_warning_and_nothing_else(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    served = serve(otlp_endpoint=f"http://127.0.0.1:{free_port()}", trace_sample_rate=1.0)
    for _ in range(3):
        assert served.client.get("/v1/things/one").status_code == 200
    began = time.monotonic()
    served.telemetry.shutdown()
    assert time.monotonic() - began < 15
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].getMessage().startswith("The OpenTelemetry collector takes no ")


def test_the_warning_comes_once_per_outage(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    reachability = Reachability()
    for signal, reached in (
        ("traces", True),
        ("metrics", False),
        ("traces", False),
        ("metrics", False),
        ("traces", True),
        ("metrics", True),
        ("traces", False),
    ):
        reachability.note(signal, reached=reached)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "WARNING"]


def test_the_request_log_line_carries_the_trace(
    serve: Serve, receiver: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    import json
    import sys

    from offgridflow_pipeline.telemetry import logs

    served = serve(otlp_endpoint=receiver.endpoint, trace_sample_rate=1.0)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        logs.configure(Settings(_env_file=None, log_format="json"), stream=sys.stderr)
        served.client.get("/v1/things/one")
    finally:
        root.handlers[:], root.level = handlers, level
    line = next(json.loads(text) for text in capsys.readouterr().err.splitlines() if '"event": "request"' in text)
    served.telemetry.shutdown()
    assert line["trace_id"] in {span.trace_id.hex() for span in receiver.spans}
