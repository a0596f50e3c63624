"""Jobs: requests to the pipeline, from the row that the sidecar writes to the effect that is settled once.

pending -> launched (handed to Dagster) -> running -> completed, failed or cancelled; a failed attempt is pending
again until there are no more. What a payload may hold is decided in `job_requests`, which runs there are in `defs`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args
from uuid import UUID

import sqlalchemy as sa

from offgridflow_pipeline.database.statements import write

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database, TenantScope
    from offgridflow_pipeline.job_requests import JobType

Status = Literal["pending", "launched", "running", "completed", "failed", "cancelling", "cancelled"]
Settled = Literal["completed", "failed", "cancelled"]
EVERY_STATUS: tuple[Status, ...] = get_args(Status)
#: Handed to Dagster and not settled yet.
UNDER_WAY: tuple[Status, ...] = ("launched", "running", "cancelling")

#: Wait before the second attempt; each further one waits four times as long: 1, 4, 16 minutes.
FIRST_WAIT = timedelta(minutes=1)
#: Share of the wait that is left to chance, so that what failed together does not come back together.
JITTER = 0.2
#: Jobs of one tenant that one tick hands over.
CLAIMED_AT_ONCE = 20
MAXIMUM_ERROR_LENGTH = 500


@dataclass(frozen=True, slots=True)
class Job:
    """A job; `progress` in percent, `requested_by` as ``user:<id>``, ``key:<id>`` or ``system``."""

    job_id: UUID
    type: JobType
    status: Status
    payload: Mapping[str, Any]
    progress: int
    result: Mapping[str, Any] | None
    error: str | None
    attempts: int
    max_attempts: int
    priority: int
    requested_by: str
    traceparent: str | None
    run_id: str | None
    created_at: datetime
    updated_at: datetime
    scheduled_at: datetime
    launched_at: datetime | None
    completed_at: datetime | None

    @property
    def run_key(self) -> str:
        """Run key of the newest attempt: Dagster launches a key once."""
        return f"job:{self.job_id}:{self.attempts}"

    @property
    def is_settled(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.completed_at is not None


@dataclass(frozen=True, slots=True)
class Requester:
    """The person who asked, as mail reaches them."""

    user_id: UUID
    email: str
    display_name: str
    locale: str


_JOB = ", ".join(Job.__dataclass_fields__)
_MINE = "tenant_id = :tenant_id and job_id = :job_id"


class Jobs:
    """Jobs of tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def tenants(self) -> list[str]:
        """Slugs of tenants that have work for the sensor, sorted."""
        with self._database.application_engine.begin() as connection:
            return list(connection.scalars(sa.text("select slug from ogf.tenants_with_jobs()")))

    def add(
        self,
        tenant: str,
        *,
        job_type: JobType,
        payload: Mapping[str, Any],
        requested_by: str,
        traceparent: str | None = None,
    ) -> Job:
        """Ask for the work; it is taken up at the next tick.

        Raises:
            RecordError: a value has the wrong form.
        """
        with self._database.tenant(tenant) as scope:
            row = write(
                scope,
                "jobs",
                "insert into ogf.jobs (tenant_id, type, payload, requested_by, traceparent)"
                " values (:tenant_id, :type, cast(:payload as jsonb), :requested_by, :traceparent)"
                f" returning {_JOB}",
                {
                    "tenant_id": scope.tenant_id,
                    "type": job_type,
                    "payload": json.dumps(dict(payload), sort_keys=True),
                    "requested_by": requested_by,
                    "traceparent": traceparent,
                },
            ).one()
        return Job(*row)

    def get(self, tenant: str, job_id: UUID) -> Job | None:
        """The job; None when the tenant has none of that id."""
        with self._database.tenant(tenant) as scope:
            return next(iter(_select(scope, "job_id = :job_id", job_id=job_id)), None)

    def open_count(self, tenant: str, at_most: int) -> int:
        """How many jobs of the tenant are not settled; counts no further than `at_most`."""
        with self._database.tenant(tenant) as scope:
            found: int = scope.connection.scalar(
                sa.text(
                    "select count(*) from (select from ogf.jobs where tenant_id = :tenant_id and completed_at is null"
                    " limit :at_most) as open"
                ),
                {"tenant_id": scope.tenant_id, "at_most": at_most},
            )
        return found

    def is_open(self, tenant: str, job_type: JobType, requested_by: str) -> bool:
        """Whether a job of that type, asked for by that requester, is not settled."""
        with self._database.tenant(tenant) as scope:
            found: bool = scope.connection.scalar(
                sa.text(
                    "select exists (select from ogf.jobs where tenant_id = :tenant_id and completed_at is null"
                    " and type = :type and requested_by = :requested_by)"
                ),
                {"tenant_id": scope.tenant_id, "type": job_type, "requested_by": requested_by},
            )
        return found

    def under_way(self, tenant: str) -> list[Job]:
        """Jobs that were handed to Dagster and are not settled, oldest first."""
        with self._database.tenant(tenant) as scope:
            return _select(
                scope,
                "status = any(cast(:statuses as text[])) order by created_at, job_id",
                statuses=list(UNDER_WAY),
            )

    def cancel(self, tenant: str, job_id: UUID) -> Job | None:
        """Cancel the job: a pending one at once, one under way when its run has ended; None when there is none.

        A settled job stays as it is.
        """
        with self._database.tenant(tenant) as scope:
            scope.connection.execute(
                sa.text(
                    "update ogf.jobs set status = case status when 'pending' then 'cancelled' else 'cancelling' end,"
                    " completed_at = case status when 'pending' then clock_timestamp() end,"
                    " updated_at = clock_timestamp()"
                    f" where {_MINE} and status in ('pending', 'launched', 'running')"
                ),
                {"tenant_id": scope.tenant_id, "job_id": job_id},
            )
            return next(iter(_select(scope, "job_id = :job_id", job_id=job_id)), None)

    def claim(self, tenant: str, limit: int = CLAIMED_AT_ONCE) -> list[Job]:
        """Take due jobs as handed over, each with a new attempt. Two claims never take the same job."""
        with self._database.tenant(tenant) as scope:
            rows = scope.connection.execute(
                sa.text(
                    "with due as (select job_id from ogf.jobs where tenant_id = :tenant_id and status = 'pending'"
                    " and scheduled_at <= clock_timestamp() order by priority desc, scheduled_at, job_id"
                    " limit :limit for update skip locked)"
                    " update ogf.jobs j set status = 'launched', attempts = attempts + 1, run_id = null, progress = 0,"
                    " launched_at = clock_timestamp(), updated_at = clock_timestamp()"
                    " from due where j.tenant_id = :tenant_id and j.job_id = due.job_id"
                    f" returning {', '.join(f'j.{name}' for name in Job.__dataclass_fields__)}"
                ),
                {"tenant_id": scope.tenant_id, "limit": limit},
            ).all()
        return sorted((Job(*row) for row in rows), key=lambda job: (-job.priority, job.scheduled_at, str(job.job_id)))

    def progressed(self, tenant: str, job: Job, *, run_id: str, progress: int) -> None:
        """Note the run of the attempt and how far it is, in percent; a job that is being cancelled stays so."""
        with self._database.tenant(tenant) as scope:
            scope.connection.execute(
                sa.text(
                    "update ogf.jobs set run_id = :run_id, progress = :progress, updated_at = clock_timestamp(),"
                    " status = case status when 'launched' then 'running' else status end"
                    f" where {_MINE} and attempts = :attempts and status in ('launched', 'running', 'cancelling')"
                ),
                {
                    "tenant_id": scope.tenant_id,
                    "job_id": job.job_id,
                    "attempts": job.attempts,
                    "run_id": run_id,
                    "progress": progress,
                },
            )

    def settle(
        self,
        tenant: str,
        job: Job,
        status: Settled,
        *,
        run_id: str | None = None,
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> bool:
        """End the job. True for the one caller that ended it: audit and mail belong into that transaction alone."""
        with self._database.tenant(tenant) as scope:
            ended = scope.connection.execute(
                sa.text(
                    "update ogf.jobs set status = :status, run_id = coalesce(:run_id, run_id), error = :error,"
                    " result = cast(:result as jsonb), progress = case :status when 'completed' then 100 else progress"
                    " end, completed_at = clock_timestamp(), updated_at = clock_timestamp()"
                    f" where {_MINE} and attempts = :attempts and status in ('launched', 'running', 'cancelling')"
                ),
                {
                    "tenant_id": scope.tenant_id,
                    "job_id": job.job_id,
                    "attempts": job.attempts,
                    "status": status,
                    "run_id": run_id,
                    "result": None if result is None else json.dumps(dict(result), sort_keys=True),
                    "error": None if error is None else error[:MAXIMUM_ERROR_LENGTH],
                },
            )
        return bool(ended.rowcount)

    def retry(self, tenant: str, job: Job, *, error: str) -> bool:
        """Let the job be attempted again after a pause; False when no attempt is left, or it is no longer under way."""
        with self._database.tenant(tenant) as scope:
            again = scope.connection.execute(
                sa.text(
                    "update ogf.jobs set status = 'pending', error = :error, updated_at = clock_timestamp(),"
                    " scheduled_at = clock_timestamp() + :wait"
                    f" where {_MINE} and attempts = :attempts and attempts < max_attempts"
                    " and status in ('launched', 'running')"
                ),
                {
                    "tenant_id": scope.tenant_id,
                    "job_id": job.job_id,
                    "attempts": job.attempts,
                    "error": error[:MAXIMUM_ERROR_LENGTH],
                    "wait": wait_after(job.attempts),
                },
            )
        return bool(again.rowcount)

    def requester(self, tenant: str, job: Job) -> Requester | None:
        """The person who asked, while they are an active member of the tenant; None for keys and the system."""
        kind, _, identity = job.requested_by.partition(":")
        if kind != "user":
            return None
        with self._database.tenant(tenant) as scope:
            row = scope.connection.execute(
                sa.text(
                    "select u.user_id, u.email, u.display_name, u.locale from ogf.users u join ogf.memberships m"
                    " on m.user_id = u.user_id and m.tenant_id = :tenant_id"
                    " and (m.expires_at is null or m.expires_at > clock_timestamp())"
                    " where u.user_id = cast(:user_id as uuid) and u.status = 'active'"
                ),
                {"tenant_id": scope.tenant_id, "user_id": identity},
            ).one_or_none()
        return Requester(*row) if row else None

    def list(
        self,
        tenant: str,
        *,
        limit: int,
        after: Sequence[Any] | None = None,
        status: Status | None = None,
        job_type: JobType | None = None,
    ) -> list[Job]:
        """The newest jobs first, after the one with the sort keys `(created_at, job_id)`."""
        created_at, job_id = after or (None, None)
        with self._database.tenant(tenant) as scope:
            return _select(
                scope,
                "(cast(:status as text) is null or status = :status)"
                " and (cast(:type as text) is null or type = :type)"
                " and (cast(:job_id as uuid) is null"
                " or (created_at, job_id) < (cast(:created_at as timestamptz), cast(:job_id as uuid)))"
                " order by created_at desc, job_id desc limit :limit",
                status=status,
                type=job_type,
                created_at=created_at,
                job_id=job_id,
                limit=limit,
            )


def wait_after(attempts: int, chance: float | None = None) -> timedelta:
    """How long a job waits after so many attempts; `chance` is 0 to 1 (None: drawn)."""
    drawn = random.random() if chance is None else chance  # noqa: S311  no secret
    longer: int = 4 ** (attempts - 1)
    return FIRST_WAIT * longer * (1 + JITTER * (2 * drawn - 1))


def _select(scope: TenantScope, condition: str, **values: Any) -> list[Job]:
    rows = scope.connection.execute(
        sa.text(f"select {_JOB} from ogf.jobs where tenant_id = :tenant_id and {condition}"),
        {"tenant_id": scope.tenant_id, **values},
    ).all()
    return [Job(*row) for row in rows]
