"""Heartbeat: a row that says when the daemon last ticked, and how many runs wait and work.

Dagster's runs are in a database that the sidecar cannot see; alerts on a silent daemon and on a long queue read these
rows (observability reference, sections 4 and 6).
"""

import dagster as dg

from offgridflow_pipeline.defs.resources import Platform

DAEMON = "daemon"
STATES: dict[str, list[dg.DagsterRunStatus]] = {
    "queued": [dg.DagsterRunStatus.QUEUED],
    "active": [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING],
}


@dg.sensor(
    name="heartbeat",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells telemetry that the daemon is alive, and the length of the run queue.",
)
def heartbeat(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SkipReason:
    """Write the heartbeat and the counts of runs; launches nothing."""
    signals = platform.database.signals
    counts: dict[str, int] = {}
    for state, statuses in STATES.items():
        chosen = dg.RunsFilter(statuses=statuses)
        counts[state] = context.instance.get_runs_count(chosen)
        oldest = context.instance.get_run_records(chosen, limit=1, ascending=True)
        signals.record_runs(state, counts[state], oldest[0].create_timestamp if oldest else None)
    signals.beat(DAEMON)
    return dg.SkipReason(f"{counts['queued']} runs wait, {counts['active']} work.")
