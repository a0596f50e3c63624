"""The connection pool and its statements as metrics: OpenTelemetry's instrumentation of SQLAlchemy has only the count.

Five pool metrics of the semantic conventions (in development there) and the duration of statements (stable). Both are
measured where SQLAlchemy meets pool and driver: its events for statements would cost more than the statements do.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.metrics import CallbackOptions, Observation

from offgridflow_pipeline.telemetry import names

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

    from offgridflow_pipeline.telemetry.durations import DurationHistogram, Durations

_OPERATIONS = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "COPY", "CALL"})
#: Calls of the driver that execute a statement.
_EXECUTING = ("do_execute", "do_executemany", "do_execute_no_params")


def observe(engine: sa.Engine, pool_name: str, meter: Meter, durations: Durations) -> Callable[[], None]:
    """Measure the engine's pool and statements from now on; the returned function ends it."""
    pool = engine.pool
    if not isinstance(pool, sa.QueuePool):
        raise TypeError(f"The pool is a {type(pool).__name__}; only a QueuePool has places to count.")
    waiting = _Waiting(pool, pool_name, meter, durations.waits)
    _gauges(pool, pool_name, meter, waiting)
    for name in _EXECUTING:
        setattr(engine.dialect, name, _timed(getattr(engine.dialect, name), durations.statements))

    def end() -> None:
        waiting.end()
        for name in _EXECUTING:
            delattr(engine.dialect, name)

    return end


def _gauges(pool: sa.QueuePool, pool_name: str, meter: Meter, waiting: _Waiting) -> None:
    label = {"db.client.connection.pool.name": pool_name}

    def count(_options: CallbackOptions) -> Iterable[Observation]:
        yield Observation(pool.checkedout(), {**label, "db.client.connection.state": "used"})
        yield Observation(pool.checkedin(), {**label, "db.client.connection.state": "idle"})

    def maximum(_options: CallbackOptions) -> Iterable[Observation]:
        yield Observation(pool.size(), label)  # our engine allows no overflow

    def pending(_options: CallbackOptions) -> Iterable[Observation]:
        yield Observation(waiting.pending, label)

    for metric, callback in ((names.POOL_COUNT, count), (names.POOL_MAX, maximum), (names.POOL_PENDING, pending)):
        meter.create_observable_gauge(metric.name, [callback], unit=metric.unit, description=metric.meaning)


class _Waiting:
    """Times `pool.connect`, which has no event for its beginning."""

    def __init__(self, pool: sa.QueuePool, pool_name: str, meter: Meter, durations: DurationHistogram) -> None:
        self.pending = 0
        self._pool = pool
        self._pool_name = pool_name
        self._durations = durations
        self._label = {"db.client.connection.pool.name": pool_name}
        self._lock = threading.Lock()
        self._timeouts = meter.create_counter(names.POOL_TIMEOUTS.name, description=names.POOL_TIMEOUTS.meaning)
        self._timeouts.add(0, self._label)
        self._connect = pool.connect
        pool.connect = self._timed  # type: ignore[method-assign]

    def end(self) -> None:
        del self._pool.connect

    def _timed(self) -> Any:
        began = time.perf_counter()
        self._change(+1)
        try:
            return self._connect()
        except sa.exc.TimeoutError:
            self._timeouts.add(1, self._label)
            raise
        finally:
            self._change(-1)
            self._durations.record(time.perf_counter() - began, self._pool_name)

    def _change(self, by: int) -> None:
        with self._lock:
            self.pending += by


def _timed(execute: Callable[..., None], durations: DurationHistogram) -> Callable[..., None]:
    """The driver's call, measured; statements of the exporter itself are not."""

    def timed(cursor: Any, statement: str, *rest: Any, **named: Any) -> None:
        if not is_instrumentation_enabled():
            execute(cursor, statement, *rest, **named)
            return
        began = time.perf_counter()
        try:
            execute(cursor, statement, *rest, **named)
        finally:
            durations.record(time.perf_counter() - began, _operation(statement))

    return timed


def _operation(statement: str) -> str:
    word = statement.lstrip()[:8].partition(" ")[0].upper()
    return word if word in _OPERATIONS else "OTHER"
