"""Run watchdog: ends runs whose process is gone, which Dagster would show at work for ever.

After a power cut (daemon, code server and run worker killed together) nobody is left to report the run: it would hold
its places in the queue, and its job would never end. Ended as failed, Dagster's own retry or the job's takes over.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg

from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.defs.run_heartbeat import BEATS
from offgridflow_pipeline.settings import load_settings

AT_WORK = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
LONGEST_INTERVAL = 15
#: A run must be silent for this share of the allowed silence longer, while the watchdog looks on.
WATCHED = 1 / 3
#: Looks that are further apart, in seconds, say nothing about the time between: the database may have been away.
LONGEST_GAP = 60.0


@dataclass(frozen=True, slots=True)
class Vigil:
    """What the watchdog remembers from look to look, in seconds since 1970: since when it sees which run silent.

    A beat is missing as well when the database is away. So one look ends nothing: a run must still be silent after
    further looks, close to each other, in which the database answered and a living run had time to beat.
    """

    looked_at: float = 0.0
    silent_since: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | None) -> Vigil:
        """The stored cursor."""
        return cls(**json.loads(text)) if text else cls()

    def text(self) -> str:
        """The cursor to store."""
        return json.dumps({"looked_at": self.looked_at, "silent_since": dict(self.silent_since)})

    def look(self, silent: Sequence[str], now: float, allowed: float) -> Vigil:
        """After a look that found these runs silent; after a pause in which nobody looked, all begins anew."""
        goes_on = 0 <= now - self.looked_at <= max(LONGEST_GAP, allowed / 2)
        before = self.silent_since if goes_on else {}
        return Vigil(now, {run_id: before.get(run_id, now) for run_id in silent})

    def dead(self, allowed: float) -> list[str]:
        """Runs that have been seen silent for long enough."""
        return [run_id for run_id, since in self.silent_since.items() if self.looked_at - since >= allowed * WATCHED]


@dg.sensor(
    name="run_watchdog",
    minimum_interval_seconds=max(1, min(LONGEST_INTERVAL, int(load_settings().run_silent_seconds / BEATS))),
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Ends runs whose process has died without a word, so that they are retried. Launches nothing itself.",
)
def run_watchdog(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SkipReason:
    """One look at the runs that are at work."""
    allowed = platform.settings.run_silent_seconds
    now = time.time()
    signals = platform.database.signals
    records = context.instance.get_run_records(dg.RunsFilter(statuses=AT_WORK))
    beats = signals.run_silences([record.dagster_run.run_id for record in records])
    silences = {run_id: beats.get(run_id, since_start) for run_id, since_start in _ages(records, now).items()}
    silent = [run_id for run_id, seconds in silences.items() if seconds > allowed]
    vigil = Vigil.parse(context.cursor).look(silent, now, allowed)
    context.update_cursor(vigil.text())
    ended = sum(_end(context.instance, run_id, silences[run_id], context.log) for run_id in vigil.dead(allowed))
    signals.forget_run_beats()
    return dg.SkipReason(f"{len(silences)} runs at work, {len(silent)} silent, {ended} of them ended.")


def _ages(records: Sequence[dg.RunRecord], now: float) -> dict[str, float]:
    """Seconds since each run started; one that was cancelled before counts from its creation."""
    return {
        record.dagster_run.run_id: now - (record.start_time or record.create_timestamp.timestamp())
        for record in records
    }


def _end(instance: dg.DagsterInstance, run_id: str, silence: float, log: logging.Logger) -> bool:
    """End the run, if it still is at work; a run that was being cancelled ends as cancelled, and is not retried."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.status not in AT_WORK:
        return False
    message = f"Nothing was heard of the run's process for {silence:.0f} s: it died together with its code server."
    log.warning("%s: %s", run_id, message)
    if run.status is dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, message=message)
    else:
        instance.report_run_failed(run, message=message)
    return True
