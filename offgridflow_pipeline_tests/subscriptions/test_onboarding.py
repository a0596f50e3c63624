"""Onboarding: bills of the plan's history, then the report of the last complete month, then a mail; each once."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime

import pytest

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.pipeline.jobs import Settled
from offgridflow_pipeline.subscriptions.onboarding import onboard, take_step
from offgridflow_pipeline.subscriptions.plans import plan_of
from offgridflow_pipeline.subscriptions.reading_jobs import earliest_day, month_ranges
from offgridflow_pipeline_tests.subscriptions.shop import settings

NOW = datetime(2026, 5, 10, 8, tzinfo=UTC)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LATER = "00-1af7651916cd43dd8448eb211c80319c-c7ad6b7169203331-01"
SETTINGS = settings()


@pytest.fixture
def customer(database: Database, tenant: str) -> str:
    """A tenant on `basic` whose onboarding is due."""
    database.subscriptions.link(tenant, f"cus_{uuid.uuid4().hex}")
    database.subscriptions.change_standing(tenant, "basic", "trial", NOW)
    database.subscriptions.onboard(tenant, "due")
    return tenant


def _connect(database: Database, tenant: str) -> None:
    database.connections.add(tenant, "aws", provider="aws", kind="cur2_parquet", uri="s3://bucket/bills")


def _settle(database: Database, tenant: str, status: Settled = "completed", **result: str) -> list[str]:
    """Let every job of the tenant run and end."""
    ended = []
    while jobs := database.jobs.claim(tenant):
        for job in jobs:
            database.jobs.settle(tenant, job, status, result=result or None)
            ended.append(job.type)
    return ended


def _step(database: Database, tenant: str) -> str:
    row = database.subscriptions.get(tenant)
    assert row is not None
    return row.onboarding


def test_onboarding_waits_for_a_connection(database: Database, customer: str) -> None:
    assert take_step(database, SETTINGS, customer, NOW) is None
    assert _step(database, customer) == "due"
    assert customer in database.subscriptions.being_onboarded()


def test_months_of_the_plans_history_are_read_newest_first_then_the_last_month_is_reported_and_owners_are_told(
    database: Database, customer: str, add_person: Callable[..., uuid.UUID]
) -> None:
    add_person(customer, "admin")
    add_person(customer, "billing")
    _connect(database, customer)
    assert take_step(database, SETTINGS, customer, NOW) == "reading"
    jobs = list(reversed(database.jobs.list(customer, limit=100)))
    assert [job.payload["first"] for job in jobs] == [f"{day}" for day, _ in month_ranges(date(2025, 5, 1), NOW.date())]
    assert jobs[0].payload == {"first": "2026-05-01", "last": "2026-05-09"}
    assert (len(jobs), {job.requested_by for job in jobs}) == (13, {"system"})
    assert take_step(database, SETTINGS, customer, NOW) is None  # while one of them is open
    _settle(database, customer)
    assert take_step(database, SETTINGS, customer, NOW) == "reporting"
    assert database.jobs.list(customer, limit=1)[0].payload == {"month": "2026-04"}
    assert take_step(database, SETTINGS, customer, NOW) is None
    _settle(database, customer, report_id="rep_1")
    assert take_step(database, SETTINGS, customer, NOW) == "done"
    mails = database.outbox.list(customer)
    assert {mail.template for mail in mails} == {"report_ready"}
    assert [(mail.vars["period"], mail.vars["report_id"]) for mail in mails] == [("2026-04", "rep_1")] * 2
    assert take_step(database, SETTINGS, customer, NOW) is None
    assert customer not in database.subscriptions.being_onboarded()


def test_bills_that_could_not_be_read_do_not_stop_it_and_a_failed_report_is_told(
    database: Database, customer: str
) -> None:
    _connect(database, customer)
    take_step(database, SETTINGS, customer, NOW)
    _settle(database, customer, "failed")
    assert take_step(database, SETTINGS, customer, NOW) == "reporting"
    _settle(database, customer, "failed")
    assert take_step(database, SETTINGS, customer, NOW) == "done"
    assert [mail.template for mail in database.outbox.list(customer)] == ["report_failed"]


def test_bills_are_read_in_the_trace_of_the_run_and_the_report_goes_on_with_theirs(
    database: Database, customer: str
) -> None:
    _connect(database, customer)
    take_step(database, SETTINGS, customer, NOW, traceparent=TRACE)
    assert {job.traceparent for job in database.jobs.list(customer, limit=100)} == {TRACE}
    _settle(database, customer)
    take_step(database, SETTINGS, customer, NOW, traceparent=LATER)
    (report,) = database.jobs.list(customer, limit=100, job_type="report_generation")
    assert report.traceparent == TRACE


def test_a_report_whose_bills_were_read_outside_of_any_trace_is_made_in_that_of_the_run(
    database: Database, customer: str
) -> None:
    _connect(database, customer)
    take_step(database, SETTINGS, customer, NOW)
    assert {job.traceparent for job in database.jobs.list(customer, limit=100)} == {None}
    _settle(database, customer)
    take_step(database, SETTINGS, customer, NOW, traceparent=LATER)
    (report,) = database.jobs.list(customer, limit=100, job_type="report_generation")
    assert report.traceparent == LATER


def test_while_the_subscription_is_stopped_no_step_is_taken(database: Database, customer: str) -> None:
    _connect(database, customer)
    database.subscriptions.change_standing(customer, "basic", "restricted", NOW)
    assert take_step(database, SETTINGS, customer, NOW) is None
    assert database.jobs.list(customer, limit=10) == []
    database.subscriptions.change_standing(customer, "basic", "active", NOW)
    assert take_step(database, SETTINGS, customer, NOW) == "reading"


def test_a_history_that_begins_this_month_has_nothing_to_report_yet(database: Database, customer: str) -> None:
    _connect(database, customer)
    young = settings(history_start=date(2026, 5, 4))
    take_step(database, young, customer, NOW)
    assert _settle(database, customer) == ["connector_sync"]
    assert take_step(database, young, customer, NOW) == "done"


def test_every_tenant_that_is_onboarded_takes_its_step(database: Database, customer: str) -> None:
    _connect(database, customer)
    assert onboard(database, SETTINGS, NOW)[customer] == "reading"
    assert customer not in onboard(database, SETTINGS, NOW)


@pytest.mark.parametrize(
    ("plan", "first"),
    [("free", date(2026, 2, 9)), ("basic", date(2025, 5, 1)), ("enterprise", date(2025, 5, 1))],
)
def test_the_first_day_is_as_old_as_the_plan_allows_and_at_most_thirteen_months(plan: str, first: date) -> None:
    assert earliest_day(SETTINGS, plan_of(plan), NOW.date()) == first


def test_no_day_is_before_the_start_of_history() -> None:
    start = date(2026, 4, 20)
    assert earliest_day(settings(history_start=start), plan_of("pro"), NOW.date()) == start
    assert list(month_ranges(start, date(2026, 5, 9))) == [
        (date(2026, 5, 1), date(2026, 5, 9)),
        (start, date(2026, 4, 30)),
    ]
    assert list(month_ranges(date(2026, 5, 10), date(2026, 5, 9))) == []
