"""The gateway: the pinned version, keys of every create, snapshots of today's shapes, and faults without people's data."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stripe

from offgridflow_pipeline.demo.stripe_counterpart import API_VERSION, FAILING, Failure, InProcessHTTPClient
from offgridflow_pipeline.subscriptions.fetched_facts import facts_of, invoices_by_subscription, snapshot_of
from offgridflow_pipeline.subscriptions.gateway import (
    PINNED_API_VERSION,
    StripeGateway,
    StripeKeyError,
    StripeRefusedError,
    StripeUnavailableError,
)
from offgridflow_pipeline_tests.subscriptions.shop import Shop, settings


def test_the_pinned_version_is_the_librarys_own() -> None:
    """Fails when the library is updated: read the changelog between the versions, then move the pin and this."""
    assert stripe.VERSION == "16.1.0"
    assert stripe.api_version == PINNED_API_VERSION == API_VERSION == "2026-10-28.endive"


def test_the_librarys_global_key_is_never_set(shop: Shop, tenant: str) -> None:
    shop.customer(tenant)
    assert stripe.api_key is None


def test_every_create_has_an_idempotency_key(shop: Shop, tenant: str) -> None:
    customer = shop.gateway.ensure_customer(tenant, organisation="Alder", email="a@alder.example")
    shop.gateway.checkout(
        tenant, customer_id=customer, price="price_pro", trial_days=0, success_url="https://a.example",
        cancel_url="https://a.example", attempt="1",
    )  # fmt: skip
    shop.gateway.portal(customer, return_url="https://a.example", attempt="1")
    posted = [seen for seen in shop.world.requests if seen.method == "POST"]
    assert len(posted) == 3
    assert len({seen.idempotency_key for seen in posted} - {""}) == 3
    assert {seen.version for seen in posted} == {PINNED_API_VERSION}


def test_a_snapshot_holds_periods_bills_and_marks_and_nothing_of_cards_or_addresses(shop: Shop, tenant: str) -> None:
    customer = shop.customer(tenant)
    subscription = shop.subscribe(customer, "basic")
    began = shop.world.clock.now()
    shop.world.use_card(customer, FAILING.token)
    shop.world.advance(timedelta(days=31, hours=2))
    snapshot = shop.gateway.snapshot(customer)
    assert (snapshot.tenant, snapshot.environment, snapshot.service) == (tenant, "test", "offgridflow")
    (facts,) = snapshot.subscriptions
    assert (facts.subscription_id, facts.status, facts.price_ids) == (subscription, "past_due", ("price_basic",))
    assert facts.created == began
    assert facts.past_due_since == began + timedelta(days=31, hours=1)  # finalised an hour after the renewal
    assert facts.period_start == began + timedelta(days=31)
    assert facts.open_invoice_url.startswith("https://")
    kept = str(snapshot.document())
    assert not [word for word in ("4242", "0341", "alder.example", "Alder", "4900") if word in kept]


def test_more_subscriptions_than_a_page_are_all_in_the_snapshot(shop: Shop, tenant: str) -> None:
    customer = shop.customer(tenant)
    for _ in range(101):
        shop.subscribe(customer, "free", trial_period_days=1)
    assert len(shop.gateway.snapshot(customer).subscriptions) == 101


def test_all_snapshots_are_those_of_each_customer(shop: Shop, new_tenant: Callable[[], str]) -> None:
    paying, owing = shop.customer(new_tenant()), shop.customer(new_tenant())
    for customer in (paying, owing):
        shop.subscribe(customer)
    shop.world.use_card(owing, FAILING.token)
    shop.world.advance(timedelta(days=31, hours=2))
    assert shop.gateway.all_snapshots() == {one: shop.gateway.snapshot(one) for one in (paying, owing)}


def test_a_price_that_the_settings_do_not_name_is_asked_for_its_plan_once(shop: Shop, tenant: str) -> None:
    shop.world.call("POST", "/v1/products", id="prod_old", name="Pro of 2025", metadata={"plan": "pro"})
    shop.world.call(
        "POST", "/v1/prices", product="prod_old", unit_amount=100, currency="eur", recurring={"interval": "month"}
    )
    price = shop.world.books.objects.of("price")[0]["id"]
    customer = shop.customer(tenant)
    shop.world.call("POST", "/v1/subscriptions", customer=customer, items=[{"price": price}])
    for _ in range(2):
        assert shop.gateway.snapshot(customer).subscriptions[0].plan_hint == "pro"
    assert [seen.path for seen in shop.world.requests].count("/v1/products/prod_old") == 1


def test_a_deleted_customer_has_a_snapshot_still(shop: Shop, tenant: str) -> None:
    customer = shop.customer(tenant)
    shop.subscribe(customer)
    shop.world.call("DELETE", f"/v1/customers/{customer}")
    snapshot = shop.gateway.snapshot(customer)
    assert (snapshot.deleted, snapshot.tenant) == (True, "")
    assert [one.status for one in snapshot.subscriptions] == ["canceled"]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (0, StripeUnavailableError),
        (409, StripeUnavailableError),
        (429, StripeUnavailableError),
        (500, StripeUnavailableError),
        (503, StripeUnavailableError),
        (401, StripeKeyError),
        (403, StripeKeyError),
        (400, StripeRefusedError),
        (402, StripeRefusedError),
    ],
)
def test_each_fault_is_one_of_three(shop: Shop, status: int, error: type[Exception]) -> None:
    shop.world.fail(Failure(status, times=9))
    with pytest.raises(error) as raised:
        shop.gateway.snapshot("cus_1")
    assert raised.value.__cause__ is None  # the library's own error may quote what was sent


def test_an_object_that_stripe_does_not_have_is_missing(shop: Shop) -> None:
    with pytest.raises(StripeRefusedError, match="InvalidRequestError, resource_missing, id") as raised:
        shop.gateway.snapshot("cus_none")
    assert raised.value.missing


def test_a_request_that_failed_once_is_sent_again_by_the_library(shop: Shop, tenant: str) -> None:
    customer = shop.customer(tenant)
    shop.world.fail(Failure(503, times=2))
    assert shop.gateway.snapshot(customer).customer_id == customer


@pytest.mark.parametrize(("key", "live"), [("sk_live_1", True), ("rk_live_1", True), ("sk_test_1", False)])
def test_the_mode_is_told_by_the_key(key: str, live: bool) -> None:
    assert StripeGateway(settings(stripe_secret_key=key)).livemode is live


def test_the_key_and_the_address_are_those_of_the_settings(shop: Shop) -> None:
    seen = []

    class Listening(InProcessHTTPClient):
        def request(self, method: str, url: str, headers: Any, post_data: Any = None, **usage: Any) -> Any:
            seen.append((url, headers["Authorization"]))
            return super().request(method, url, headers, post_data, **usage)

    ours = settings(stripe_api_url="http://127.0.0.1:9/", stripe_secret_key="rk_test_7")
    with pytest.raises(StripeRefusedError):
        StripeGateway(ours, Listening(shop.world)).snapshot("cus_none")
    assert seen == [("http://127.0.0.1:9/v1/customers/cus_none", "Bearer rk_test_7")]


def test_older_and_newer_shapes_and_empty_objects_are_read() -> None:
    old = {
        "id": "sub_1", "status": "active", "created": 1, "current_period_end": 20, "current_period_start": 10,
        "items": {"data": [{"price": {"id": "price_a"}}]},
    }  # fmt: skip
    facts = facts_of(old, (), lambda _: "")
    assert facts.paid_until == datetime.fromtimestamp(20, UTC)
    items = [{"price": {"id": n}, "current_period_end": end} for n, end in (("a", 30), ("b", 20))]
    flexible = facts_of({"id": "sub_2", "status": "new", "items": {"data": items}}, (), lambda _: "")
    assert [at and at.timestamp() for at in (flexible.paid_until, flexible.next_change)] == [30, 20]
    assert facts_of({"id": "sub_3"}, (), lambda _: "").price_ids == ()
    assert snapshot_of({"id": "cus_1"}, [], [], lambda _: "").document() == {"customer_id": "cus_1"}


def test_a_bill_waits_since_it_was_finalised_or_is_to_be_paid_if_that_is_later() -> None:
    def bill(name: str, **dates: Any) -> dict[str, Any]:
        return {"id": name, "created": 1, "parent": {"subscription_details": {"subscription": "sub_1"}}, **dates}

    bills = [
        bill("in_late", status_transitions={"finalized_at": 50}, due_date=900),
        bill("in_early", status_transitions={"finalized_at": 60}),
        {"id": "in_alone", "created": 1, "parent": None},
    ]
    found = invoices_by_subscription(bills)
    assert [(one.invoice_id, one.due_since.timestamp()) for one in found["sub_1"]] == [
        ("in_early", 60),
        ("in_late", 900),
    ]
    assert found.keys() == {"sub_1"}
