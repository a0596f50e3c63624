"""Traces of runs: a span per run and per step, made of the run's event log once the run has ended.

So a run process pays nothing for them, no asset knows of them, and a run that was killed shows its steps up to the
last one. The trace is that of the request which asked for the run (tag ``traceparent``); else the run id is its id.
OpenTelemetry is imported when a run is exported, never with the definitions.
"""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from offgridflow_pipeline.defs.run_coordinator import TENANT_TAG
from offgridflow_pipeline.settings import Settings, load_settings
from offgridflow_pipeline.telemetry.traces import TraceParent, run_is_sampled

if TYPE_CHECKING:
    from offgridflow_pipeline.telemetry.run_traces import Run

TRACEPARENT_TAG = "traceparent"
ROWS_KEY = "dagster/partition_row_count"
RUNS_PER_TICK = 50
#: Runs may become visible a little out of order: so far back the sensor looks again.
OVERLAP = timedelta(minutes=1)
ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
#: Tags that say what a run is; others may hold anything.
_TOLD_TAGS = (TENANT_TAG, "offgridflow/trigger", "offgridflow/job", "offgridflow/actor")
_TOLD_EVENTS = {
    dg.DagsterEventType.STEP_START,
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.STEP_UP_FOR_RETRY,
}


@dg.sensor(
    name="run_traces",
    minimum_interval_seconds=15,
    default_status=(
        dg.DefaultSensorStatus.RUNNING if load_settings().otlp_endpoint else dg.DefaultSensorStatus.STOPPED
    ),
    description="Sends the traces of runs that have ended to the OpenTelemetry collector of the settings.",
)
def run_traces(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Export what ended since the last tick; a run that the collector does not take is tried again."""
    settings = load_settings()
    if not settings.otlp_endpoint:
        return dg.SkipReason("No collector is set: OTEL_EXPORTER_OTLP_ENDPOINT.")
    cursor = Cursor.parse(context.cursor)
    waiting = cursor.waiting(context.instance)
    sent = 0
    for record in waiting:
        if is_exported(record.dagster_run, settings.trace_sample_rate) and not export_run(
            context.instance, record, settings
        ):
            break
        cursor.note(record)
        sent += 1
    context.update_cursor(cursor.text())
    return dg.SkipReason(f"{sent} of {len(waiting)} runs that ended were dealt with.")


@dataclass
class Cursor:
    """How far the sensor is: the newest change of a run that it saw, and the runs within the overlap before it."""

    newest: datetime
    seen: dict[str, datetime] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | None) -> "Cursor":
        """The stored cursor; without one, from now on."""
        if not text:
            return cls(datetime.now(UTC))
        stored = json.loads(text)
        seen = {run_id: datetime.fromisoformat(at) for run_id, at in stored["seen"].items()}
        return cls(datetime.fromisoformat(stored["newest"]), seen)

    def text(self) -> str:
        """The cursor to store."""
        seen = {run_id: at.isoformat() for run_id, at in self.seen.items() if at >= self.newest - OVERLAP}
        return json.dumps({"newest": self.newest.isoformat(), "seen": seen})

    def waiting(self, instance: dg.DagsterInstance) -> list[dg.RunRecord]:
        """Runs that ended and were not dealt with, oldest change first."""
        records = instance.get_run_records(
            dg.RunsFilter(statuses=ENDED, updated_after=self.newest - OVERLAP),
            limit=RUNS_PER_TICK + len(self.seen),
            order_by="update_timestamp",
            ascending=True,
        )
        return [record for record in records if record.dagster_run.run_id not in self.seen]

    def note(self, record: dg.RunRecord) -> None:
        """The run was dealt with."""
        self.seen[record.dagster_run.run_id] = record.update_timestamp
        self.newest = max(self.newest, record.update_timestamp)


def is_exported(run: dg.DagsterRun, rate: float) -> bool:
    """Whether the run's trace is kept: as its request decided, else the share `rate` of all runs."""
    parent = TraceParent.parse(run.tags.get(TRACEPARENT_TAG, ""))
    return parent.sampled if parent is not None else run_is_sampled(run.run_id, rate)


def trace_context(run: dg.DagsterRun, rate: float) -> str:
    """W3C trace context of the run, for what it asks for: its span is the parent."""
    from offgridflow_pipeline.telemetry.run_traces import span_id

    parent = TraceParent.parse(run.tags.get(TRACEPARENT_TAG, ""))
    trace_id = parent.trace_id if parent is not None else uuid.UUID(run.run_id).int
    return str(TraceParent(trace_id, span_id(run.run_id), is_exported(run, rate)))


def export_run(instance: dg.DagsterInstance, record: dg.RunRecord, settings: Settings) -> bool:
    """Send the run's spans, sampled or not; False when the collector did not take them."""
    from offgridflow_pipeline.telemetry import run_traces as traces

    return traces.export(described(instance, record), settings)


def described(instance: dg.DagsterInstance, record: dg.RunRecord) -> "Run":
    """What the event log tells of a run that has ended."""
    from offgridflow_pipeline.telemetry.run_traces import Run, Step

    run = record.dagster_run
    began = record.start_time or record.create_timestamp.timestamp()
    ended = record.end_time or record.update_timestamp.timestamp()
    told: dict[str, str | int] = {tag.replace("/", "."): run.tags[tag] for tag in _TOLD_TAGS if tag in run.tags}
    return Run(
        run_id=run.run_id,
        name=f"run {run.job_name}",
        began=began,
        ended=ended,
        steps=[
            Step(attempt.key, attempt.began, attempt.ended, {**told, **attempt.attributes}, attempt.error)
            for attempt in attempts_of(instance.all_logs(run.run_id, of_type=_TOLD_EVENTS), lost_at=ended)
        ],
        attributes={**told, "dagster.run_id": run.run_id, "dagster.job": run.job_name},
        failed=not run.is_success,
        parent=TraceParent.parse(run.tags.get(TRACEPARENT_TAG, "")),
    )


@dataclass
class Attempt:
    """One attempt of a step as its events tell it; times in seconds since 1970."""

    key: str
    began: float
    ended: float
    error: str | None = "Lost"
    assets: set[str] = field(default_factory=set)
    partitions: set[str] = field(default_factory=set)
    rows: int = 0

    @property
    def attributes(self) -> dict[str, str | int]:
        """What its span says."""
        found: dict[str, str | int] = {"dagster.step": self.key, "offgridflow.rows": self.rows}
        if self.assets:
            found["dagster.asset"] = ", ".join(sorted(self.assets))
        if self.partitions:
            found["dagster.partition.first"] = min(self.partitions)
            found["dagster.partition.last"] = max(self.partitions)
            found["dagster.partition.count"] = len(self.partitions)
        return found


def attempts_of(entries: Sequence[dg.EventLogEntry], *, lost_at: float) -> list[Attempt]:
    """Attempts in order of their beginning; one whose end is not told was lost with its process."""
    found: list[Attempt] = []
    running: dict[str, Attempt] = {}
    for entry in entries:
        event = entry.dagster_event
        if event is None or event.step_key is None:
            continue
        if event.event_type is dg.DagsterEventType.STEP_START:
            running[event.step_key] = Attempt(event.step_key, entry.timestamp, lost_at)
            found.append(running[event.step_key])
        elif (attempt := running.get(event.step_key)) is not None:
            _note(attempt, event, entry.timestamp)
    return found


def _note(attempt: Attempt, event: dg.DagsterEvent, at: float) -> None:
    if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION:
        materialization = event.step_materialization_data.materialization
        attempt.assets.add(materialization.asset_key.to_user_string())
        if materialization.partition is not None:
            attempt.partitions.add(materialization.partition)
        rows = materialization.metadata.get(ROWS_KEY)
        attempt.rows += (rows.value or 0) if isinstance(rows, dg.IntMetadataValue) else 0
        return
    attempt.ended, attempt.error = at, None
    if event.event_type is dg.DagsterEventType.STEP_FAILURE:
        failure = event.step_failure_data.error
        while failure is not None and failure.cause is not None:
            failure = failure.cause  # Dagster wraps what the asset raised
        attempt.error = (failure.cls_name if failure else None) or "Failure"  # its text may quote what was read
    elif event.event_type is dg.DagsterEventType.STEP_UP_FOR_RETRY:
        attempt.error = "RetryRequested"
