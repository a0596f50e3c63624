"""Traces of runs: real runs, a real OTLP receiver, one trace from the request to the steps."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from pydantic import SecretStr

from offgridflow_pipeline.defs.telemetry import (
    ROWS_KEY,
    Cursor,
    described,
    export_run,
    is_exported,
    run_traces,
)
from offgridflow_pipeline.settings import Settings, load_settings
from offgridflow_pipeline.telemetry.run_traces import Run, Step, span_id, spans_of
from offgridflow_pipeline.telemetry.traces import TraceParent, run_is_sampled
from offgridflow_pipeline_tests.counterparts.otlp import Collector, attributes_of, collector

CANARY = "canary-9f2c71d6"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
DAYS = dg.DailyPartitionsDefinition("2024-01-01")
ALL = dg.BackfillPolicy.single_run()


@dg.asset(partitions_def=DAYS, backfill_policy=ALL)
def extract(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    for key in context.partition_keys:
        context.add_asset_metadata({ROWS_KEY: 5}, partition_key=key)
    return dg.MaterializeResult()


@dg.asset(deps=[extract], partitions_def=DAYS, backfill_policy=ALL)
def broken() -> None:
    raise ValueError(f"the row holds password={CANARY}")


def run(instance: dg.DagsterInstance, *assets: dg.AssetsDefinition, tags: dict[str, str] | None = None) -> dg.RunRecord:
    job = dg.Definitions(assets=list(assets)).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=instance,
        raise_on_error=False,
        tags={
            "dagster/asset_partition_range_start": "2024-01-01",
            "dagster/asset_partition_range_end": "2024-01-03",
            "offgridflow/tenant": "alder",
            "note": CANARY,
            **(tags or {}),
        },
    )
    (record,) = instance.get_run_records(dg.RunsFilter(run_ids=[result.run_id]))
    return record


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


@pytest.fixture(scope="module")
def receiver() -> Iterator[Collector]:
    with collector() as running:
        yield running


def settings_of(receiver: Collector, rate: float = 1.0) -> Settings:
    return Settings(
        _env_file=None, otlp_endpoint=receiver.endpoint, trace_sample_rate=rate, session_pepper=SecretStr(CANARY)
    )


def test_a_run_and_its_steps_arrive_in_the_trace_of_the_request(
    instance: dg.DagsterInstance, receiver: Collector
) -> None:
    record = run(instance, extract, broken, tags={"traceparent": TRACEPARENT})
    before = len(receiver.spans)
    assert export_run(instance, record, settings_of(receiver))
    steps, root = receiver.spans[before:-1], receiver.spans[-1]
    assert {span.trace_id.hex() for span in (root, *steps)} == {TRACE}
    assert root.parent_span_id.hex() == PARENT
    assert {span.parent_span_id for span in steps} == {root.span_id}
    assert [span.name for span in steps] == ["extract", "broken"]
    assert "offgridflow-pipeline" in receiver.services
    assert root.start_time_unix_nano <= steps[0].start_time_unix_nano <= steps[0].end_time_unix_nano


def test_a_steps_span_names_asset_partitions_rows_and_tenant(instance: dg.DagsterInstance, receiver: Collector) -> None:
    before = len(receiver.spans)
    export_run(instance, run(instance, extract), settings_of(receiver))
    found = attributes_of(receiver.spans[before].attributes)
    assert found["dagster.asset"] == "extract"
    assert (found["dagster.partition.first"], found["dagster.partition.last"]) == ("2024-01-01", "2024-01-03")
    assert found["dagster.partition.count"] == 3
    assert found["offgridflow.rows"] == 15
    assert found["offgridflow.tenant"] == "alder"


def test_a_failed_step_tells_the_class_of_its_error_and_nothing_of_its_text(
    instance: dg.DagsterInstance, receiver: Collector
) -> None:
    before = len(receiver.bodies)
    export_run(instance, run(instance, extract, broken), settings_of(receiver))
    failed = receiver.spans[-2]
    assert attributes_of(failed.attributes)["error.type"] == "ValueError"
    assert failed.status.code == 2
    assert not any(CANARY.encode() in body for body in receiver.bodies[before:])


def test_a_run_without_a_request_has_its_run_id_as_trace_id(instance: dg.DagsterInstance) -> None:
    record = run(instance, extract)
    spans = spans_of(described(instance, record), Settings(_env_file=None))
    assert {span.context.trace_id for span in spans} == {uuid.UUID(record.dagster_run.run_id).int}
    assert spans[-1].parent is None


def test_a_second_export_of_a_run_is_the_same_spans(instance: dg.DagsterInstance) -> None:
    record = run(instance, extract, broken)
    first, second = (spans_of(described(instance, record), Settings(_env_file=None)) for _ in range(2))
    assert [span.context.span_id for span in first] == [span.context.span_id for span in second]
    assert len({span.context.span_id for span in first}) == 3


def test_a_step_that_was_killed_ends_with_its_run_and_is_called_lost(instance: dg.DagsterInstance) -> None:
    record = run(instance, extract)
    run_id = record.dagster_run.run_id
    instance.event_log_storage.delete_events(run_id)
    instance.report_dagster_event(
        dg.DagsterEvent(dg.DagsterEventType.STEP_START.value, "job", step_key="extract"), run_id=run_id
    )
    (step,) = described(instance, record).steps
    assert (step.error, step.ended) == ("Lost", record.end_time)


def test_attempts_of_a_step_are_spans_of_their_own() -> None:
    run_id = str(uuid.uuid4())
    steps = [Step("extract", 1.0, 2.0, error="RetryRequested"), Step("extract", 3.0, 4.0)]
    spans = spans_of(Run(run_id, "run daily", 0.5, 5.0, steps), Settings(_env_file=None))
    assert [span.context.span_id for span in spans] == [
        span_id(run_id, "extract|1"),
        span_id(run_id, "extract|2"),
        span_id(run_id),
    ]


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_the_share_of_runs_that_is_sampled_is_the_setting(rate: float) -> None:
    kept = sum(run_is_sampled(str(uuid.uuid4()), rate) for _ in range(10_000))
    assert kept == pytest.approx(10_000 * rate, rel=0.1)


@pytest.mark.parametrize(("flags", "kept"), [("01", True), ("00", False)])
def test_the_request_decides_whether_its_run_is_traced(flags: str, kept: bool) -> None:
    asked = dg.DagsterRun("daily", run_id=str(uuid.uuid4()), tags={"traceparent": f"00-{TRACE}-{PARENT}-{flags}"})
    assert is_exported(asked, 0.0 if kept else 1.0) is kept


@pytest.mark.parametrize(
    "text", ["", "00-0-0-01", f"00-{'0' * 32}-{PARENT}-01", f"01-{TRACE}-{PARENT}-01", TRACEPARENT.upper()]
)
def test_a_malformed_trace_context_is_none(text: str) -> None:
    assert TraceParent.parse(text) is None


def test_a_trace_context_is_written_as_it_was_read() -> None:
    assert str(TraceParent.parse(TRACEPARENT)) == TRACEPARENT


def tick(instance: dg.DagsterInstance, cursor: str | None) -> str:
    context = dg.build_sensor_context(instance=instance, cursor=cursor)
    run_traces(context)
    assert context.cursor is not None
    return context.cursor


def test_the_sensor_sends_each_run_once_and_again_only_while_the_collector_refuses(
    receiver: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFGRIDFLOW_OTLP_ENDPOINT", receiver.endpoint)
    monkeypatch.setenv("OFFGRIDFLOW_TRACE_SAMPLE_RATE", "1")
    load_settings.cache_clear()
    with dg.DagsterInstance.ephemeral() as instance:
        cursor = tick(instance, None)
        record = run(instance, extract)
        mine = uuid.UUID(record.dagster_run.run_id).bytes
        receiver.refuses = True
        cursor = tick(instance, cursor)
        receiver.refuses = False
        assert mine not in {span.trace_id for span in receiver.spans}
        cursor = tick(instance, tick(instance, cursor))
        assert sum(span.trace_id == mine for span in receiver.spans) == 2
        assert Cursor.parse(cursor).waiting(instance) == []
    load_settings.cache_clear()


def test_without_a_collector_the_sensor_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    load_settings.cache_clear()
    with dg.DagsterInstance.ephemeral() as instance:
        skipped = run_traces(dg.build_sensor_context(instance=instance))
    assert "No collector" in skipped.skip_message


def test_definitions_do_not_import_opentelemetry() -> None:
    script = (
        "import sys, offgridflow_pipeline.defs.telemetry, offgridflow_pipeline.defs.sensors.heartbeat;"
        "print(sorted(name for name in sys.modules if name.startswith('opentelemetry')))"
    )
    root = Path(__file__).parents[2]
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], cwd=root, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
