"""The queue of jobs: who takes a job, how it ends once, and how long it waits for its next attempt."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.pipeline.jobs import Job, wait_after
from offgridflow_pipeline.database.statements import RecordError

REPORT = {"month": "2026-10"}


def _ask(database: Database, tenant: str, by: str = "system") -> Job:
    return database.jobs.add(tenant, job_type="report_generation", payload=REPORT, requested_by=by)


@pytest.fixture
def tenant(new_tenant: Callable[[], str]) -> str:
    return new_tenant()


def test_the_sidecar_writes_a_job_and_the_pipeline_finds_its_tenant(
    database: Database, api_database: Database, tenant: str
) -> None:
    job = _ask(api_database, tenant, "key:abc")
    assert (job.status, job.attempts, job.progress) == ("pending", 0, 0)
    assert tenant in database.jobs.tenants()
    assert database.jobs.get(tenant, job.job_id) == job


def test_two_claims_at_once_never_take_the_same_job(database: Database, tenant: str) -> None:
    asked = {_ask(database, tenant).job_id for _ in range(12)}
    with ThreadPoolExecutor(4) as pool:
        claimed = list(pool.map(lambda _: database.jobs.claim(tenant, limit=3), range(4)))
    taken = [job.job_id for part in claimed for job in part]
    taken += [job.job_id for job in database.jobs.claim(tenant)]  # those that a claim skipped because they were held
    assert sorted(taken, key=str) == sorted(asked, key=str)
    assert database.jobs.claim(tenant) == []


def test_a_claim_that_is_held_open_keeps_no_other_waiting(database: Database, tenant: str) -> None:
    first = _ask(database, tenant)
    with database.tenant(tenant) as scope:
        assert [job.job_id for job in database.within(scope).jobs.claim(tenant)] == [first.job_id]
        second = _ask(database, tenant)
        assert [job.job_id for job in database.jobs.claim(tenant)] == [second.job_id]


def test_each_claim_is_an_attempt_with_a_run_key_of_its_own(database: Database, tenant: str) -> None:
    _ask(database, tenant)
    (first,) = database.jobs.claim(tenant)
    assert database.jobs.retry(tenant, first, error="no") is True
    _due(database, first)
    (second,) = database.jobs.claim(tenant)
    assert (first.attempts, second.attempts) == (1, 2)
    assert first.run_key != second.run_key
    assert second.error == "no"


def test_a_job_that_waits_is_not_claimed_before_its_time(database: Database, tenant: str) -> None:
    _ask(database, tenant)
    (job,) = database.jobs.claim(tenant)
    database.jobs.retry(tenant, job, error="no")
    assert database.jobs.claim(tenant) == []
    assert tenant not in database.jobs.tenants()


def test_the_waits_grow_from_one_to_four_to_sixteen_minutes_give_or_take_a_fifth() -> None:
    assert [wait_after(n, 0.5) for n in (1, 2, 3)] == [timedelta(minutes=m) for m in (1, 4, 16)]
    assert wait_after(1, 0) == timedelta(seconds=48)
    assert wait_after(1, 1) == timedelta(seconds=72)
    assert len({wait_after(1) for _ in range(20)}) > 1


def test_no_attempt_is_left_after_the_last(database: Database, tenant: str) -> None:
    job = _ask(database, tenant)
    for _ in range(2):
        (job,) = database.jobs.claim(tenant)
        assert database.jobs.retry(tenant, job, error="no")
        _due(database, job)
    (job,) = database.jobs.claim(tenant)
    assert job.attempts == job.max_attempts == 3
    assert not database.jobs.retry(tenant, job, error="no")


def test_a_job_ends_once_whoever_comes_second(database: Database, tenant: str) -> None:
    _ask(database, tenant)
    (job,) = database.jobs.claim(tenant)
    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(lambda n: database.jobs.settle(tenant, job, "completed", run_id=f"r{n}"), range(4)))
    assert sorted(ended) == [False, False, False, True]
    found = database.jobs.get(tenant, job.job_id)
    assert (found.status, found.progress) == ("completed", 100)
    assert found.run_id == f"r{ended.index(True)}"


def test_news_of_an_earlier_attempt_changes_nothing(database: Database, tenant: str) -> None:
    _ask(database, tenant)
    (first,) = database.jobs.claim(tenant)
    database.jobs.retry(tenant, first, error="no")
    assert not database.jobs.settle(tenant, first, "failed", error="late")
    _due(database, first)
    (second,) = database.jobs.claim(tenant)
    database.jobs.progressed(tenant, first, run_id="old", progress=50)
    assert not database.jobs.settle(tenant, first, "failed", error="late")
    assert database.jobs.get(tenant, second.job_id) == second


def test_a_pending_job_is_cancelled_at_once_and_one_under_way_when_its_run_has_ended(
    database: Database, api_database: Database, tenant: str
) -> None:
    under_way = _ask(database, tenant)
    (claimed,) = database.jobs.claim(tenant)
    waiting = _ask(database, tenant)
    assert api_database.jobs.cancel(tenant, waiting.job_id).status == "cancelled"
    assert api_database.jobs.cancel(tenant, under_way.job_id).status == "cancelling"
    database.jobs.progressed(tenant, claimed, run_id="r", progress=10)
    assert database.jobs.get(tenant, under_way.job_id).status == "cancelling"
    assert not database.jobs.retry(tenant, claimed, error="no")
    assert api_database.jobs.cancel(tenant, uuid.uuid4()) is None


def test_pages_follow_each_other_without_gap_or_repetition(database: Database, tenant: str) -> None:
    asked = [_ask(database, tenant).job_id for _ in range(5)]
    seen: list[uuid.UUID] = []
    after = None
    while page := database.jobs.list(tenant, limit=2, after=after):
        seen += [job.job_id for job in page]
        after = (page[-1].created_at, page[-1].job_id)
        if len(seen) == 2:
            _ask(database, tenant)  # newer: belongs to no later page
    assert seen == asked[::-1]


def test_a_list_shows_one_state_or_one_type_where_asked(database: Database, tenant: str) -> None:
    _ask(database, tenant)
    days = {"first": "2026-10-01", "last": "2026-10-02"}
    sync = database.jobs.add(tenant, job_type="connector_sync", payload=days, requested_by="system")
    database.jobs.cancel(tenant, sync.job_id)
    assert [job.type for job in database.jobs.list(tenant, limit=9, status="cancelled")] == ["connector_sync"]
    assert [job.status for job in database.jobs.list(tenant, limit=9, job_type="report_generation")] == ["pending"]


def test_a_job_of_another_tenant_is_not_there(database: Database, tenant: str, new_tenant: Callable[[], str]) -> None:
    job = _ask(database, tenant)
    other = new_tenant()
    assert database.jobs.get(other, job.job_id) is None
    assert database.jobs.cancel(other, job.job_id) is None
    assert database.jobs.list(other, limit=9) == []
    assert database.jobs.claim(other) == []


def test_a_value_of_the_wrong_form_is_refused_by_name(database: Database, tenant: str) -> None:
    with pytest.raises(RecordError, match="jobs_traceparent_check"):
        database.jobs.add(
            tenant, job_type="report_generation", payload=REPORT, requested_by="system", traceparent="nonsense"
        )


def test_only_an_active_member_is_told(database: Database, api_database: Database, tenant: str) -> None:
    member, stranger = uuid.uuid4(), uuid.uuid4()
    for user_id in (member, stranger):
        api_database.users.add(user_id, f"{user_id.hex}@example.org", "Ada", locale="de")
    api_database.memberships.add(tenant, member, "analyst", granted_by="system", expires_at=None)
    told = database.jobs.requester(tenant, _ask(database, tenant, f"user:{member}"))
    assert (told.user_id, told.locale) == (member, "de")
    assert told.email == f"{member.hex}@example.org"
    for by in (f"user:{stranger}", "key:abc", "system"):
        assert database.jobs.requester(tenant, _ask(database, tenant, by)) is None


def _due(database: Database, job: Job) -> None:
    """Let the wait of the job be over."""
    with database.admin_engine.begin() as connection:
        connection.execute(
            sa.text("update ogf.jobs set scheduled_at = now() - interval '1 second' where job_id = :job_id"),
            {"job_id": job.job_id},
        )
