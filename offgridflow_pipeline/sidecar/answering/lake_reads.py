"""Reads of the lake while a person waits: few at once, with bounded memory and time. What is read is not here.

A tenant reads one at a time, and few requests wait: each that waits holds a thread that others need.

Heavier work is a job. The database transaction of the call has ended before one of these begins.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from offgridflow_pipeline.sidecar.entrance.problems import Problem

if TYPE_CHECKING:
    from offgridflow_pipeline.lake.engine import Engine
    from offgridflow_pipeline.settings import Settings

AT_ONCE = 2
MEMORY_MB = 256
SECONDS = 10.0
WAIT_SECONDS = 5.0
#: Of one tenant, and of all.
MAY_WAIT, ALL_MAY_WAIT = 8, 16


class LakeReads:
    """The places for such reads in this process."""

    def __init__(self, settings: Settings) -> None:
        self._memory_mb = min(MEMORY_MB, settings.engine_memory_mb)
        self._threads = settings.engine_threads
        self._changed = threading.Condition()
        self._reading: set[str] = set()
        self._waiting: Counter[str] = Counter()

    @contextmanager
    def engine(self, tenant: str, seconds: float = SECONDS) -> Iterator[Engine]:
        """An engine for one read of the tenant; what takes longer than `seconds` is stopped.

        Raises:
            Problem: 503, all places are taken, or the read needs more memory or time than it may.
        """
        import duckdb

        from offgridflow_pipeline.lake.engine import Engine, EngineMemoryError

        self._take_place(tenant)
        try:
            with Engine(self._memory_mb, self._threads) as engine:
                alarm = threading.Timer(seconds, engine.connection.con.interrupt)
                alarm.start()
                try:
                    yield engine
                finally:
                    alarm.cancel()
                    alarm.join()
        except (duckdb.InterruptException, EngineMemoryError):
            raise Problem(
                503, "too_heavy", "This reads more than one answer may: ask for fewer days, or name the day."
            ) from None
        finally:
            with self._changed:
                self._reading.discard(tenant)
                self._changed.notify_all()

    def _take_place(self, tenant: str) -> None:
        with self._changed:
            if not self._has_place(tenant):
                if self._waiting[tenant] >= MAY_WAIT or self._waiting.total() >= ALL_MAY_WAIT:
                    raise _busy()
                self._waiting[tenant] += 1
                try:
                    if not self._changed.wait_for(lambda: self._has_place(tenant), WAIT_SECONDS):
                        raise _busy()
                finally:
                    self._waiting -= Counter([tenant])  # in place: those that nobody waits for vanish
            self._reading.add(tenant)

    def _has_place(self, tenant: str) -> bool:
        return len(self._reading) < AT_ONCE and tenant not in self._reading


def _busy() -> Problem:
    return Problem(503, "busy", "Too many evidence reads run now: try again.", headers={"Retry-After": "5"})
