"""Figures of the ledgers in PostgreSQL as metrics: read every 15 s by one process of all, served from memory.

Counts are of all time, so a restart does not reset them, and a run that is killed has counted what it recorded.
While the database is away `/metrics` answers with the last figures, and `exporter.last_success_age` grows.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.metrics import CallbackOptions, Observation

from offgridflow_pipeline.database.signals import Durations
from offgridflow_pipeline.telemetry import names

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.database.signals import ExporterSession

INTERVAL_SECONDS = 15.0
#: Figures that read whole serving tables change with publications, not by the second.
SLOW_INTERVAL_SECONDS = 300.0
STATEMENT_TIMEOUT_MS = 3_000

log = logging.getLogger("offgridflow.telemetry")

#: Values of one metric by the values of its labels.
Values = dict[tuple[str, ...], float]


@dataclass
class Snapshot:
    """What was read last, and when each figure was."""

    values: dict[names.Metric, Values] = field(default_factory=dict)
    durations: list[Durations] = field(default_factory=list)
    read_at: dict[str, float] = field(default_factory=dict)


#: Reads one figure into the snapshot.
Read = Callable[["ExporterSession", Snapshot], None]


@dataclass(frozen=True, slots=True)
class Figure:
    """One question to the database, and how long its answer is good for; 0 = until the next refresh."""

    name: str
    read: Read
    good_for_seconds: float = 0.0


class Ledger:
    """The exporter of the ledgers. `refresh` may be called by a loop (`start`) or by a test."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._session: ExporterSession | None = None
        self._snapshot = Snapshot()
        self._last_success = clock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._failing = False

    def start(self) -> None:
        """Refresh in the background until `close`."""
        self._thread = threading.Thread(target=self._run, name="offgridflow-ledger", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the loop; another process takes over."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(STATEMENT_TIMEOUT_MS / 1000 + 1)
        self._disconnect()

    def refresh(self) -> None:
        """Read what is due. A process that does not lead exports no ledger figure; failures are kept in the age."""
        try:
            with suppress_instrumentation():
                complete = self._read()
        except sa.exc.SQLAlchemyError as error:
            self._disconnect()
            self._note_failure(error)
            return
        if complete:
            self._last_success = self._clock()
            self._failing = False

    def observe(self, meter: Meter) -> None:
        """Export the figures as observable counters and gauges of the meter."""
        for metric in names.of_source("ledger"):
            if metric.kind == "histogram":
                continue  # OpenTelemetry has no observable histogram: `durations` is collected by Prometheus itself
            create = meter.create_observable_counter if metric.kind == "counter" else meter.create_observable_gauge
            create(metric.name, [self._callback(metric)], unit=metric.unit, description=metric.meaning)
        meter.create_observable_gauge(
            names.EXPORTER_AGE.name, [self._age], unit=names.EXPORTER_AGE.unit, description=names.EXPORTER_AGE.meaning
        )

    @property
    def durations(self) -> list[Durations]:
        """Report durations by outcome; empty when another process leads."""
        return self._snapshot.durations

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.refresh()
            except Exception:
                log.exception("The exporter of ledger figures failed; it tries again.")
            self._stop.wait(INTERVAL_SECONDS)

    def _read(self) -> bool:
        if self._session is None:
            self._session = self._database.signals.exporter(STATEMENT_TIMEOUT_MS)
        if not self._session.leads():
            self._snapshot = Snapshot()
            return True
        now, before = self._clock(), self._snapshot
        after = Snapshot(dict(before.values), before.durations, dict(before.read_at))
        complete = True
        for figure in FIGURES:
            if now - after.read_at.get(figure.name, -SLOW_INTERVAL_SECONDS) < figure.good_for_seconds:
                continue
            try:
                figure.read(self._session, after)
                after.read_at[figure.name] = now
            except sa.exc.DBAPIError as error:
                if error.connection_invalidated:
                    raise
                complete = False  # a slow or broken figure keeps its old values; the others go on
                self._note_failure(error)
        self._snapshot = after
        return complete

    def _callback(self, metric: names.Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            values = self._snapshot.values.get(metric, {})
            return [Observation(value, dict(zip(metric.labels, key, strict=True))) for key, value in values.items()]

        return observe

    def _age(self, _options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(self._clock() - self._last_success)]

    def _note_failure(self, error: Exception) -> None:
        if not self._failing:
            self._failing = True
            cause = getattr(error, "orig", None) or error
            log.warning("Ledger figures cannot be read; metrics keep their last values: %s", type(cause).__name__)

    def _disconnect(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            try:
                session.close()
            except sa.exc.SQLAlchemyError as error:  # a connection that is gone needs no closing
                log.debug("closing the exporter's connection: %s", type(error).__name__)


def with_zeros(metric: names.Metric, values: Mapping[tuple[str, ...], float]) -> Values:
    """The values, and zero for every known combination of labels: a counter born at 1 never raises an alert."""
    return {**dict.fromkeys(metric.combinations(), 0.0), **values}


def _runs(session: ExporterSession, into: Snapshot) -> None:
    ((queued, active, age),) = session.figure("runs")
    into.values |= {names.RUNS_QUEUED: {(): queued}, names.RUNS_ACTIVE: {(): active}, names.RUNS_OLDEST: {(): age}}


def _single(metric: names.Metric, figure: str) -> Read:
    def read(session: ExporterSession, into: Snapshot) -> None:
        ((value,),) = session.figure(figure)
        into.values[metric] = {(): float(value)}

    return read


def _labelled(metric: names.Metric, figure: str) -> Read:
    def read(session: ExporterSession, into: Snapshot) -> None:
        rows = {tuple(row[:-1]): float(row[-1]) for row in session.figure(figure)}
        into.values[metric] = with_zeros(metric, rows)

    return read


def _emissions(session: ExporterSession, into: Snapshot) -> None:
    rows = session.figure("emissions")
    into.values |= {
        names.EMISSION_ROWS: {(row.provider,): row.line_count for row in rows},
        names.UNMATCHED_ROWS: {(row.provider,): row.unmatched for row in rows},
        names.COVERAGE: {(row.provider,): row.coverage for row in rows},
    }


def _waiting(figure: str, depth: names.Metric, age: names.Metric) -> Read:
    """What waits, by state, and how long the oldest does."""

    def read(session: ExporterSession, into: Snapshot) -> None:
        rows = session.figure(figure)
        depths = with_zeros(depth, {(row.state,): row.depth for row in rows})
        into.values |= {depth: depths, age: {(): max((row.oldest_age for row in rows), default=0.0)}}

    return read


def _durations(session: ExporterSession, into: Snapshot) -> None:
    bounds = names.REPORT_DURATION_BOUNDS
    found = {row.outcome: row for row in session.report_durations(bounds)}
    none = [0] * len(bounds)
    into.durations = [
        found.get(outcome) or Durations(outcome, none, 0, 0.0) for (outcome,) in names.REPORT_DURATION.combinations()
    ]


FIGURES = (
    Figure("runs", _runs),
    Figure("heartbeat", _single(names.HEARTBEAT_AGE, "heartbeat")),
    Figure("syncs", _labelled(names.SYNCS, "syncs")),
    Figure("freshness", _labelled(names.FRESHNESS, "freshness")),
    Figure("failed_checks", _labelled(names.CHECKS_FAILED, "failed_checks")),
    Figure("publish_age", _single(names.PUBLISH_AGE, "publish_age")),
    Figure("emissions", _emissions, SLOW_INTERVAL_SECONDS),
    Figure("reports", _labelled(names.REPORTS, "reports")),
    Figure("report_durations", _durations),
    Figure("outbox", _waiting("outbox", names.OUTBOX_DEPTH, names.OUTBOX_AGE)),
    Figure("audit", _single(names.AUDIT_CHAIN_OK, "audit")),
    Figure("billing_failures", _single(names.PAYMENT_FAILURES, "billing_failures")),
    Figure("billing_inbox", _waiting("billing_inbox", names.INBOX_DEPTH, names.INBOX_AGE)),
    Figure("billing_tenants", _labelled(names.BILLING_TENANTS, "billing_tenants")),
)
