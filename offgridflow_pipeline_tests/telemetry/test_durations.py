"""Histograms of durations: buckets as Prometheus and OpenTelemetry count them, and what requests and statements add."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from opentelemetry.sdk.metrics.export import Histogram
from prometheus_client import CollectorRegistry, generate_latest
from starlette.testclient import TestClient

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.prepared import Prepared
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline.sidecar.app import create_app
from offgridflow_pipeline.sidecar.route_templates import RouteTemplates
from offgridflow_pipeline.telemetry import names, setup
from offgridflow_pipeline.telemetry.durations import DurationHistogram
from offgridflow_pipeline_tests.telemetry.conftest import Serve, value

REQUESTS = "http_server_request_duration_seconds_count"
WAITS = "db_client_connection_wait_time_seconds"
STATEMENTS = 'db_client_operation_duration_seconds_count{db_operation_name="SELECT"}'


@pytest.fixture
def histogram() -> DurationHistogram:
    return DurationHistogram(names.POOL_WAIT, bounds=(0.1, 1.0))


def scraped(histogram: DurationHistogram) -> str:
    registry = CollectorRegistry()
    registry.register(histogram)
    return generate_latest(registry).decode()


def test_buckets_add_up_for_prometheus_and_a_bound_belongs_to_its_bucket(histogram: DurationHistogram) -> None:
    for seconds in (0.05, 0.1, 0.5, 7.0):
        histogram.record(seconds, "pool")
    text = scraped(histogram)
    pool = 'db_client_connection_pool_name="pool"'
    assert value(text, f"{WAITS}_count{{{pool}}}") == 4
    assert value(text, f"{WAITS}_sum{{{pool}}}") == pytest.approx(7.65)
    buckets = [value(text, f'{WAITS}_bucket{{{pool},le="{bound}"}}') for bound in ("0.1", "1.0", "+Inf")]
    assert buckets == [2, 3, 4]


def test_buckets_stand_alone_for_opentelemetry_and_an_empty_label_is_left_out() -> None:
    histogram = DurationHistogram(names.REQUEST_DURATION, bounds=(0.1, 1.0))
    for seconds in (0.1, 0.5, 7.0):
        histogram.record(seconds, "GET", "404", "")
    sent = histogram.sent()
    assert (sent.name, sent.unit) == ("http.server.request.duration", "s")
    assert isinstance(sent.data, Histogram)
    (point,) = sent.data.data_points
    assert (point.bucket_counts, point.count, point.min, point.max) == ([1, 1, 1], 3, 0.1, 7.0)
    assert point.attributes == {"http.request.method": "GET", "http.response.status_code": "404"}


def test_no_record_of_many_threads_is_lost(histogram: DurationHistogram) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: [histogram.record(0.01, "pool") for _ in range(2_000)], range(8)))
    sent = histogram.sent()
    assert isinstance(sent.data, Histogram)
    assert sent.data.data_points[0].count == 8 * 2_000


def test_a_client_that_invents_methods_and_paths_makes_no_new_series(serve: Serve) -> None:
    served = serve()
    for method, path in (("BREW", "/v1/things/one"), ("FROB", "/v1/things/two"), ("GET", "/a"), ("GET", "/b")):
        served.client.request(method, path)
    text = served.scrape(refresh=False)
    labels = 'http_request_method="{}",http_response_status_code="{}",http_route="{}"'
    assert value(text, f"{REQUESTS}{{{labels.format('_OTHER', 405, '/v1/things/{name}')}}}") == 2
    assert value(text, f"{REQUESTS}{{{labels.format('GET', 404, '')}}}") == 2


def test_a_request_that_failed_is_counted_as_500(serve: Serve) -> None:
    served = serve()
    served.client.get("/v1/broken")
    labels = 'http_request_method="GET",http_response_status_code="500",http_route="/v1/broken"'
    assert value(served.scrape(refresh=False), f"{REQUESTS}{{{labels}}}") == 1


def test_a_request_that_is_refused_before_a_route_is_chosen_has_its_template(database: Database) -> None:
    settings = Settings(_env_file=None, environment="test", metrics_port=9464)
    app = create_app(settings, database)
    telemetry = setup.start(settings, app, database, route_of=RouteTemplates(app).of, background=False)
    try:
        assert TestClient(app).get("/v1/reports/rep_1", headers={"Host": "a/b"}).status_code == 400
        assert telemetry.registry is not None
        labels = 'http_request_method="GET",http_response_status_code="400",http_route="/v1/reports/{report_id}"'
        assert value(generate_latest(telemetry.registry).decode(), f"{REQUESTS}{{{labels}}}") == 1
    finally:
        telemetry.shutdown()


def test_statements_of_both_kinds_and_those_that_fail_are_timed_once(serve: Serve) -> None:
    served = serve()
    engine = served.database.application_engine
    with engine.begin() as connection:
        connection.execute(sa.text("select 1"))  # the first connection is asked for its version besides
    before = value(served.scrape(refresh=False), STATEMENTS)
    with engine.begin() as connection:
        connection.execute(sa.text("select 1"))
        Prepared("select :n + 1").row(connection, {"n": 1})
    with pytest.raises(sa.exc.DataError), engine.begin() as connection:
        Prepared("select cast(:text as integer)").row(connection, {"text": "x"})
    assert value(served.scrape(refresh=False), STATEMENTS) - before == 3
    served.telemetry.shutdown()
    with engine.begin() as connection:
        connection.execute(sa.text("select 1"))
    assert value(served.scrape(refresh=False), STATEMENTS) - before == 3


def test_statements_of_the_exporter_itself_are_not_timed(serve: Serve) -> None:
    served = serve()
    before = STATEMENTS in served.scrape(refresh=False)
    assert (before, STATEMENTS in served.scrape()) == (False, False)
