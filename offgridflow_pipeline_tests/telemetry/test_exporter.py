"""The exporter in bad company: two replicas, a database that is away or slow, a pool that is used up, a taken port."""

from __future__ import annotations

import threading
import urllib.request

import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.telemetry import ledger, server
from offgridflow_pipeline_tests.telemetry.conftest import Serve, execute, value


def test_two_replicas_export_the_ledgers_once_and_the_second_takes_over(serve: Serve) -> None:
    first, second = serve(), serve()
    ledger_series = "offgridflow_runs_queued"
    assert ledger_series in first.scrape()
    text = second.scrape()
    assert ledger_series not in text
    assert value(text, "offgridflow_exporter_last_success_age_seconds") < 5
    first.close()
    assert ledger_series in second.scrape()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_with_the_database_away_metrics_answer_with_the_last_figures_and_the_age_grows(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve()
    exporter = served.telemetry.ledger
    assert exporter is not None
    clock = Clock()
    exporter._clock = clock
    served.scrape()

    def away(_timeout: int) -> None:
        raise sa.exc.OperationalError("select 1", {}, ConnectionRefusedError("refused"))

    monkeypatch.setattr(served.database.signals, "exporter", away)
    exporter._disconnect()
    clock.now += 60
    text = served.scrape()
    assert "offgridflow_runs_queued" in text
    assert value(text, "offgridflow_exporter_last_success_age_seconds") == 60
    monkeypatch.undo()
    assert value(served.scrape(), "offgridflow_exporter_last_success_age_seconds") == 0


def test_the_exporter_survives_the_end_of_its_connection(database: Database, serve: Serve) -> None:
    served = serve()
    served.scrape()
    execute(
        database,
        "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and objid = 7301012 and granted",
    )
    served.scrape()
    assert "offgridflow_runs_queued" in served.scrape()
    assert served.telemetry.ledger is not None
    assert served.telemetry.ledger._session is not None


def test_a_slow_figure_keeps_its_old_value_and_the_others_go_on(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve()
    served.scrape()

    def slow(session: object, _into: object) -> None:
        session._connection.execute(sa.text("set statement_timeout = '10ms'"))
        try:
            session._connection.execute(sa.text("select pg_sleep(1)"))
        finally:
            session._connection.execute(sa.text("set statement_timeout = '3s'"))

    figures = [ledger.Figure("runs", slow), *(f for f in ledger.FIGURES if f.name != "runs")]
    monkeypatch.setattr(ledger, "FIGURES", figures)
    served.database.signals  # noqa: B018  the repository is there already
    text = served.scrape()
    assert "offgridflow_runs_queued" in text
    assert "offgridflow_email_outbox_age_seconds" in text


def test_the_pool_tells_what_is_used_what_waits_and_who_got_nothing(serve: Serve) -> None:
    served = serve()
    label = 'db_client_connection_pool_name="sidecar"'
    engine = served.database.application_engine
    engine.pool._timeout = 0.2
    held = [engine.connect() for _ in range(5)]
    refused: list[Exception] = []

    def ask() -> None:
        try:
            engine.connect()
        except sa.exc.TimeoutError as error:
            refused.append(error)

    waiting = threading.Thread(target=ask)
    waiting.start()
    while f"db_client_connection_pending_requests{{{label}}} 1.0" not in served.scrape(refresh=False):
        assert waiting.is_alive()
    text = served.scrape(refresh=False)
    waiting.join()
    assert value(text, f'db_client_connection_count{{{label},db_client_connection_state="used"}}') == 5
    assert value(text, f"db_client_connection_max{{{label}}}") == 5
    text = served.scrape(refresh=False)
    assert len(refused) == 1
    assert value(text, f"db_client_connection_timeouts_total{{{label}}}") == 1
    assert value(text, f"db_client_connection_pending_requests{{{label}}}") == 0
    assert value(text, f"db_client_connection_wait_time_seconds_count{{{label}}}") == 6
    for connection in held:
        connection.close()


def test_statements_are_timed_by_operation_and_the_exporters_own_are_not(serve: Serve) -> None:
    served = serve()
    served.client.get("/v1/things/one")
    series = 'db_client_operation_duration_seconds_count{db_operation_name="SELECT"}'
    before = value(served.scrape(), series)
    assert value(served.scrape(), series) == before


def test_metrics_are_served_on_a_port_of_their_own_and_a_taken_port_is_no_reason_to_stop(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    served = serve()
    running = server.serve(served.telemetry.registry, "127.0.0.1", 0)
    assert running is not None
    with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/metrics", timeout=5) as answer:
        assert b"offgridflow_slo_target" in answer.read()
    assert server.serve(CollectorRegistry(), "127.0.0.1", running.port) is None
    assert "another process may use the port" in caplog.text
    running.close()
