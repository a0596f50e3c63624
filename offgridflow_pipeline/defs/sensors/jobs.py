"""Job requests: the `jobs` table is the queue that API and portal write and Dagster drains.

Every tick settles first, from the runs themselves, then hands over what is due. A request that was claimed and never
became a run, because something was killed in between, is made again under its run key: Dagster launches a key once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from offgridflow_pipeline.defs.connection_test import connection_test
from offgridflow_pipeline.defs.job_runs import run_request
from offgridflow_pipeline.defs.jobs import daily_calculation, daily_emissions, monthly_report
from offgridflow_pipeline.defs.partitions import TENANT_PARTITIONS
from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.job_requests import JobRequestError

if TYPE_CHECKING:
    from offgridflow_pipeline.database.pipeline.jobs import Job


@dg.sensor(
    name="job_requests",
    jobs=[daily_emissions, daily_calculation, monthly_report, connection_test],
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Launches what people and machines asked for, and settles the jobs whose runs have ended.",
)
def job_requests(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult | dg.SkipReason:
    """Runs of every tenant's jobs."""
    known = set(context.instance.get_dynamic_partitions(TENANT_PARTITIONS))
    requests: list[dg.RunRequest] = []
    for tenant in platform.database.jobs.tenants():
        with _alone(context.log, f"the jobs of {tenant}"):
            requests += _tick(context, platform, tenant, launch=tenant in known)
    return dg.SensorResult(run_requests=requests) if requests else dg.SkipReason("Nothing was asked for.")


def _tick(context: dg.SensorEvaluationContext, platform: Platform, tenant: str, *, launch: bool) -> list[dg.RunRequest]:
    """Settle the tenant's jobs; the requests of those to be launched, once its partition is there (`tenant_sync`)."""
    from offgridflow_pipeline.defs.job_settlement import runs_of, settle, to_be_launched

    database = platform.database
    unanswered: list[Job] = []
    for job in database.jobs.under_way(tenant):
        with _alone(context.log, f"job {job.job_id}"):
            records = runs_of(context.instance, job)
            settle(context.instance, database, tenant, job, records)
            if to_be_launched(job, records):
                unanswered.append(job)
    if not launch:
        return []
    still = {job.job_id for job in database.jobs.under_way(tenant) if job.status == "launched"} if unanswered else ()
    requests: list[dg.RunRequest] = []
    for job in [job for job in unanswered if job.job_id in still] + database.jobs.claim(tenant):
        with _alone(context.log, f"job {job.job_id}"):
            requests += _planned(platform, tenant, job)
    return requests


def _planned(platform: Platform, tenant: str, job: Job) -> list[dg.RunRequest]:
    """The job's run request; none when it cannot be carried out, and has failed for that reason."""
    from offgridflow_pipeline.defs.job_settlement import fail

    try:
        request = run_request(
            tenant,
            job,
            standing=platform.standing(tenant),
            today=datetime.now(UTC).date(),
            history_start=platform.settings.history_start,
            closed_months=platform.database.period_closures.closed_months(tenant),
        )
    except JobRequestError as error:
        fail(platform.database, tenant, job, str(error))
        return []
    return [request]


@contextmanager
def _alone(log: logging.Logger, what: str) -> Iterator[None]:
    """The fault of one keeps no other waiting: it is logged, and the next tick tries again."""
    try:
        yield
    except Exception:
        log.exception("Could not bring %s forward.", what)
