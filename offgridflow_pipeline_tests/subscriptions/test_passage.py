"""What time alone changes: once, however often it is looked at, and with the newest mail only when we are late."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.demo.stripe_counterpart import FAILING, GOOD
from offgridflow_pipeline.subscriptions.application import apply
from offgridflow_pipeline.subscriptions.passage import pass_time, pass_time_of
from offgridflow_pipeline.subscriptions.snapshots import OpenInvoice, Snapshot, SubscriptionFacts
from offgridflow_pipeline_tests.subscriptions.shop import Shop, mails, settings, standing

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
SETTINGS = settings()


@pytest.fixture
def subscribed(database: Database, tenant: str) -> Callable[..., None]:
    """Makes the tenant a customer with one subscription to `pro`, as it was fetched at the start."""

    def make(status: str, **facts: Any) -> None:
        customer = f"cus_{uuid.uuid4().hex}"
        database.subscriptions.link(tenant, customer)
        subscription = SubscriptionFacts(
            subscription_id="sub_1", status=status, created=START, price_ids=("price_pro",), **facts
        )
        snapshot = Snapshot(customer_id=customer, subscriptions=(subscription,))
        apply(database, SETTINGS, tenant, snapshot, START, START)

    return make


BILL = OpenInvoice(invoice_id="in_1", due_since=START, url="https://invoice.stripe.com/i/1")


def _pass(database: Database, tenant: str, **time: float) -> None:
    for _ in range(2):
        pass_time_of(database, SETTINGS, tenant, "", START + timedelta(**time))


@pytest.mark.parametrize(
    ("days", "told"),
    [
        ([0, 1, 2.9], {0}),
        ([0, 3], {0, 3}),
        ([0, 3, 7, 12, 13.9], {0, 3, 7, 12}),
        ([8], {0, 7}),
        ([13], {0, 12}),
    ],
)
def test_an_open_payment_is_told_of_on_days_0_3_7_and_12_and_once_when_we_are_late(
    database: Database, tenant: str, subscribed: Callable[..., None], days: list[float], told: set[int]
) -> None:
    subscribed("past_due", open_invoices=(BILL,))
    for day in days:
        _pass(database, tenant, days=day)
    assert mails(database, tenant) == {f"payment_failed.{day}": 1 for day in told}
    assert {mail.vars["restricted_at"] for mail in database.outbox.list(tenant)} == {(START + 14 * DAY).isoformat()}


def test_of_an_open_payment_stripe_is_asked_once_an_hour_however_many_runs_there_are(shop: Shop, tenant: str) -> None:
    shop.world.advance(datetime.now(UTC) - shop.world.clock.now())
    customer = shop.customer(tenant)
    shop.subscribe(customer)
    shop.world.use_card(customer, FAILING.token)
    shop.listen(days=32)
    assert standing(shop.database, tenant) == ("pro", "grace")
    row = shop.database.subscriptions.get(tenant)
    assert row is not None and row.fetched_at is not None
    asked = []
    for minutes in (0, 59, 60):
        shop.world.requests.clear()
        pass_time(shop.database, shop.settings, row.fetched_at + timedelta(minutes=minutes), shop.gateway)
        asked.append(bool(shop.world.requests))
    assert asked == [False, False, True]


def test_a_grace_that_ends_is_restricted_with_one_mail(
    database: Database, tenant: str, subscribed: Callable[..., None]
) -> None:
    subscribed("past_due", open_invoices=(BILL,))
    _pass(database, tenant, days=13.99)
    assert standing(database, tenant) == ("pro", "grace")
    _pass(database, tenant, days=14)
    assert standing(database, tenant) == ("pro", "restricted")
    _pass(database, tenant, days=40)
    restricted = [mail for mail in database.outbox.list(tenant) if mail.template == "subscription_restricted"]
    assert [mail.vars["invoice_url"] for mail in restricted] == [BILL.url]
    row = database.subscriptions.get(tenant)
    assert row is not None and row.stopped_since == START + 14 * DAY


def test_a_paid_period_that_is_over_is_suspended_and_after_ninety_days_offboarded(
    database: Database, tenant: str, subscribed: Callable[..., None]
) -> None:
    subscribed("canceled", ended_at=START, paid_until=START + 20 * DAY)
    _pass(database, tenant, days=19)
    assert standing(database, tenant) == ("pro", "active")
    _pass(database, tenant, days=20)
    assert standing(database, tenant) == ("pro", "suspended")
    _pass(database, tenant, days=110)
    assert standing(database, tenant) == ("pro", "offboarded")
    suspended = [mail for mail in database.outbox.list(tenant) if mail.template == "subscription_suspended"]
    assert [mail.vars["readable_until"] for mail in suspended] == [(START + 110 * DAY).isoformat()]


def test_a_trial_is_announced_three_days_before_its_end(
    database: Database, tenant: str, subscribed: Callable[..., None]
) -> None:
    subscribed("trialing", trial_end=START + 14 * DAY)
    _pass(database, tenant, days=10.9)
    assert "trial_ending" not in mails(database, tenant)
    _pass(database, tenant, days=11)
    assert mails(database, tenant)["trial_ending"] == 1


def test_a_trial_that_is_followed_by_paid_periods_is_announced_also_when_an_end_is_set_behind_them(
    database: Database, tenant: str, subscribed: Callable[..., None]
) -> None:
    end = START + 14 * DAY
    subscribed("trialing", trial_end=end, next_change=end, cancel_at=START + 300 * DAY)
    _pass(database, tenant, days=12)
    assert mails(database, tenant)["trial_ending"] == 1


def test_a_trial_that_was_cancelled_is_not_announced(
    database: Database, tenant: str, subscribed: Callable[..., None]
) -> None:
    subscribed("trialing", trial_end=START + 14 * DAY, cancel_at=START + 14 * DAY)
    _pass(database, tenant, days=12)
    assert "trial_ending" not in mails(database, tenant)


def test_an_owners_wish_to_leave_is_carried_out_without_a_subscription(shop: Shop, tenant: str) -> None:
    database = shop.database
    shop.customer(tenant)
    _pass(database, tenant, days=1)
    assert database.subscriptions.standing(tenant).since is None
    database.subscriptions.request_offboarding(tenant, START + 2 * DAY)
    _pass(database, tenant, days=2)
    assert standing(database, tenant) == ("free", "offboarded")


def _owing(shop: Shop, tenant: str) -> str:
    """A customer in grace, for a day; returns its open invoice."""
    customer = shop.customer(tenant, FAILING.token)
    shop.subscribe(customer, trial_period_days=1)
    shop.listen(days=1, hours=2)
    shop.listen(days=1)
    assert standing(shop.database, tenant) == ("pro", "grace")
    shop.world.use_card(customer, GOOD.token)
    return str(next(one for one in shop.world.books.objects.of("invoice") if one["status"] == "open")["id"])


def test_before_work_stops_or_money_is_asked_for_stripe_is_asked_whether_it_was_paid(shop: Shop, tenant: str) -> None:
    shop.world.pay_invoice(_owing(shop, tenant))  # and the events of it are lost
    for days in (3, 20):
        passed = pass_time(shop.database, shop.settings, shop.world.clock.now() + days * DAY, shop.gateway)
        assert (passed.waiting, passed.failed) == ([], [])
    assert standing(shop.database, tenant) == ("pro", "active")
    assert mails(shop.database, tenant) == {"payment_failed.0": 1, "subscription_active": 1}


def test_while_stripe_cannot_be_asked_nothing_is_taken_away(shop: Shop, tenant: str) -> None:
    _owing(shop, tenant)
    shop.world.unreachable = True
    later = shop.world.clock.now() + 20 * DAY
    assert pass_time(shop.database, shop.settings, later, shop.gateway).waiting == [tenant]
    assert standing(shop.database, tenant) == ("pro", "grace")
    shop.world.unreachable = False
    assert pass_time(shop.database, shop.settings, later, shop.gateway).waiting == []
    assert standing(shop.database, tenant) == ("pro", "restricted")


def test_while_nothing_is_taken_away_stripe_is_not_asked(shop: Shop, tenant: str) -> None:
    shop.subscribe(shop.customer(tenant), trial_period_days=14)
    shop.listen()
    shop.world.requests.clear()
    pass_time(shop.database, shop.settings, shop.world.clock.now() + 12 * DAY, shop.gateway)
    assert shop.world.requests == []
    assert mails(shop.database, tenant)["trial_ending"] == 1


def test_the_fault_of_one_tenant_keeps_no_other_waiting(shop: Shop, tenant: str, new_tenant: Callable[[], str]) -> None:
    database, other = shop.database, new_tenant()
    for one in (other, tenant):
        shop.customer(one)
        database.subscriptions.keep(one, {"subscriptions": "none"} if one == other else {"customer_id": "cus"}, START)
    database.subscriptions.request_offboarding(tenant, START)
    passed = pass_time(database, SETTINGS, START + DAY)
    assert (passed.customers, passed.failed) == (2, [other])
    assert [change.tenant for change in passed.changes] == [tenant]
