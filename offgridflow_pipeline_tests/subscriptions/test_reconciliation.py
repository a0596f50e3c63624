"""Reconciling: lost events come back through the inbox, and a tenant that is elsewhere than Stripe says is found."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa

from offgridflow_pipeline.demo.stripe_counterpart import Failure
from offgridflow_pipeline.subscriptions.gateway import StripeUnavailableError
from offgridflow_pipeline.subscriptions.reconciliation import Backfilled, Drift, backfill, drift
from offgridflow_pipeline_tests.subscriptions.shop import Shop, inbox, standing


def _backfill(shop: Shop, **ago: float) -> Backfilled:
    now = shop.world.clock.now()
    return backfill(shop.database, shop.gateway, shop.settings, now - timedelta(**ago), now)


def _drift(shop: Shop) -> list[Drift]:
    return drift(shop.database, shop.gateway, shop.settings, shop.world.clock.now())


def test_lost_events_come_back_once_and_change_the_tenant(shop: Shop, tenant: str) -> None:
    shop.subscribe(shop.customer(tenant))
    lost = shop.new_events()
    found = _backfill(shop, days=1)
    assert found.added == len(lost) == len(inbox(shop.database))
    assert found.listed >= found.added
    shop.consume()
    assert standing(shop.database, tenant) == ("pro", "active")
    assert _backfill(shop, days=1).added == 0
    assert shop.deliver(lost) == 0  # delivered after all


def test_more_than_one_page_of_events_is_read(shop: Shop, tenant: str) -> None:
    customer = shop.customer(tenant)
    for number in range(120):
        shop.world.call("POST", f"/v1/customers/{customer}", name=f"Alder {number}")
    assert _backfill(shop, days=1).added == len(shop.new_events()) > 120


def test_what_is_older_than_stripe_keeps_events_is_found_by_fetching_everybody(shop: Shop, tenant: str) -> None:
    shop.subscribe(shop.customer(tenant), trial_period_days=90)
    shop.world.advance(timedelta(days=40))
    assert _backfill(shop, days=20).refetched == 0
    assert standing(shop.database, tenant) == ("free", "active")
    assert _backfill(shop, days=60).refetched == 1
    assert standing(shop.database, tenant) == ("pro", "trial")


def test_a_foreign_customer_is_named_and_keeps_no_other_from_being_fetched(
    shop: Shop, tenant: str, new_tenant: Callable[[], str]
) -> None:
    foreign = new_tenant()
    shop.world.call("POST", f"/v1/customers/{shop.customer(foreign)}", metadata={"tenant": "another"})
    shop.subscribe(shop.customer(tenant))
    found = _backfill(shop, days=60)
    assert (found.failed, found.refetched) == ([foreign], 1)


def test_stripe_out_of_reach_is_no_reconciliation(shop: Shop) -> None:
    shop.world.fail(Failure(503, times=50))
    with pytest.raises(StripeUnavailableError):
        _backfill(shop, days=1)
    with pytest.raises(StripeUnavailableError):
        _drift(shop)


def test_without_differences_there_is_no_drift(shop: Shop, tenant: str, new_tenant: Callable[[], str]) -> None:
    shop.subscribe(shop.customer(tenant))
    shop.customer(new_tenant())  # who only looked at the checkout
    shop.listen()
    assert _drift(shop) == []


def test_a_planted_difference_is_drift_and_a_replayed_event_repairs_it(shop: Shop, tenant: str) -> None:
    customer = shop.customer(tenant)
    shop.subscribe(customer)
    shop.listen()
    with shop.database.admin_engine.begin() as connection:
        connection.execute(
            sa.text(
                "update ogf.tenant_states set plan = 'enterprise', billing_state = 'trial' from ogf.tenants t"
                " where t.tenant_id = tenant_states.tenant_id and t.slug = :slug"
            ),
            {"slug": tenant},
        )
    assert _drift(shop) == [Drift("standing", tenant, customer, "enterprise, trial", "pro, active")]
    told = next(event for event in inbox(shop.database).values() if event.event_type == "invoice.paid")
    assert shop.database.external_events.replay(told.external_id)
    shop.consume()
    assert _drift(shop) == []


def test_a_change_that_was_never_told_is_drift(shop: Shop, tenant: str) -> None:
    customer = shop.customer(tenant)
    subscription = shop.subscribe(customer)
    shop.listen()
    shop.world.call("POST", f"/v1/subscriptions/{subscription}/pause")
    assert _drift(shop) == [Drift("standing", tenant, customer, "pro, active", "pro, restricted")]


def test_a_deleted_customer_is_compared_by_what_it_had(shop: Shop, tenant: str) -> None:
    customer = shop.customer(tenant)
    shop.subscribe(customer)
    shop.listen()
    shop.world.call("DELETE", f"/v1/customers/{customer}")
    shop.listen()
    assert _drift(shop) == []
    shop.world.advance(timedelta(days=40))
    assert [(one.ours, one.stripes) for one in _drift(shop)] == [("pro, active", "pro, suspended")]


def test_who_subscribes_with_our_marks_and_is_nobody_here_is_drift_and_strangers_are_not(
    shop: Shop, tenant: str
) -> None:
    unlinked = shop.gateway.ensure_customer(tenant, organisation="Alder", email="a@alder.example")
    shop.subscribe(unlinked, trial_period_days=5)
    shop.subscribe(shop.world.call("POST", "/v1/customers", name="Stranger")["id"], trial_period_days=5)
    assert _drift(shop) == [Drift("unlinked", tenant, unlinked, "", "pro, trial")]


def test_a_customer_that_is_not_ours_any_more_is_drift(shop: Shop, tenant: str) -> None:
    customer = shop.customer(tenant)
    shop.world.call("POST", f"/v1/customers/{customer}", metadata={"service": "another"})
    (found,) = _drift(shop)
    assert (found.kind, found.tenant) == ("unreadable", tenant)


def test_a_price_that_is_no_plans_is_drift(shop: Shop, tenant: str) -> None:
    shop.world.offer("platinum", "price_platinum", 1)
    customer = shop.customer(tenant)
    shop.subscribe(customer, "platinum")
    shop.listen()
    assert _drift(shop) == [Drift("unknown_price", tenant, customer, "free, active", "price_platinum")]
