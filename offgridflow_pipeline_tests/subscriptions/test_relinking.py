"""Relinking by hand: a customer that is the tenant's by Stripe's metadata, or nobody's, and no other one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from threading import Barrier, BrokenBarrierError
from typing import Any

import pytest
import sqlalchemy as sa

from offgridflow_pipeline.database.engine import Database, UnknownTenantError
from offgridflow_pipeline.demo.stripe_counterpart import Failure
from offgridflow_pipeline.subscriptions import relinking
from offgridflow_pipeline.subscriptions.application import apply
from offgridflow_pipeline.subscriptions.checkout import Buyer, CheckoutError, start_checkout
from offgridflow_pipeline.subscriptions.consumer import fetched
from offgridflow_pipeline.subscriptions.gateway import StripeRefusedError, StripeUnavailableError
from offgridflow_pipeline.subscriptions.reconciliation import drift
from offgridflow_pipeline.subscriptions.relinking import Relinked, RelinkError, relink
from offgridflow_pipeline.subscriptions.snapshots import Snapshot
from offgridflow_pipeline_tests.subscriptions.shop import Shop, bodies, standing

BUYER = Buyer("user:6b1f8c9e-0000-4000-8000-000000000001", email="olga@alder.example", request_id="r1")


def _relink(shop: Shop, tenant: str, customer: str) -> Relinked:
    return relink(shop.database, shop.gateway, shop.settings, tenant, customer, shop.world.clock.now())


def _buy(shop: Shop, tenant: str) -> str:
    return start_checkout(shop.database, shop.gateway, shop.settings, tenant, "pro", BUYER, now=shop.world.clock.now())


def _made(shop: Shop, **metadata: str) -> str:
    """A customer that is nobody's here; without metadata as the dashboard makes one."""
    return str(shop.world.call("POST", "/v1/customers", name="Alder", metadata=metadata)["id"])


def _ours(shop: Shop, tenant: str) -> str:
    """A customer that bears our marks for the tenant."""
    return _made(shop, tenant=tenant, **shop.gateway.marks)


def _customer(shop: Shop, tenant: str) -> str | None:
    row = shop.database.subscriptions.get(tenant)
    return row.customer_id if row else None


def _linked(database: Database, tenant: str) -> list[dict[str, Any]]:
    return [one for one in bodies(database, tenant) if one["action"] == "billing:customer:linked"]


def test_a_customer_of_another_account_is_replaced_and_the_tenant_stands_where_stripe_says(
    shop: Shop, tenant: str
) -> None:
    before = shop.customer(tenant)
    moved = Shop(shop.database)  # the same installation, with a key of another account
    with pytest.raises(StripeRefusedError):
        _buy(moved, tenant)
    after = _ours(moved, tenant)
    moved.world.use_card(after, "pm_card_visa")
    moved.subscribe(after)
    assert _relink(moved, tenant, after) == Relinked(before=before, marked=False)
    assert _customer(moved, tenant) == after
    assert standing(moved.database, tenant) == ("pro", "active")
    assert drift(moved.database, moved.gateway, moved.settings, moved.world.clock.now()) == []
    with pytest.raises(CheckoutError) as refused:
        _buy(moved, tenant)
    assert refused.value.code == "already_subscribed"


def test_relinking_is_audited_with_both_customers(shop: Shop, tenant: str) -> None:
    before = shop.customer(tenant)
    after = _ours(shop, tenant)
    _relink(shop, tenant, after)
    (noted,) = _linked(shop.database, tenant)
    assert (noted["target"], noted["actor"]["type"]) == (after, "system")
    assert noted["details"] == {"by": "command line", "instead_of": before}


def test_a_trial_that_was_had_as_the_customer_before_is_not_had_again(shop: Shop, tenant: str) -> None:
    shop.subscribe(shop.customer(tenant), trial_period_days=14)
    shop.listen()
    moved = Shop(shop.database)
    moved.world.advance(shop.world.clock.now() - moved.world.clock.now())
    _relink(moved, tenant, _ours(moved, tenant))
    _buy(moved, tenant)
    moved.world.complete_checkout(moved.world.books.objects.of("checkout.session")[0]["id"])
    (bought,) = moved.world.books.objects.of("subscription")
    assert (bought["status"], bought["trial_end"]) == ("active", None)


def test_a_customer_without_marks_gets_ours_also_where_the_tenant_never_had_one(shop: Shop, tenant: str) -> None:
    bare = _made(shop, crm="A-17")
    shop.world.use_card(bare, "pm_card_visa")
    shop.subscribe(bare, "enterprise")
    assert _relink(shop, tenant, bare) == Relinked(before="", marked=True)
    marks = {"tenant": tenant, "environment": "test", "service": "offgridflow"}
    assert shop.world.books.customer(bare)["metadata"] == {"crm": "A-17", **marks}
    assert standing(shop.database, tenant) == ("enterprise", "active")


@pytest.mark.parametrize(
    "foreign", [{"tenant": "another"}, {"environment": "production"}, {"service": "a shop"}, {"service": ""}]
)
def test_a_customer_that_bears_the_marks_of_another_is_not_taken(
    shop: Shop, tenant: str, foreign: dict[str, str]
) -> None:
    before = shop.customer(tenant)
    _buy(shop, tenant)
    theirs = _made(shop, **{"tenant": tenant, **shop.gateway.marks, **foreign})
    marks = dict(shop.world.books.customer(theirs)["metadata"])
    with pytest.raises(RelinkError, match="metadata of customer .* is not ours"):
        _relink(shop, tenant, theirs)
    assert _customer(shop, tenant) == before
    assert shop.world.books.customer(theirs)["metadata"] == marks
    assert [page["status"] for page in shop.world.books.objects.of("checkout.session")] == ["open"]
    assert _linked(shop.database, tenant) == []


def test_the_customer_of_another_tenant_is_not_taken_whatever_stripe_says(
    shop: Shop, tenant: str, new_tenant: Callable[[], str]
) -> None:
    other = new_tenant()
    theirs = shop.customer(other)
    shop.world.call("POST", f"/v1/customers/{theirs}", metadata={"tenant": tenant})
    with pytest.raises(RelinkError, match=f"is the customer of {other}"):
        _relink(shop, tenant, theirs)
    assert (_customer(shop, tenant), _customer(shop, other)) == (None, theirs)


def test_a_customer_that_stripe_does_not_know_or_deleted_and_what_is_no_customer_are_refused(
    shop: Shop, tenant: str
) -> None:
    gone = _ours(shop, tenant)
    shop.world.call("DELETE", f"/v1/customers/{gone}")
    for customer, said in ((gone, "was deleted"), ("cus_nobody", "does not know cus_nobody"), ("", "no customer's id")):
        with pytest.raises(RelinkError, match=said):
            _relink(shop, tenant, customer)
    assert _customer(shop, tenant) is None


def test_the_customer_that_the_tenant_has_is_refused_with_what_compares_it(shop: Shop, tenant: str) -> None:
    with pytest.raises(RelinkError, match="already: `offgridflow billing reconcile`"):
        _relink(shop, tenant, shop.customer(tenant))


def test_while_the_customer_before_pays_none_comes_after_it(shop: Shop, tenant: str) -> None:
    before = shop.customer(tenant)
    running = shop.subscribe(before)
    after = _ours(shop, tenant)
    with pytest.raises(RelinkError, match=f"still subscribes .{running}.: cancel this at Stripe"):
        _relink(shop, tenant, after)
    assert _customer(shop, tenant) == before
    shop.gateway.cancel_at_period_end(running)
    assert _relink(shop, tenant, after).before == before


def test_an_end_that_lies_periods_ahead_is_no_end_yet(shop: Shop, tenant: str) -> None:
    before = shop.customer(tenant)
    running = shop.subscribe(before)
    in_ten_months = shop.world.clock.now() + timedelta(days=300)
    shop.world.call("POST", f"/v1/subscriptions/{running}", cancel_at=str(int(in_ten_months.timestamp())))
    with pytest.raises(RelinkError, match=f"still subscribes .{running}."):
        _relink(shop, tenant, _ours(shop, tenant))
    assert _customer(shop, tenant) == before


def test_what_a_customer_pays_that_was_linked_by_mistake_is_not_in_the_way(shop: Shop, tenant: str) -> None:
    mistaken = _made(shop, tenant="another", **shop.gateway.marks)
    shop.world.use_card(mistaken, "pm_card_visa")
    shop.subscribe(mistaken)
    shop.database.subscriptions.link(tenant, mistaken)
    after = _ours(shop, tenant)
    _relink(shop, tenant, after)
    assert _customer(shop, tenant) == after


def test_nobody_can_pay_any_more_on_a_page_of_the_customer_before(shop: Shop, tenant: str) -> None:
    shop.customer(tenant)
    _buy(shop, tenant)
    _relink(shop, tenant, _ours(shop, tenant))
    assert [page["status"] for page in shop.world.books.objects.of("checkout.session")] == ["expired"]


def test_a_link_that_changes_meanwhile_is_kept(shop: Shop, tenant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after, meanwhile = shop.customer(tenant), _ours(shop, tenant), _ours(shop, tenant)
    snapshot = shop.gateway.snapshot

    def slow(customer_id: str) -> Any:
        shop.database.subscriptions.link(tenant, meanwhile, instead_of=before)
        return snapshot(customer_id)

    monkeypatch.setattr(shop.gateway, "snapshot", slow)
    with pytest.raises(RelinkError, match=f"was linked to {meanwhile} at this moment"):
        _relink(shop, tenant, after)
    assert _customer(shop, tenant) == meanwhile
    assert _linked(shop.database, tenant) == []


def test_what_is_told_of_the_customer_before_meanwhile_does_not_outlive_it(
    shop: Shop, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = shop.customer(tenant), _ours(shop, tenant)
    shop.world.use_card(after, "pm_card_visa")
    shop.subscribe(after)

    def slow(*asked: Any) -> tuple[Snapshot, datetime]:
        found = fetched(*asked)
        newer, at = fetched(shop.database, shop.gateway, shop.settings, tenant, before)
        apply(shop.database, shop.settings, tenant, newer, at, shop.world.clock.now())
        return found

    monkeypatch.setattr(relinking, "fetched", slow)
    _relink(shop, tenant, after)
    row = shop.database.subscriptions.get(tenant)
    assert row is not None and row.snapshot is not None
    assert (row.customer_id, Snapshot.of(row.snapshot).customer_id) == (after, after)
    assert standing(shop.database, tenant) == ("pro", "active")


def test_a_customer_that_another_tenant_gets_meanwhile_stays_theirs(
    shop: Shop, tenant: str, new_tenant: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, bare, other = shop.customer(tenant), _made(shop), new_tenant()
    mark = shop.gateway.mark_customer

    def slow(customer_id: str, marked_for: str) -> None:
        mark(customer_id, marked_for)
        shop.database.subscriptions.link(other, customer_id)

    monkeypatch.setattr(shop.gateway, "mark_customer", slow)
    with pytest.raises(RelinkError, match=f"is the customer of {other}"):
        _relink(shop, tenant, bare)
    assert (_customer(shop, tenant), _customer(shop, other)) == (before, bare)
    assert _linked(shop.database, tenant) == []


def test_of_two_who_link_a_customer_at_once_one_gets_it(
    shop: Shop, tenant: str, new_tenant: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have found it bare, and fetched it, before either links; the first one links slowly."""
    other, bare = new_tenant(), _made(shop)
    together, both_linked = Barrier(2, timeout=10), Barrier(2, timeout=0.3)
    mark = shop.gateway.mark_customer

    def marked(customer_id: str, marked_for: str) -> None:
        together.wait()
        mark(customer_id, marked_for)

    def found(database: Database, gateway: Any, _: Any, __: str, customer_id: str) -> tuple[Snapshot, datetime]:
        said = gateway.snapshot(customer_id), database.subscriptions.clock()
        together.wait()
        return said

    def slow(*asked: Any) -> Any:
        with suppress(BrokenBarrierError):
            both_linked.wait()
        return apply(*asked)

    monkeypatch.setattr(shop.gateway, "mark_customer", marked)
    monkeypatch.setattr(relinking, "fetched", found)
    monkeypatch.setattr(relinking, "apply", slow)

    def linked(name: str) -> str:
        try:
            _relink(shop, name, bare)
        except RelinkError as error:
            return str(error)
        return "linked"

    with ThreadPoolExecutor(2) as pool:
        said = dict(zip((tenant, other), pool.map(linked, (tenant, other)), strict=True))
    (winner,) = (name for name, what in said.items() if what == "linked")
    (loser,) = {tenant, other} - {winner}
    assert f"is the customer of {winner}" in said[loser]
    assert (_customer(shop, winner), _customer(shop, loser)) == (bare, None)


def test_without_an_answer_of_stripe_nothing_is_changed(shop: Shop, tenant: str) -> None:
    before, after = shop.customer(tenant), _ours(shop, tenant)
    shop.world.fail(Failure(503, times=9))
    with pytest.raises(StripeUnavailableError):
        _relink(shop, tenant, after)
    assert _customer(shop, tenant) == before


def test_no_customer_is_linked_to_a_tenant_that_is_closed_or_unknown(shop: Shop, tenant: str) -> None:
    after = _ours(shop, tenant)
    with shop.database.admin_engine.begin() as connection:
        connection.execute(sa.text("update ogf.tenants set status = 'closed' where slug = :slug"), {"slug": tenant})
    with pytest.raises(RelinkError, match="is closed"):
        _relink(shop, tenant, after)
    with pytest.raises(UnknownTenantError):
        _relink(shop, "nobody", after)
