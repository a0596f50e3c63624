"""Subscriptions of the Stripe counterpart through trial, renewal, dunning and end, seen by the official client."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import stripe

from offgridflow_pipeline.demo.stripe_counterpart import AUTHENTICATED, DISPUTED, FAILING, GOOD, ApiError
from offgridflow_pipeline_tests.demo.stripe_shop import Shop, shop

RENEWAL = 30  # days, safely past 28 February of the period that begins on 31 January


def at(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp())  # type: ignore[arg-type,misc]


def past_due(story: Shop) -> str:
    """A subscription whose first renewal failed a moment ago."""
    subscription = story.subscribe()
    story.world.use_card(story.customer, FAILING.number)
    story.world.clock.advance_to(datetime(2026, 2, 28, 10, 0, tzinfo=UTC))
    assert story.status(subscription) == "past_due"
    return subscription


def test_a_paid_checkout_activates_the_subscription() -> None:
    story = shop()
    before = len(story.world.events)
    session = story.checkout()
    story.world.complete_checkout(session.id)
    done = story.client.v1.checkout.sessions.retrieve(session.id, {"expand": ["subscription"]})
    assert (done.status, done.payment_status, done.client_reference_id) == ("complete", "paid", "t1")
    assert isinstance(done.subscription, stripe.Subscription)
    assert done.subscription.status == "active"
    assert done.subscription.metadata.to_dict() == {"tenant": "t1"}
    assert [t for t in story.types_since(before) if t.startswith(("checkout", "customer.sub", "invoice.p"))] == [
        "customer.subscription.created",
        "invoice.paid",
        "invoice.payment_succeeded",
        "customer.subscription.updated",
        "checkout.session.completed",
    ]


def test_a_declined_card_leaves_the_checkout_open() -> None:
    story = shop()
    session = story.checkout()
    with pytest.raises(ApiError, match="declined"):
        story.world.complete_checkout(session.id, FAILING.number)
    assert story.client.v1.checkout.sessions.retrieve(session.id).status == "open"
    assert story.client.v1.subscriptions.list({"status": "all"}).data == []


def test_an_abandoned_checkout_expires_after_a_day() -> None:
    story = shop()
    session = story.checkout()
    story.pass_days(1)
    assert story.client.v1.checkout.sessions.retrieve(session.id).status == "expired"
    assert story.types_since(0)[-1] == "checkout.session.expired"


def test_periods_keep_the_billing_day_through_short_months() -> None:
    story = shop()
    subscription = story.subscribe()
    ends = []
    for _ in range(3):
        item = story.subscription(subscription)["items"].data[0]
        ends.append(item.current_period_end)
        story.world.clock.advance_to(datetime.fromtimestamp(item.current_period_end, UTC) + timedelta(hours=2))
    assert ends == [at(2026, 2, 28, 9), at(2026, 3, 31, 9), at(2026, 4, 30, 9)]
    assert {bill.status for bill in story.invoices()} == {"paid"}
    assert [bill.billing_reason for bill in story.invoices()] == ["subscription_cycle"] * 3 + ["subscription_create"]


def test_a_trial_becomes_active_and_its_first_invoice_is_charged_an_hour_later() -> None:
    story = shop()
    subscription = story.subscribe(trial_days=14)
    trialing = story.subscription(subscription)
    assert (trialing.status, trialing.trial_end) == ("trialing", at(2026, 2, 14, 9))
    story.pass_days(11)
    assert story.types_since(0)[-1] == "customer.subscription.trial_will_end"
    story.pass_days(3)
    assert story.status(subscription) == "active"
    assert story.invoices()[0].status == "draft"
    story.pass_days(1 / 24)
    assert (story.invoices()[0].status, story.invoices()[0].amount_paid) == ("paid", 4_900)


@pytest.mark.parametrize(("behaviour", "status"), [("pause", "paused"), ("cancel", "canceled")])
def test_a_trial_without_a_card_ends_as_its_settings_say(behaviour: str, status: str) -> None:
    story = shop()
    subscription = story.client.v1.subscriptions.create(
        {
            "customer": story.customer,
            "items": [{"price": "price_basic"}],
            "trial_period_days": 7,
            "trial_settings": {"end_behavior": {"missing_payment_method": behaviour}},
        }
    )
    story.pass_days(7)
    ended = story.subscription(subscription.id)
    assert ended.status == status
    if status == "paused":
        assert ended.status_details is not None
        assert ended.status_details.paused.subscription.type == "trial_end_without_payment_method"


def test_a_failing_renewal_makes_the_subscription_past_due_with_an_open_invoice() -> None:
    story = shop()
    subscription = past_due(story)
    (bill,) = story.invoices(status="open")
    assert bill.parent is not None
    assert bill.parent.subscription_details is not None
    assert bill.parent.subscription_details.subscription == subscription
    assert bill.status_transitions.finalized_at == at(2026, 2, 28, 10)
    assert bill.next_payment_attempt == at(2026, 3, 1, 10)
    assert bill.attempt_count == 1
    assert str(bill.hosted_invoice_url).startswith("https://stripe.test/invoices/")
    assert story.client.v1.customers.retrieve(story.customer).delinquent is True


@pytest.mark.parametrize("last", ["unpaid", "canceled", "past_due"])
def test_after_eight_retries_in_two_weeks_the_account_setting_decides(last: str) -> None:
    story = shop(after_last_retry=last)
    subscription = past_due(story)
    story.pass_days(13.9)
    assert story.status(subscription) == "past_due"
    story.pass_days(0.1)
    assert story.status(subscription) == last
    (bill,) = story.invoices(status="open")
    assert (bill.attempt_count, bill.next_payment_attempt, bill.auto_advance) == (9, None, False)
    if last == "canceled":
        details = story.subscription(subscription).cancellation_details
        assert details is not None
        assert details.reason == "payment_failed"


def test_a_retry_with_a_new_card_ends_the_dunning() -> None:
    story = shop()
    subscription = past_due(story)
    story.world.use_card(story.customer, GOOD.number)
    story.pass_days(1)
    assert story.status(subscription) == "active"
    assert story.invoices(status="open") == []
    assert story.client.v1.customers.retrieve(story.customer).delinquent is False


def test_paying_the_open_invoice_of_an_unpaid_subscription_makes_it_active() -> None:
    story = shop()
    subscription = past_due(story)
    story.pass_days(20)
    assert story.status(subscription) == "unpaid"
    before = len(story.world.events)
    bill = story.client.v1.invoices.pay(story.invoices(status="open")[0].id, {"payment_method": "pm_card_visa"})
    assert bill.status == "paid"
    assert story.status(subscription) == "active"
    assert story.types_since(before)[-1] == "customer.subscription.updated"
    assert "invoice.paid" in story.types_since(before)


def test_an_unpaid_subscription_gets_drafts_only() -> None:
    story = shop()
    past_due(story)
    story.pass_days(40)
    newest = story.invoices()[0]
    assert (newest.status, newest.auto_advance) == ("draft", False)


def test_a_renewal_that_needs_the_cardholder_asks_for_action_and_can_be_paid_on_the_page() -> None:
    story = shop()
    subscription = story.subscribe(AUTHENTICATED.number)
    before = len(story.world.events)
    story.pass_days(RENEWAL)
    assert story.status(subscription) == "past_due"
    assert "invoice.payment_action_required" in story.types_since(before)
    story.world.pay_invoice(story.invoices(status="open")[0].id)
    assert story.status(subscription) == "active"


def test_cancelled_at_the_period_end_stays_active_until_then() -> None:
    story = shop()
    subscription = story.subscribe()
    story.client.v1.subscriptions.update(subscription, {"cancel_at_period_end": True})
    leaving = story.subscription(subscription)
    assert (leaving.status, leaving.cancel_at, leaving.canceled_at) == (
        "active",
        at(2026, 2, 28, 9),
        at(2026, 1, 31, 9),
    )
    bills = len(story.invoices())
    story.pass_days(RENEWAL)
    ended = story.subscription(subscription)
    assert (ended.status, ended.ended_at) == ("canceled", at(2026, 2, 28, 9))
    assert len(story.invoices()) == bills
    assert story.types_since(0)[-1] == "customer.subscription.deleted"


def test_a_cancellation_can_be_taken_back() -> None:
    story = shop()
    subscription = story.subscribe()
    story.client.v1.subscriptions.update(subscription, {"cancel_at": "min_period_end"})
    assert story.subscription(subscription).cancel_at == at(2026, 2, 28, 9)
    story.client.v1.subscriptions.update(subscription, {"cancel_at": ""})
    story.pass_days(RENEWAL)
    assert story.status(subscription) == "active"


def test_an_immediate_cancellation_ends_at_once_and_only_once() -> None:
    story = shop()
    subscription = story.subscribe()
    ended = story.client.v1.subscriptions.cancel(subscription)
    assert (ended.status, ended.ended_at) == ("canceled", at(2026, 1, 31, 9))
    with pytest.raises(stripe.InvalidRequestError, match="No such subscription"):
        story.client.v1.subscriptions.cancel(subscription)
    assert story.client.v1.subscriptions.list({"customer": story.customer}).data == []
    assert len(story.client.v1.subscriptions.list({"customer": story.customer, "status": "all"}).data) == 1


def test_a_first_payment_that_fails_is_incomplete_and_expires_after_23_hours() -> None:
    story = shop()
    story.world.use_card(story.customer, FAILING.number)
    created = story.client.v1.subscriptions.create({"customer": story.customer, "items": [{"price": "price_basic"}]})
    assert created.status == "incomplete"
    story.world.advance(timedelta(hours=22, minutes=59))
    assert story.status(created.id) == "incomplete"
    story.world.advance(timedelta(minutes=1))
    assert story.status(created.id) == "incomplete_expired"
    assert story.invoices()[0].status == "void"


def test_an_incomplete_subscription_becomes_active_when_its_invoice_is_paid() -> None:
    story = shop()
    created = story.client.v1.subscriptions.create(
        {"customer": story.customer, "items": [{"price": "price_basic"}], "payment_behavior": "default_incomplete"}
    )
    assert created.status == "incomplete"
    story.world.pay_invoice(story.invoices()[0].id, GOOD.number)
    story.pass_days(2)
    assert story.status(created.id) == "active"


def test_error_if_incomplete_leaves_nothing_behind() -> None:
    story = shop()
    story.world.use_card(story.customer, FAILING.number)
    with pytest.raises(stripe.CardError):
        story.client.v1.subscriptions.create(
            {"customer": story.customer, "items": [{"price": "price_basic"}], "payment_behavior": "error_if_incomplete"}
        )
    assert story.client.v1.subscriptions.list({"status": "all"}).data == []


def test_a_paused_subscription_is_not_renewed_and_goes_on_when_resumed() -> None:
    story = shop()
    subscription = story.subscribe()
    story.client.v1.subscriptions.pause(subscription)
    bills = len(story.invoices())
    story.pass_days(RENEWAL)
    assert (story.status(subscription), len(story.invoices())) == ("paused", bills)
    before = len(story.world.events)
    assert story.client.v1.subscriptions.resume(subscription).status == "active"
    assert "customer.subscription.resumed" in story.types_since(before)
    assert story.subscription(subscription)["items"].data[0].current_period_start == story.world.clock.timestamp


def test_pausing_the_collection_keeps_the_subscription_active() -> None:
    story = shop()
    subscription = story.subscribe()
    story.client.v1.subscriptions.update(subscription, {"pause_collection": {"behavior": "void"}})
    story.pass_days(RENEWAL)
    assert (story.status(subscription), story.invoices()[0].status) == ("active", "void")
    story.client.v1.subscriptions.update(subscription, {"pause_collection": ""})
    assert story.subscription(subscription).pause_collection is None


def test_an_upgrade_is_charged_at_once_when_asked_for() -> None:
    story = shop()
    subscription = story.subscribe()
    story.pass_days(14)
    item = story.subscription(subscription)["items"].data[0].id
    story.client.v1.subscriptions.update(
        subscription, {"items": [{"id": item, "price": "price_pro"}], "proration_behavior": "always_invoice"}
    )
    changed = story.subscription(subscription)
    assert [i.price.id for i in changed["items"].data] == ["price_pro"]
    assert changed["items"].data[0].current_period_end == at(2026, 2, 28, 9)
    bill = story.invoices()[0]
    assert (bill.billing_reason, bill.status, bill.total) == ("subscription_update", "paid", 7_500)


def test_a_downgrade_is_credited_with_the_next_invoice() -> None:
    story = shop()
    subscription = story.subscribe(price="price_pro")
    story.pass_days(14)
    item = story.subscription(subscription)["items"].data[0].id
    bills = len(story.invoices())
    story.client.v1.subscriptions.update(subscription, {"items": [{"id": item, "price": "price_basic"}]})
    assert len(story.invoices()) == bills
    story.pass_days(RENEWAL)
    assert story.invoices()[0].total == 4_900 - 7_500
    assert story.invoices()[0].amount_due == 0


def test_items_may_have_different_periods() -> None:
    story = shop()
    story.world.use_card(story.customer, GOOD.number)
    created = story.client.v1.subscriptions.create(
        {"customer": story.customer, "items": [{"price": "price_basic"}, {"price": "price_yearly"}]}
    )
    story.pass_days(RENEWAL)
    ends = [item.current_period_end for item in story.subscription(created.id)["items"].data]
    assert ends == [at(2026, 3, 31, 9), at(2027, 1, 31, 9)]
    assert len(story.invoices()[0].lines.data) == 1


def test_deleting_a_customer_ends_its_subscriptions_which_stay_listed() -> None:
    story = shop()
    subscription = story.subscribe()
    story.client.v1.customers.delete(story.customer)
    gone = story.client.v1.customers.retrieve(story.customer)
    assert gone.to_dict() == {"id": story.customer, "object": "customer", "deleted": True}
    listed = story.client.v1.subscriptions.list({"customer": story.customer, "status": "all"}).data
    assert [(s.id, s.status) for s in listed] == [(subscription, "canceled")]
    assert story.types_since(0)[-2:] == ["customer.subscription.deleted", "customer.deleted"]
    with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
        story.client.v1.customers.update(story.customer, {"name": "Again"})


def test_a_disputed_charge_leads_to_its_customer() -> None:
    story = shop()
    story.subscribe(DISPUTED.number)
    (event,) = story.client.v1.events.list({"types": ["charge.dispute.created"]}).data
    dispute = story.client.v1.disputes.retrieve(event.data.object["id"], {"expand": ["charge"]})
    assert isinstance(dispute.charge, stripe.Charge)
    assert dispute.charge.customer == story.customer
    story.subscribe()
    assert story.world.dispute(story.customer, "duplicate")["reason"] == "duplicate"
