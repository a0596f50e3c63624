"""Every row of the states table: what Stripe says, and the state, its beginning and its end that follow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offgridflow_pipeline.subscriptions.derivation import GRACE, READABLE_AFTER_END, Derived, derive
from offgridflow_pipeline.subscriptions.snapshots import OpenInvoice, Snapshot, SubscriptionFacts

PRICES = {"free": "price_free", "basic": "price_basic", "pro": "price_pro", "enterprise": "price_enterprise"}
START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
MONTH = timedelta(days=31)
STATUSES = "incomplete incomplete_expired trialing active past_due canceled unpaid paused".split()


def _bill(since: datetime, name: str = "in_1") -> OpenInvoice:
    return OpenInvoice(invoice_id=name, due_since=since, url=f"https://invoice.stripe.com/{name}")


def _sub(status: str, **facts: Any) -> SubscriptionFacts:
    """A monthly subscription to `pro`, which began with the year."""
    known = {
        "subscription_id": "sub_1",
        "created": START,
        "price_ids": ("price_pro",),
        "period_start": START,
        "paid_until": START + MONTH,
        "next_change": START + MONTH,
    }
    return SubscriptionFacts(**{**known, "status": status, **facts})


def _at(now: datetime, *subscriptions: SubscriptionFacts, deleted: bool = False, **asked: Any) -> Derived:
    snapshot = Snapshot(customer_id="cus_1", subscriptions=subscriptions, deleted=deleted)
    return derive(snapshot, now, prices=PRICES, **asked)


def _told(derived: Derived) -> tuple[str, datetime | None, datetime | None]:
    return derived.state, derived.since, derived.until


def test_who_never_subscribed_is_free_and_active() -> None:
    for snapshot in (None, Snapshot(customer_id="cus_1")):
        assert derive(snapshot, START, prices=PRICES) == Derived("free", "active")


def test_trialing_is_trial() -> None:
    derived = _at(START + DAY, _sub("trialing"))
    assert (derived.plan, *_told(derived)) == ("pro", "trial", START, None)


def test_active_is_active_also_when_it_is_to_end_with_the_period() -> None:
    ending = _sub("active", cancel_at=START + MONTH, canceled_at=START + DAY)
    for subscription in (_sub("active"), ending):
        assert _told(_at(START + 2 * DAY, subscription)) == ("active", START, None)


@pytest.mark.parametrize(
    ("facts", "renews"),
    [
        ({}, True),
        ({"cancel_at": START + MONTH}, False),
        ({"cancel_at": START + DAY}, False),
        ({"cancel_at": START + MONTH + DAY}, True),
        # A yearly item beside a monthly one: the month is charged again before the year ends.
        ({"cancel_at": START + 12 * MONTH, "paid_until": START + 12 * MONTH}, True),
        ({"cancel_at": START + DAY, "paid_until": None, "next_change": None}, False),
        ({"status": "canceled"}, False),
        ({"status": "incomplete"}, False),
        ({"status": "past_due"}, True),
    ],
)
def test_a_subscription_renews_unless_it_ends_before_its_next_period(facts: dict[str, Any], renews: bool) -> None:
    assert _sub(**{"status": "active", **facts}).renews is renews


def test_past_due_is_grace_for_fourteen_days_since_the_oldest_open_bill_and_then_restricted() -> None:
    due = START + MONTH
    subscription = _sub("past_due", open_invoices=(_bill(due), _bill(due + 5 * DAY, "in_2")))
    assert _told(_at(due, subscription)) == ("grace", due, due + GRACE)
    assert _told(_at(due + GRACE - timedelta(seconds=1), subscription)) == ("grace", due, due + GRACE)
    assert _told(_at(due + GRACE, subscription)) == ("restricted", due + GRACE, None)


def test_past_due_without_a_bill_in_sight_is_due_since_its_period_began() -> None:
    subscription = _sub("past_due", period_start=START + MONTH, paid_until=START + 2 * MONTH)
    assert _told(_at(START + MONTH + DAY, subscription)) == ("grace", START + MONTH, START + MONTH + GRACE)


@pytest.mark.parametrize(
    ("facts", "since"),
    [
        ({"paused_at": START + 9 * DAY, "trial_end": START + 8 * DAY}, START + 9 * DAY),
        ({"trial_end": START + 8 * DAY}, START + 8 * DAY),
        ({}, START),
    ],
)
def test_paused_is_restricted_since_then(facts: dict[str, Any], since: datetime) -> None:
    assert _told(_at(START + 20 * DAY, _sub("paused", **facts))) == ("restricted", since, None)


def test_unpaid_is_suspended_counted_from_the_end_of_the_grace() -> None:
    due = START + MONTH
    subscription = _sub("unpaid", open_invoices=(_bill(due),))
    closing = due + GRACE + READABLE_AFTER_END
    assert _told(_at(due + 3 * DAY, subscription)) == ("suspended", due, closing)  # Stripe gave up early
    assert _told(_at(due + GRACE, subscription)) == ("suspended", due + GRACE, closing)
    assert _told(_at(closing, subscription)) == ("offboarded", closing, None)


def test_cancelled_is_active_while_the_period_is_paid_then_suspended_then_offboarded() -> None:
    end = START + MONTH
    subscription = _sub("canceled", canceled_at=START + DAY, ended_at=START + DAY)
    assert _told(_at(START + 2 * DAY, subscription)) == ("active", START, end)
    assert _told(_at(end, subscription)) == ("suspended", end, end + READABLE_AFTER_END)
    assert _told(_at(end + READABLE_AFTER_END, subscription)) == ("offboarded", end + READABLE_AFTER_END, None)


@pytest.mark.parametrize("facts", [{"open_invoices": (_bill(START + MONTH),)}, {"payment_failed": True}])
def test_cancelled_for_want_of_payment_is_suspended_at_once(facts: dict[str, Any]) -> None:
    ended = START + MONTH + 10 * DAY
    subscription = _sub("canceled", ended_at=ended, paid_until=START + 2 * MONTH, **facts)
    assert _told(_at(ended + DAY, subscription)) == ("suspended", ended, ended + READABLE_AFTER_END)


@pytest.mark.parametrize("status", ["incomplete", "incomplete_expired"])
def test_a_first_payment_that_was_not_made_changes_nothing(status: str) -> None:
    begun = _sub("active", subscription_id="sub_0", price_ids=("price_basic",))
    assert _at(START, _sub(status)) == Derived("free", "active")
    assert _at(START, _sub(status), begun) == _at(START, begun)
    assert _at(START, _sub(status), deleted=True) == Derived("free", "active")


def test_an_owner_who_leaves_is_offboarded_from_then_on_whatever_is_paid() -> None:
    wish = START + 3 * DAY
    assert _at(wish - DAY, _sub("active"), offboard_requested_at=wish).state == "active"
    assert _told(_at(wish, _sub("active"), offboard_requested_at=wish)) == ("offboarded", wish, None)
    assert derive(None, wish, prices=PRICES, offboard_requested_at=wish).state == "offboarded"


@pytest.mark.parametrize("before", STATUSES)
def test_any_state_is_active_again_when_stripe_says_active(before: str) -> None:
    old = _sub(before, subscription_id="sub_0", ended_at=START, open_invoices=(_bill(START),))
    assert _at(START + 400 * DAY, old, _sub("active", created=START + 399 * DAY)).state == "active"


def test_of_a_deleted_customer_everything_counts_as_cancelled() -> None:
    assert _told(_at(START + DAY, _sub("active"), deleted=True)) == ("active", START, START + MONTH)
    assert _told(_at(START + MONTH, _sub("trialing"), deleted=True)) == (
        "suspended",
        START + MONTH,
        START + MONTH + READABLE_AFTER_END,
    )
    owing = _sub("past_due", open_invoices=(_bill(START + 5 * DAY),))
    assert _at(START + 6 * DAY, owing, deleted=True).since == START + 5 * DAY


def test_of_several_subscriptions_the_one_that_allows_most_decides() -> None:
    ended = _sub("canceled", subscription_id="sub_0", ended_at=START, paid_until=START)
    basic = _sub("active", subscription_id="sub_2", price_ids=("price_basic",))
    assert _at(START + DAY, ended, basic).plan == "basic"
    assert _at(START + DAY, _sub("trialing"), basic).plan == "basic"
    assert _at(START + DAY, _sub("active"), basic).plan == "pro"
    assert _at(START + DAY, _sub("paused"), _sub("unpaid", subscription_id="sub_3")).state == "restricted"


def test_the_largest_plan_among_the_items_counts() -> None:
    assert _at(START, _sub("active", price_ids=("price_basic", "price_enterprise"))).plan == "enterprise"


def test_a_price_that_the_settings_do_not_name_is_the_plan_its_product_names() -> None:
    derived = _at(START, _sub("active", price_ids=("price_2025",), plan_hint="basic"))
    assert (derived.plan, derived.unknown_price) == ("basic", "")


@pytest.mark.parametrize("hint", ["", "platinum"])
def test_an_unknown_price_keeps_the_plan_before_and_is_told(hint: str) -> None:
    derived = _at(START, _sub("active", price_ids=("price_x",), plan_hint=hint), plan_before="pro")
    assert (derived.plan, derived.state, derived.unknown_price) == ("pro", "active", "price_x")


def test_an_unknown_status_decides_nothing_and_is_told() -> None:
    strange = _sub("hibernating", subscription_id="sub_0")
    assert _at(START, strange).unknown_status == "hibernating"
    assert _at(START, strange, _sub("active")) == _at(START, _sub("active"))


@pytest.mark.parametrize("before", ["canceled", "unpaid", "paused"])
def test_beside_a_status_that_we_do_not_know_nothing_that_ended_before_takes_anything_away(before: str) -> None:
    ended = _sub(before, subscription_id="sub_0", ended_at=START, price_ids=("price_basic",))
    strange = _sub("hibernating", created=START + MONTH)
    derived = _at(START + 400 * DAY, ended, strange, plan_before="pro")
    assert (derived.plan, derived.unknown_status, derived.subscription) == ("pro", "hibernating", None)
    assert _at(START + 400 * DAY, ended, strange, deleted=True).state == "offboarded"  # there all of them have ended


_TIMES = st.integers(0, 400).map(lambda days: START + days * DAY)
_SUBSCRIPTIONS = st.builds(
    SubscriptionFacts,
    subscription_id=st.sampled_from(["sub_1", "sub_2", "sub_3"]),
    status=st.sampled_from([*STATUSES, "hibernating"]),
    created=_TIMES,
    price_ids=st.lists(st.sampled_from([*PRICES.values(), "price_x"]), max_size=2).map(tuple),
    paid_until=st.none() | _TIMES,
    ended_at=st.none() | _TIMES,
    payment_failed=st.booleans(),
    open_invoices=st.lists(st.builds(OpenInvoice, invoice_id=st.just("in_1"), due_since=_TIMES), max_size=1).map(tuple),
)


@given(st.lists(_SUBSCRIPTIONS, max_size=3, unique_by=lambda one: one.subscription_id), _TIMES, st.booleans())
def test_the_order_of_subscriptions_and_a_way_through_json_change_nothing(
    subscriptions: list[SubscriptionFacts], now: datetime, deleted: bool
) -> None:
    there = _at(now, *subscriptions, deleted=deleted)
    back = _at(now, *reversed(subscriptions), deleted=deleted)
    assert (there.plan, *_told(there)) == (back.plan, *_told(back))
    snapshot = Snapshot(customer_id="cus_1", subscriptions=tuple(subscriptions), deleted=deleted)
    assert Snapshot.of(snapshot.document()) == snapshot
