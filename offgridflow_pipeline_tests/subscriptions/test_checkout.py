"""To Stripe's pages: one customer and one page per intent, a trial once, and no second subscription."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.demo.stripe_counterpart import Failure
from offgridflow_pipeline.subscriptions.checkout import (
    Buyer,
    CheckoutError,
    end_subscriptions,
    open_portal,
    start_checkout,
)
from offgridflow_pipeline.subscriptions.reconciliation import drift
from offgridflow_pipeline.subscriptions.snapshots import Snapshot
from offgridflow_pipeline_tests.subscriptions.shop import Shop, bodies, standing

BUYER = Buyer("user:6b1f8c9e-0000-4000-8000-000000000001", "olga@alder.example", request_id="r1", ip_hash="h1")


def _buy(shop: Shop, api: Database, tenant: str, plan: Any = "pro", **later: float) -> str:
    now = shop.world.clock.now() + timedelta(**later)
    return start_checkout(api, shop.gateway, shop.settings, tenant, plan, BUYER, now=now)


def _portal(shop: Shop, api: Database, tenant: str, request_id: str = "r2") -> str:
    return open_portal(api, shop.gateway, shop.settings, tenant, replace(BUYER, request_id=request_id))


def _session(shop: Shop) -> dict[str, Any]:
    return dict(shop.world.books.objects.of("checkout.session")[0])


def _pay(shop: Shop) -> None:
    shop.world.complete_checkout(_session(shop)["id"])
    shop.listen()


def test_a_checkout_carries_our_marks_everywhere_and_our_addresses(
    shop: Shop, api_database: Database, tenant: str
) -> None:
    url = _buy(shop, api_database, tenant)
    session = _session(shop)
    marks = {"tenant": tenant, "environment": "test", "service": "offgridflow"}
    assert (session["url"], session["mode"], session["client_reference_id"]) == (url, "subscription", tenant)
    assert session["metadata"] == {**marks, "price": "price_pro"}
    assert session["success_url"] == "https://ogf.example/billing?done=checkout"
    assert session["cancel_url"] == "https://ogf.example/billing"
    _pay(shop)
    (subscription,) = shop.world.books.objects.of("subscription")
    assert subscription["metadata"] == marks
    assert shop.world.books.customer(session["customer"])["metadata"] == marks
    assert standing(shop.database, tenant) == ("pro", "trial")


def test_each_way_to_stripe_is_audited_with_the_buyer_and_the_request(
    shop: Shop, api_database: Database, tenant: str
) -> None:
    _buy(shop, api_database, tenant)
    _portal(shop, api_database, tenant)
    customer = _session(shop)["customer"]
    noted = bodies(shop.database, tenant)
    assert [(one["action"], one["request_id"]) for one in noted] == [
        ("billing:customer:linked", "r1"),
        ("billing:checkout:started", "r1"),
        ("billing:portal:opened", "r2"),
    ]
    assert {(one["target"], one["actor"]["type"], one["ip_hash"]) for one in noted} == {(customer, "user", "h1")}


def test_a_double_click_gives_one_page_and_one_that_has_ended_is_followed_by_another(
    shop: Shop, api_database: Database, tenant: str
) -> None:
    first = _buy(shop, api_database, tenant)
    assert _buy(shop, api_database, tenant) == first
    assert _buy(shop, api_database, tenant, hours=1) == first
    shop.world.advance(timedelta(days=1, hours=1))
    assert _buy(shop, api_database, tenant) != first
    assert len(shop.world.books.objects.of("customer")) == 1


def test_only_one_page_is_open_at_a_time_so_that_nobody_pays_on_two(
    shop: Shop, api_database: Database, tenant: str
) -> None:
    pages = [_buy(shop, api_database, tenant, plan) for plan in ("pro", "basic", "pro", "pro")]
    sessions = shop.world.books.objects.of("checkout.session")
    assert [one["url"] for one in sessions if one["status"] == "open"] == [pages[3]]
    assert pages[3] == pages[2] != pages[0]  # the first one of that plan was closed
    assert len(sessions) == 3


def test_a_page_that_is_paid_meanwhile_is_not_in_the_way(shop: Shop, api_database: Database, tenant: str) -> None:
    _buy(shop, api_database, tenant)
    session = _session(shop)
    shop.world.complete_checkout(session["id"])
    shop.gateway.close_checkout(session["id"])
    assert _session(shop)["status"] == "complete"


def test_an_answer_that_is_lost_leaves_one_customer(shop: Shop, api_database: Database, tenant: str) -> None:
    shop.world.fail(Failure(0, times=1, path="/v1/customers", after_effect=True))
    _buy(shop, api_database, tenant)
    assert len(shop.world.books.objects.of("customer")) == 1


def test_who_has_a_subscription_changes_it_in_the_portal(shop: Shop, api_database: Database, tenant: str) -> None:
    _buy(shop, api_database, tenant)
    shop.world.complete_checkout(_session(shop)["id"])  # and nothing is delivered yet: Stripe itself is asked
    with pytest.raises(CheckoutError) as refused:
        _buy(shop, api_database, tenant, "basic")
    assert refused.value.code == "already_subscribed"
    url = _portal(shop, api_database, tenant)
    asked = next(seen for seen in shop.world.requests if seen.path == "/v1/billing_portal/sessions")
    assert (asked.form["customer"], asked.form["return_url"]) == (
        _session(shop)["customer"],
        "https://ogf.example/billing",
    )
    assert url.startswith("https://")
    assert _portal(shop, api_database, tenant, "r3") != url  # of minutes ago, it may not open any more


def test_a_trial_is_had_once(shop: Shop, api_database: Database, tenant: str) -> None:
    _buy(shop, api_database, tenant)
    _pay(shop)
    (first,) = shop.world.books.objects.of("subscription")
    assert first["trial_end"] - first["created"] == shop.settings.stripe_trial_days * 86_400
    shop.world.call("DELETE", f"/v1/subscriptions/{first['id']}")
    _buy(shop, api_database, tenant)
    _pay(shop)
    second = shop.world.books.objects.of("subscription")[0]
    assert (second["status"], second["trial_end"]) == ("active", None)


def test_a_plan_without_a_price_is_not_for_sale(shop: Shop, api_database: Database, tenant: str) -> None:
    with pytest.raises(CheckoutError, match="cannot be bought here") as refused:
        _buy(shop, api_database, tenant, "unlimited")
    assert refused.value.code == "plan_not_for_sale"
    assert shop.database.subscriptions.get(tenant) is None


def test_who_never_subscribed_has_no_portal(shop: Shop, api_database: Database, tenant: str) -> None:
    with pytest.raises(CheckoutError) as refused:
        _portal(shop, api_database, tenant)
    assert refused.value.code == "not_subscribed"
    assert end_subscriptions(api_database, shop.gateway, tenant) == 0


def test_who_leaves_can_pay_on_no_page_that_is_open_still(shop: Shop, api_database: Database, tenant: str) -> None:
    _buy(shop, api_database, tenant)
    assert end_subscriptions(api_database, shop.gateway, tenant) == 0
    assert _session(shop)["status"] == "expired"


def test_who_leaves_pays_no_further_period(shop: Shop, api_database: Database, tenant: str) -> None:
    shop.subscribe(shop.customer(tenant))
    assert end_subscriptions(api_database, shop.gateway, tenant) == 1
    assert end_subscriptions(api_database, shop.gateway, tenant) == 0
    (subscription,) = shop.world.books.objects.of("subscription")
    assert subscription["cancel_at_period_end"] is True


def test_who_leaves_ends_now_what_was_to_end_periods_ahead(shop: Shop, api_database: Database, tenant: str) -> None:
    running = shop.subscribe(shop.customer(tenant))
    in_ten_months = shop.world.clock.now() + timedelta(days=300)
    shop.world.call("POST", f"/v1/subscriptions/{running}", cancel_at=str(int(in_ten_months.timestamp())))
    assert end_subscriptions(api_database, shop.gateway, tenant) == 1
    (subscription,) = shop.world.books.objects.of("subscription")
    assert subscription["cancel_at"] == subscription["items"]["data"][0]["current_period_end"]


def test_who_was_deleted_at_stripe_subscribes_as_a_new_customer_and_keeps_its_past(
    shop: Shop, api_database: Database, tenant: str
) -> None:
    _buy(shop, api_database, tenant)
    _pay(shop)
    old = _session(shop)["customer"]
    shop.listen(days=20)
    shop.world.call("DELETE", f"/v1/customers/{old}")
    shop.listen(days=40)
    assert standing(shop.database, tenant) == ("pro", "suspended")
    _buy(shop, api_database, tenant)
    new = _session(shop)["customer"]
    linked = [one for one in bodies(shop.database, tenant) if one["action"] == "billing:customer:linked"]
    assert [(one["target"], one["details"]) for one in linked] == [(old, {}), (new, {"instead_of": old})]
    shop.world.call("POST", f"/v1/customers/{new}", description="nothing is paid yet")
    shop.listen()
    assert standing(shop.database, tenant) == ("pro", "suspended")
    assert drift(shop.database, shop.gateway, shop.settings, shop.world.clock.now()) == []
    assert _buy(shop, api_database, tenant) == _session(shop)["url"]  # linked once, and the same page again
    _pay(shop)
    assert standing(shop.database, tenant) == ("pro", "active")  # and no second trial
    assert drift(shop.database, shop.gateway, shop.settings, shop.world.clock.now()) == []


def test_what_a_deleted_customer_had_has_ended_whatever_was_told_of_it_last(
    shop: Shop, api_database: Database, tenant: str
) -> None:
    """Else the billing page takes it for a subscription that is to be changed at Stripe, where nobody can."""
    customer = shop.customer(tenant)
    shop.subscribe(customer)
    shop.listen()
    row = shop.database.subscriptions.get(tenant)
    assert row is not None and row.snapshot is not None
    gone = Snapshot(customer_id=customer, deleted=True).after(Snapshot.of(row.snapshot))
    assert [found.status for found in gone.subscriptions] == ["canceled"]
    assert gone.tenant == tenant
