"""Consuming the inbox: one fetch per customer and batch, whose events are ignored, and what waits for Stripe."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa

from offgridflow_pipeline.database.money.external_events import CLAIMED_AT_ONCE, MAXIMUM_ATTEMPTS
from offgridflow_pipeline.demo.stripe_counterpart import AUTHENTICATED, Failure
from offgridflow_pipeline.subscriptions.consumer import drain
from offgridflow_pipeline.subscriptions.gateway import PINNED_API_VERSION
from offgridflow_pipeline.subscriptions.snapshots import Snapshot
from offgridflow_pipeline_tests.subscriptions.shop import Shop, bodies, inbox, mails, settings, standing


def _reason(shop: Shop, event_type: str) -> tuple[str, str]:
    """State of the newest event of the type, and what is said of it."""
    found = next(event for event in inbox(shop.database).values() if event.event_type == event_type)
    return found.state, found.last_error or ""


def _make_due(shop: Shop) -> None:
    """Failed events wait no longer."""
    with shop.database.admin_engine.begin() as connection:
        connection.execute(sa.text("update ogf.external_events set next_attempt_at = clock_timestamp()"))


def test_a_batch_fetches_each_customer_once_under_the_pinned_version(shop: Shop, new_tenant: Callable[[], str]) -> None:
    customers = [shop.customer(new_tenant()) for _ in range(3)]
    for customer in customers:
        shop.subscribe(customer)
    handled = shop.deliver()
    shop.world.requests.clear()
    drained = shop.consume()
    assert drained.events < handled  # types of no concern were ignored when they came in
    assert drained.batches == -(-drained.events // CLAIMED_AT_ONCE) == 1
    fetched = [seen.path for seen in shop.world.requests if seen.path.startswith("/v1/customers/")]
    assert sorted(fetched) == sorted(f"/v1/customers/{customer}" for customer in customers)
    assert {seen.version for seen in shop.world.requests} == {PINNED_API_VERSION}
    assert (drained.customers, drained.failed, drained.ignored) == (3, 0, 0)


def test_what_a_payload_claims_is_never_applied(shop: Shop, tenant: str) -> None:
    customer = shop.customer(tenant)
    subscription = shop.subscribe(customer, "basic")
    lie = next(event for event in shop.new_events() if event["type"] == "customer.subscription.created")
    lie["data"]["object"] = {**lie["data"]["object"], "status": "canceled", "items": {"data": []}}
    shop.deliver([lie])
    shop.consume()
    assert standing(shop.database, tenant) == ("basic", "active")
    assert shop.gateway.snapshot(customer).subscriptions[0].subscription_id == subscription


def test_an_event_of_a_customer_that_is_nobody_here_is_ignored_with_the_reason(shop: Shop) -> None:
    stranger = shop.world.call("POST", "/v1/customers", name="Stranger")["id"]
    shop.subscribe(stranger, trial_period_days=14)
    shop.deliver()
    drained = shop.consume()
    assert drained.ignored == drained.events > 0
    assert _reason(shop, "customer.subscription.created") == (
        "ignored",
        f"No organisation here is the customer {stranger}.",
    )


@pytest.mark.parametrize("mark", ["tenant", "environment", "service"])
def test_a_linked_customer_with_foreign_metadata_is_ignored_with_the_reason(shop: Shop, tenant: str, mark: str) -> None:
    customer = shop.customer(tenant)
    shop.world.call("POST", f"/v1/customers/{customer}", metadata={mark: "another"})
    shop.subscribe(customer)
    shop.deliver()
    shop.consume()
    state, reason = _reason(shop, "customer.subscription.created")
    assert (state, reason) == ("ignored", f"The metadata of customer {customer} is not ours: {mark}.")
    assert standing(shop.database, tenant) == ("free", "active")


def _bought(shop: Shop, tenant: str) -> str:
    """A completed checkout of a customer that our database does not know; returns the customer."""
    customer = shop.gateway.ensure_customer(tenant, organisation="Alder", email="o@alder.example")
    shop.gateway.checkout(
        tenant, customer_id=customer, price="price_basic", trial_days=0, success_url="https://ogf.example/billing",
        cancel_url="https://ogf.example/billing", attempt="one",
    )  # fmt: skip
    session = shop.world.books.objects.of("checkout.session")[0]
    shop.world.complete_checkout(session["id"])
    return customer


def test_a_completed_checkout_links_the_customer_that_its_metadata_names(shop: Shop, tenant: str) -> None:
    customer = _bought(shop, tenant)
    shop.listen()
    assert shop.database.subscriptions.tenant_of(customer) == tenant
    assert standing(shop.database, tenant) == ("basic", "active")
    linked = [body for body in bodies(shop.database, tenant) if body["action"] == "billing:customer:linked"]
    assert [(body["target"], body["actor"]["type"]) for body in linked] == [(customer, "system")]


def test_a_completed_checkout_links_no_second_customer(shop: Shop, tenant: str) -> None:
    shop.customer(tenant)
    other = shop.gateway.ensure_customer(tenant, organisation="Alder", email="other@alder.example")
    shop.gateway.checkout(
        tenant, customer_id=other, price="price_basic", trial_days=0, success_url="https://ogf.example/billing",
        cancel_url="https://ogf.example/billing", attempt="one",
    )  # fmt: skip
    shop.world.complete_checkout(shop.world.books.objects.of("checkout.session")[0]["id"])
    shop.listen()
    assert shop.database.subscriptions.tenant_of(other) is None
    assert "another customer already" in _reason(shop, "checkout.session.completed")[1]
    assert standing(shop.database, tenant) == ("free", "active")


def test_a_completed_checkout_links_no_customer_that_another_tenant_gets_meanwhile(
    shop: Shop, tenant: str, new_tenant: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    customer, other = _bought(shop, tenant), new_tenant()
    snapshot = shop.gateway.snapshot

    def slow(customer_id: str) -> Snapshot:
        shop.database.subscriptions.link(other, customer_id)
        return snapshot(customer_id)

    monkeypatch.setattr(shop.gateway, "snapshot", slow)
    shop.deliver(event for event in shop.new_events() if event["type"] == "checkout.session.completed")
    shop.consume()
    assert shop.database.subscriptions.get(tenant) is None
    assert _reason(shop, "checkout.session.completed") == ("ignored", f"{customer} is the customer of {other} already.")


def test_a_completed_checkout_of_a_customer_that_is_not_marked_as_ours_links_nobody(shop: Shop, tenant: str) -> None:
    stranger = shop.world.call("POST", "/v1/customers", name="Stranger")["id"]
    shop.gateway.checkout(
        tenant, customer_id=stranger, price="price_basic", trial_days=0, success_url="https://ogf.example/billing",
        cancel_url="https://ogf.example/billing", attempt="one",
    )  # fmt: skip
    shop.world.complete_checkout(shop.world.books.objects.of("checkout.session")[0]["id"])
    shop.listen()
    assert shop.database.subscriptions.get(tenant) is None
    assert "is not ours: tenant, environment, service" in _reason(shop, "checkout.session.completed")[1]


def test_a_completed_checkout_for_no_organisation_here_is_ignored(shop: Shop) -> None:
    _bought(shop, "nobody-here")
    shop.listen()
    assert _reason(shop, "checkout.session.completed") == ("ignored", "There is no organisation 'nobody-here' here.")


@pytest.mark.parametrize("status", [0, 429, 500, 503])
def test_while_stripe_cannot_answer_the_last_state_stays_and_events_wait(shop: Shop, tenant: str, status: int) -> None:
    customer = shop.customer(tenant)
    shop.subscribe(customer, "basic")
    shop.listen()
    shop.world.call("POST", f"/v1/customers/{customer}", name="Renamed")
    shop.deliver()
    shop.world.fail(Failure(status, times=50))
    drained = shop.consume()
    assert (drained.postponed, drained.failed, drained.batches) == (drained.events, 0, 1)
    assert _reason(shop, "customer.updated")[0] == "pending"
    assert standing(shop.database, tenant) == ("basic", "active")
    shop.world._failures.clear()
    _make_due(shop)
    assert shop.consume().postponed == 0
    assert _reason(shop, "customer.updated") == ("done", "")


def test_a_key_that_stripe_refuses_is_logged_as_an_error_and_events_wait(
    shop: Shop, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    shop.subscribe(shop.customer(tenant))
    shop.deliver()
    shop.world.fail(Failure(401, times=50))
    with caplog.at_level(logging.ERROR, "offgridflow.billing"):
        drained = shop.consume()
    assert drained.postponed == drained.events > 0
    assert "Stripe refuses our key: AuthenticationError" in caplog.text
    assert "sk_test" not in caplog.text


def test_an_event_that_fails_ten_times_is_dead_and_named(shop: Shop, tenant: str) -> None:
    shop.subscribe(shop.customer(tenant))
    shop.deliver()
    shop.world.fail(Failure(400, times=50, path="/v1/customers/"))
    for _ in range(9):
        assert shop.consume().dead == []
        _make_due(shop)
    assert len(shop.consume().dead) == len([e for e in inbox(shop.database).values() if e.state == "dead"]) > 0


def test_stripe_may_be_out_of_reach_for_any_number_of_attempts(shop: Shop, tenant: str) -> None:
    shop.subscribe(shop.customer(tenant))
    shop.deliver()
    shop.world.unreachable = True
    for _ in range(2 * MAXIMUM_ATTEMPTS):
        assert shop.consume().postponed > 0
        _make_due(shop)
    shop.world.unreachable = False
    assert shop.consume().customers == 1
    assert standing(shop.database, tenant) == ("pro", "active")


def test_the_fault_of_one_customer_keeps_no_other_waiting(
    shop: Shop, tenant: str, new_tenant: Callable[[], str]
) -> None:
    for one in (new_tenant(), tenant):
        shop.subscribe(shop.customer(one))
    first = min(shop.database.subscriptions.customers(), key=lambda slug: slug == tenant)
    shop.world.fail(Failure(404, times=1, path=f"/v1/customers/{shop.database.subscriptions.customers()[first]}"))
    shop.deliver()
    drained = shop.consume()
    assert drained.customers == 1 and drained.failed > 0
    assert standing(shop.database, tenant) == ("pro", "active")


def test_a_payment_that_a_person_must_confirm_is_told_once_with_its_page(shop: Shop, tenant: str) -> None:
    customer = shop.customer(tenant, AUTHENTICATED.token)
    shop.subscribe(customer, off_session="true")
    events = shop.new_events()
    shop.deliver(events)
    shop.consume()
    again = next(event for event in events if event["type"] == "invoice.payment_action_required")
    shop.database.external_events.replay(again["id"])
    shop.consume()
    (mail,) = shop.database.outbox.list(tenant)
    assert mail.template == "payment_action_required"
    assert mail.vars["invoice_url"] == again["data"]["object"]["hosted_invoice_url"]


def test_a_payment_that_was_confirmed_meanwhile_is_not_told_of(shop: Shop, tenant: str) -> None:
    customer = shop.customer(tenant, AUTHENTICATED.token)
    shop.subscribe(customer, off_session="true")
    shop.world.pay_invoice(shop.world.books.objects.of("invoice")[0]["id"])
    shop.listen()
    assert mails(shop.database, tenant) == {"subscription_active": 1}


def test_a_dispute_is_noted_once_though_it_names_no_customer(shop: Shop, tenant: str) -> None:
    customer = shop.customer(tenant)
    shop.subscribe(customer)
    shop.listen()
    dispute = shop.world.dispute(customer)["id"]
    shop.listen()
    told = next(event for event in shop.world.events if event["type"] == "charge.dispute.created")
    shop.database.external_events.replay(told["id"])
    shop.consume()
    noted = [body["target"] for body in bodies(shop.database, tenant) if body["action"] == "billing:dispute:opened"]
    assert noted == [dispute]


def test_no_time_left_means_one_batch(shop: Shop, new_tenant: Callable[[], str]) -> None:
    for _ in range(8):
        shop.subscribe(shop.customer(new_tenant()))
    shop.deliver()
    now = shop.world.clock.now()
    drained = drain(shop.database, shop.gateway, settings(), now, budget=timedelta(0))
    assert (drained.batches, drained.events) == (1, CLAIMED_AT_ONCE)
    assert shop.consume().events > 0
