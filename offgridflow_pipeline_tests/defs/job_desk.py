"""One tenant whose jobs the sensor works on: what is asked, launched, ended, told and mailed."""

from __future__ import annotations

import json
import uuid
from typing import Any

import dagster as dg
import sqlalchemy as sa

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.pipeline.jobs import Job
from offgridflow_pipeline.definitions import defs
from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.defs.sensors.jobs import job_requests

STATUS = dg.DagsterRunStatus
REPORT = {"month": "2026-10"}
DAYS = {"first": "2026-10-03", "last": "2026-10-05"}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Desk:
    """One tenant, a person who asks, and a Dagster instance with a queue."""

    def __init__(self, database: Database, api: Database, instance: dg.DagsterInstance, tenant: str) -> None:
        self.database, self.api, self.instance, self.tenant = database, api, instance, tenant
        self.person = uuid.uuid4()
        api.users.add(self.person, f"{self.person.hex}@example.org", "Ada", locale="de")
        api.memberships.add(tenant, self.person, "analyst", granted_by="system", expires_at=None)

    def ask(self, job_type: Any = "report_generation", payload: Any = None, by: str = "", trace: str = TRACE) -> Job:
        return self.api.jobs.add(
            self.tenant, job_type=job_type, payload=payload or REPORT, requested_by=by or f"user:{self.person}",
            traceparent=trace,
        )  # fmt: skip

    def job(self, job: Job) -> Job:
        found = self.api.jobs.get(self.tenant, job.job_id)
        assert found is not None
        return found

    def tick(self) -> list[dg.RunRequest]:
        """Requests of this tenant at one tick of the sensor."""
        with dg.build_sensor_context(self.instance, resources={"platform": Platform()}) as context:
            result = job_requests(context)
        requests = result.run_requests if isinstance(result, dg.SensorResult) else []
        return [r for r in requests or [] if r.tags["offgridflow/tenant"] == self.tenant]

    def launch(self, request: dg.RunRequest, status: dg.DagsterRunStatus, **tags: str) -> dg.DagsterRun:
        """Make the run of a request as Dagster does: a run key once."""
        key = {"dagster/run_key": str(request.run_key)}
        known = self.instance.get_runs(dg.RunsFilter(tags=key))
        if known and not tags:
            return known[0]
        job = defs.resolve_job_def("source_survey")  # any job: only status and tags are looked at
        return self.instance.create_run_for_job(job, tags={**request.tags, **key, **tags}, status=status)

    def started(self, job: Job) -> dg.DagsterRun:
        """The run of the job's newest attempt, under way."""
        (request,) = [r for r in self.tick() if r.tags["offgridflow/job"] == str(job.job_id)]
        return self.launch(request, STATUS.STARTED)

    def end(self, run: dg.DagsterRun, status: str) -> None:
        {
            "success": lambda: self.instance.report_dagster_event(
                dg.DagsterEvent(dg.DagsterEventType.PIPELINE_SUCCESS.value, run.job_name), run.run_id
            ),
            "failure": lambda: self.instance.report_run_failed(run),
            "canceled": lambda: self.instance.report_run_canceled(run),
        }[status]()

    def due(self, job: Job) -> None:
        """Let the wait of the job be over."""
        self.write("update ogf.jobs set scheduled_at = now() where job_id = :job_id", job)

    def later(self, job: Job, minutes: int) -> None:
        """Let the newest attempt have been handed over so long ago."""
        self.write(
            f"update ogf.jobs set launched_at = now() - interval '{minutes} minutes' where job_id = :job_id", job
        )

    def write(self, statement: str, job: Job) -> None:
        with self.database.admin_engine.begin() as connection:
            connection.execute(sa.text(statement), {"job_id": job.job_id})

    def events(self) -> list[tuple[str, str]]:
        """Actions of the audit log and their targets, oldest first."""
        bodies = [json.loads(e.body) for e in self.database.audit_log.events(self.tenant, after=0, limit=100)]
        return [(body["action"], body["target"]) for body in bodies]

    def mails(self) -> list[Any]:
        with self.database.tenant(self.tenant) as scope:
            return list(
                scope.connection.execute(
                    sa.text("select template, to_addr, locale, vars, dedupe_key from ogf.email_outbox")
                )
            )

    def publish(self, run: dg.DagsterRun, content: str = "a") -> str:
        """What the run's publication leaves behind; returns the report's public id."""
        with self.database.tenant(self.tenant) as scope:
            bound = self.database.within(scope)
            bound.report_register.record(
                tenant=self.tenant, period="2026-10", kind="report_pdf", file_name="r.pdf", sha256=content * 64,
                size_bytes=1, media_type="application/pdf", run_id=run.run_id,
            )  # fmt: skip
            editions = bound.report_register.publish(self.tenant, "2026-10", ["report_pdf"], run_id=run.run_id)
            report, _ = bound.reports.publish(
                self.tenant, "2026-10", editions, run_id=run.run_id, prepared_by=run.tags["offgridflow/actor"]
            )
        return f"rep_{report.report_id}"
