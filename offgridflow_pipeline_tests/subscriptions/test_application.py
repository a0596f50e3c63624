"""Applying a snapshot: one transaction in which everything that follows happens once, or nothing."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.money.subscriptions import Onboarding
from offgridflow_pipeline.subscriptions import application
from offgridflow_pipeline.subscriptions.application import Change, NotLinkedError, Told, apply
from offgridflow_pipeline.subscriptions.snapshots import OpenInvoice, Snapshot, SubscriptionFacts
from offgridflow_pipeline_tests.subscriptions.shop import audited, bodies, mails, settings, standing

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
FETCHED = datetime(2026, 3, 2, tzinfo=UTC)
SETTINGS = settings()


@pytest.fixture
def customer(database: Database, tenant: str) -> str:
    made = f"cus_{uuid.uuid4().hex}"
    database.subscriptions.link(tenant, made)
    return made


def _snapshot(customer: str, status: str = "active", plan: str = "pro", **facts: Any) -> Snapshot:
    subscription = SubscriptionFacts(
        subscription_id="sub_1", status=status, created=START, price_ids=(f"price_{plan}",), **facts
    )
    return Snapshot(customer_id=customer, subscriptions=(subscription,))


def _apply(
    database: Database, tenant: str, snapshot: Snapshot, *, fetched: int = 0, now: datetime = START, **more: Any
) -> Change | None:
    return apply(database, SETTINGS, tenant, snapshot, FETCHED + timedelta(seconds=fetched), now, **more)


def _connect(database: Database, tenant: str, *names: str) -> None:
    for name in names:
        database.connections.add(tenant, name, provider="aws", kind="cur2_parquet", uri=f"s3://bucket/{name}")


def _read(database: Database, tenant: str) -> list[str]:
    return [row.connection_id for row in database.connections.list(tenant, paused=False)]


def _syncs(database: Database, tenant: str) -> list[tuple[str, str]]:
    jobs = database.jobs.list(tenant, limit=100, job_type="connector_sync")
    return [(job.payload["first"], job.payload["last"]) for job in reversed(jobs)]


def test_the_first_subscription_changes_plan_state_audit_log_and_onboarding_and_mails(
    database: Database, tenant: str, customer: str
) -> None:
    change = _apply(database, tenant, _snapshot(customer, "trialing"))
    assert change == Change(tenant, "free", "pro", "active", "trial", mails=1)
    assert audited(database, tenant) == [("plan:changed", "free", "pro"), ("state:changed", "active", "trial")]
    assert {body["target"] for body in bodies(database, tenant) if "from" in body["details"]} == {"sub_1"}
    row = database.subscriptions.get(tenant)
    assert row is not None and row.onboarding == "due"
    assert database.subscriptions.standing(tenant).since == START


def test_the_same_again_comes_to_nothing(database: Database, tenant: str, customer: str) -> None:
    _apply(database, tenant, _snapshot(customer))
    before = bodies(database, tenant), mails(database, tenant)
    assert _apply(database, tenant, _snapshot(customer), fetched=1) is None
    assert (bodies(database, tenant), mails(database, tenant)) == before


def test_an_older_fetch_never_replaces_a_newer_one(database: Database, tenant: str, customer: str) -> None:
    _apply(database, tenant, _snapshot(customer, plan="pro"), fetched=9)
    assert _apply(database, tenant, _snapshot(customer, plan="basic"), fetched=3) is None
    assert standing(database, tenant) == ("pro", "active")
    _apply(database, tenant, _snapshot(customer, plan="basic"), fetched=10)
    assert standing(database, tenant) == ("basic", "active")


def test_what_another_customer_said_is_replaced_though_it_was_fetched_later(
    database: Database, tenant: str, customer: str
) -> None:
    _apply(database, tenant, _snapshot(customer, plan="basic"), fetched=2)
    database.subscriptions.link(tenant, f"{customer}x", instead_of=customer)
    _apply(database, tenant, _snapshot(f"{customer}x", plan="pro"), fetched=1)
    assert standing(database, tenant) == ("pro", "active")
    row = database.subscriptions.get(tenant)
    assert row is not None and row.fetched_at == FETCHED + timedelta(seconds=2)


def test_many_at_once_have_the_effect_of_one(database: Database, tenant: str, customer: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        changes = list(pool.map(lambda n: _apply(database, tenant, _snapshot(customer), fetched=n), range(4)))
    assert sum(change is not None for change in changes) == 1
    assert mails(database, tenant) == {"subscription_active": 1}
    assert audited(database, tenant) == [("plan:changed", "free", "pro")]


def test_what_fails_half_way_leaves_nothing(
    database: Database, tenant: str, customer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> list[str]:
        raise OSError

    with monkeypatch.context() as patched, pytest.raises(OSError):
        patched.setattr(application, "pause_beyond", broken)
        _apply(database, tenant, _snapshot(customer))
    assert standing(database, tenant) == ("free", "active")
    assert (audited(database, tenant), mails(database, tenant)) == ([], {})
    row = database.subscriptions.get(tenant)
    assert row is not None and row.snapshot is None


def test_another_customer_than_the_tenants_is_refused(database: Database, tenant: str, customer: str) -> None:
    with pytest.raises(NotLinkedError, match="cus_other is not the customer"):
        _apply(database, tenant, _snapshot("cus_other"))


def test_an_unknown_price_keeps_the_plan_and_warns(
    database: Database, tenant: str, customer: str, caplog: pytest.LogCaptureFixture
) -> None:
    _apply(database, tenant, _snapshot(customer, plan="basic"))
    assert _apply(database, tenant, _snapshot(customer, plan="of_next_year"), fetched=1) is None
    assert standing(database, tenant) == ("basic", "active")
    assert "price price_of_next_year is no plan's; the plan stays basic" in caplog.text


def test_an_unknown_status_keeps_everything_and_warns(
    database: Database, tenant: str, customer: str, caplog: pytest.LogCaptureFixture
) -> None:
    _apply(database, tenant, _snapshot(customer, "past_due"))
    assert _apply(database, tenant, _snapshot(customer, "hibernating"), fetched=1) is None
    assert standing(database, tenant) == ("pro", "grace")
    assert "status hibernating is not known" in caplog.text


def test_a_smaller_plan_pauses_the_newest_connections_beyond_it_and_a_larger_one_resumes_none(
    database: Database, tenant: str, customer: str
) -> None:
    _apply(database, tenant, _snapshot(customer, plan="pro"))
    _connect(database, tenant, "first", "second", "third", "fourth", "fifth")
    change = _apply(database, tenant, _snapshot(customer, plan="basic"), fetched=1)
    assert change is not None and change.paused == ("fourth", "fifth")
    assert _read(database, tenant) == ["first", "second", "third"]
    told = [body for body in bodies(database, tenant) if body["action"] == "connectors:paused"]
    assert [(body["target"], body["actor"]["type"], body["details"]["reason"]) for body in told] == [
        ("fifth", "system", "plan_limit"),
        ("fourth", "system", "plan_limit"),
    ]
    _apply(database, tenant, _snapshot(customer, plan="pro"), fetched=2)
    assert _read(database, tenant) == ["first", "second", "third"]
    assert len(database.connections.list(tenant)) == 5


def test_a_state_without_work_pauses_nothing(database: Database, tenant: str, customer: str) -> None:
    _connect(database, tenant, "first", "second")
    _apply(database, tenant, _snapshot(customer, "paused", plan="free"))
    assert _read(database, tenant) == ["first", "second"]


@pytest.mark.parametrize(("step", "then"), [("reading", "due"), ("reporting", "due"), ("done", "done")])
def test_who_comes_back_in_the_middle_of_onboarding_is_onboarded_anew(
    database: Database, tenant: str, customer: str, step: Onboarding, then: str
) -> None:
    """Its jobs failed while no work went on: else a report would be made of bills that nobody read."""
    _apply(database, tenant, _snapshot(customer))
    _connect(database, tenant, "aws")
    database.subscriptions.onboard(tenant, step)
    _apply(database, tenant, _snapshot(customer, "paused", paused_at=START + DAY), fetched=1, now=START + 2 * DAY)
    back = _apply(database, tenant, _snapshot(customer), fetched=2, now=START + 3 * DAY)
    row = database.subscriptions.get(tenant)
    assert back is not None and row is not None
    assert (row.onboarding, row.stopped_since, bool(back.jobs)) == (then, None, then == "done")


def test_coming_back_reads_the_days_since_work_stopped_but_not_of_closed_months(
    database: Database, tenant: str, customer: str
) -> None:
    _apply(database, tenant, _snapshot(customer))
    _connect(database, tenant, "aws")
    due = datetime(2026, 1, 6, tzinfo=UTC)
    owing = _snapshot(customer, "past_due", open_invoices=(OpenInvoice(invoice_id="in_1", due_since=due),))
    _apply(database, tenant, owing, fetched=1, now=datetime(2026, 1, 25, tzinfo=UTC))
    assert standing(database, tenant) == ("pro", "restricted")
    _apply(database, tenant, _snapshot(customer, "unpaid", open_invoices=owing.subscriptions[0].open_invoices),
           fetched=2, now=datetime(2026, 2, 1, tzinfo=UTC))  # fmt: skip
    database.period_closures.close(tenant, "2026-02", by="user:1")
    change = _apply(database, tenant, _snapshot(customer), fetched=3, now=datetime(2026, 3, 5, tzinfo=UTC))
    assert change is not None and change.jobs == 2
    assert _syncs(database, tenant) == [("2026-03-01", "2026-03-04"), ("2026-01-20", "2026-01-31")]
    assert mails(database, tenant)["subscription_active"] == 2
    assert _apply(database, tenant, _snapshot(customer), fetched=4, now=datetime(2026, 3, 5, tzinfo=UTC)) is None


def test_coming_back_reads_no_further_back_than_the_plan_allows(database: Database, tenant: str, customer: str) -> None:
    _apply(database, tenant, _snapshot(customer, "paused", plan="free", paused_at=START - 200 * DAY))
    database.subscriptions.onboard(tenant, "done")
    _connect(database, tenant, "aws")
    _apply(database, tenant, _snapshot(customer, plan="free"), fetched=1)
    assert _syncs(database, tenant)[-1][0] == str((START - 90 * DAY).date())


def test_only_active_owners_and_billing_people_hear_of_it(
    database: Database, tenant: str, customer: str, add_person: Callable[..., uuid.UUID]
) -> None:
    owner = database.memberships.list(tenant)[0].user_id
    billing = add_person(tenant, "billing")
    add_person(tenant, "billing", expires="2026-02-28")
    add_person(tenant, "admin")
    _apply(database, tenant, _snapshot(customer))
    assert {mail.user_id for mail in database.outbox.list(tenant)} == {owner, billing}


def test_what_a_deleted_customer_had_is_taken_from_the_last_snapshot(
    database: Database, tenant: str, customer: str
) -> None:
    _apply(database, tenant, _snapshot(customer, paid_until=START + 10 * DAY))
    gone = Snapshot(customer_id=customer, deleted=True)
    _apply(database, tenant, gone, fetched=1, now=START + 5 * DAY)
    assert standing(database, tenant) == ("pro", "active")
    _apply(database, tenant, gone, fetched=2, now=START + 11 * DAY)
    assert standing(database, tenant) == ("pro", "suspended")


def test_disputes_add_up_and_are_noted_once(database: Database, tenant: str, customer: str) -> None:
    for fetched, disputes in enumerate([{"dp_1"}, {"dp_1", "dp_2"}, set()]):
        told = Told(disputes=frozenset(disputes))
        _apply(database, tenant, _snapshot(customer), fetched=fetched, told=told)
    _apply(database, tenant, _snapshot(customer), fetched=-9, told=Told(disputes=frozenset({"dp_3"})))
    noted = [body["target"] for body in bodies(database, tenant) if body["action"] == "billing:dispute:opened"]
    assert noted == ["dp_1", "dp_2", "dp_3"]
