"""The law of the inbox: however events arrive, and whichever do, a tenant ends where the straight order ends.

A random history is lived by two customers of one account of Stripe. One tenant hears of it in order, each event once; of
the other the events are permuted, doubled, delayed past others and lost.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.demo.stripe_counterpart import AUTHENTICATED, FAILING, GOOD, ApiError
from offgridflow_pipeline.subscriptions.passage import pass_time
from offgridflow_pipeline.subscriptions.reconciliation import backfill, drift
from offgridflow_pipeline_tests.subscriptions.shop import PLANS, Shop, audited, mails

Event = dict[str, Any]


@dataclass
class _Life:
    """One customer of the shop."""

    shop: Shop
    tenant: str
    customer: str

    @property
    def running(self) -> dict[str, Any]:
        """The newest subscription that has not ended.

        Raises:
            ApiError: there is none.
        """
        for one in self.shop.world.books.objects.of("subscription"):
            if one["customer"] == self.customer and one["status"] not in {"canceled", "incomplete_expired"}:
                return dict(one)
        raise ApiError(404, "Nothing runs.")

    def change(self, **form: Any) -> None:
        self.shop.world.call("POST", f"/v1/subscriptions/{self.running['id']}", **form)

    def of(self, events: Sequence[Event]) -> list[Event]:
        """Those of the events that are this customer's."""
        mine = []
        for event in events:
            told = event["data"]["object"]
            if self.customer in {told["id"], told.get("customer")}:
                mine.append(event)
        return mine

    def result(self) -> tuple[str, str, datetime | None]:
        found = self.shop.database.subscriptions.standing(self.tenant)
        return found.plan, found.state, found.since


Deed = Callable[[_Life], None]


def _upgrade(plan: str) -> Deed:
    def deed(life: _Life) -> None:
        item = life.running["items"]["data"][0]["id"]
        life.change(items=[{"id": item, "price": f"price_{plan}"}], proration_behavior="always_invoice")

    return deed


def _pay(life: _Life) -> None:
    for invoice in life.shop.world.books.objects.of("invoice"):
        if invoice["customer"] == life.customer and invoice["status"] == "open":
            life.shop.world.pay_invoice(invoice["id"])
            return


def _cancel(life: _Life) -> None:
    life.shop.world.call("DELETE", f"/v1/subscriptions/{life.running['id']}")


def _pause(life: _Life) -> None:
    life.shop.world.call("POST", f"/v1/subscriptions/{life.running['id']}/pause")


def _resume(life: _Life) -> None:
    life.shop.world.call("POST", f"/v1/subscriptions/{life.running['id']}/resume")


def _delete(life: _Life) -> None:
    life.shop.world.call("DELETE", f"/v1/customers/{life.customer}")


def _subscribe(plan: str, trial: int) -> Deed:
    def deed(life: _Life) -> None:
        life.shop.subscribe(life.customer, plan, **({"trial_period_days": trial} if trial else {}))

    return deed


def _card(token: str) -> Deed:
    return lambda life: life.shop.world.use_card(life.customer, token)


_DEEDS: st.SearchStrategy[Deed] = st.one_of(
    st.builds(_subscribe, st.sampled_from(PLANS), st.sampled_from([0, 0, 14])),
    st.builds(_upgrade, st.sampled_from(PLANS)),
    st.builds(_card, st.sampled_from([GOOD.token, FAILING.token, FAILING.token, AUTHENTICATED.token])),
    st.sampled_from([_pay, _pay, _cancel, _pause, _resume]),
    st.builds(lambda: lambda life: life.change(cancel_at_period_end="true")),
    st.builds(lambda: lambda life: life.change(cancel_at_period_end="false")),
    st.just(lambda _: None),
)
_HOURS = st.sampled_from([0, 2, 24, 24 * 3, 24 * 5, 24 * 15, 24 * 31])
#: Nothing more, or a renewal that is not paid.
_MONTHS: list[list[tuple[Deed, int]]] = [[], [(_card(FAILING.token), 24 * 31 + 2)]]
#: Begins with a subscription, so that most histories are of something; may end with the customer's deletion.
_HISTORIES = st.builds(
    lambda first, month, steps, last: [first, *month, *steps, *last],
    st.tuples(st.builds(_subscribe, st.sampled_from(PLANS), st.sampled_from([0, 14])), _HOURS),
    st.sampled_from(_MONTHS),
    st.lists(st.tuples(_DEEDS, _HOURS), max_size=6),
    st.sampled_from([[], [], [], [(_delete, 2)]]),
)
_FEW = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@dataclass
class _Twins:
    """Two customers of one shop who do the same at the same times."""

    shop: Shop
    straight: _Life
    troubled: _Life

    @property
    def now(self) -> datetime:
        return self.shop.world.clock.now()

    def live(self, deed: Deed, hours: int) -> None:
        """Both do it, if it can be done, and time passes."""
        for life in (self.straight, self.troubled):
            with suppress(ApiError):
                deed(life)
        self.shop.world.advance(timedelta(hours=hours))

    def news(self) -> tuple[list[Event], list[Event]]:
        """New events of the one and of the other."""
        events = self.shop.new_events()
        return self.straight.of(events), self.troubled.of(events)

    def settle(self) -> None:
        """Consume what was delivered, and let time pass here."""
        self.shop.consume()
        pass_time(self.shop.database, self.shop.settings, self.now, self.shop.gateway)

    def assert_equal(self, *, told: bool) -> None:
        database, straight, troubled = self.shop.database, self.straight, self.troubled
        assert troubled.result() == straight.result()
        if told:
            assert mails(database, troubled.tenant) == mails(database, straight.tenant)
            assert audited(database, troubled.tenant) == audited(database, straight.tenant)


@pytest.fixture
def twins(database: Database, new_tenant: Callable[[], str], add_person: Callable[..., Any]) -> Callable[[], _Twins]:
    """Makes two tenants with people of whom two each hear of bills, and removes those of the example before."""

    def make() -> _Twins:
        with database.admin_engine.begin() as connection:
            connection.execute(sa.text("delete from ogf.external_events"))
            connection.execute(sa.text("delete from ogf.subscriptions"))
        shop = Shop(database)
        lives = []
        for _ in range(2):
            tenant = new_tenant()
            for role in ("owner", "billing", "viewer"):
                add_person(tenant, role)
            lives.append(_Life(shop, tenant, shop.customer(tenant)))
        shop.new_events()
        return _Twins(shop, *lives)

    return make


def _mingled(events: Sequence[dict[str, Any]], chance: random.Random) -> list[dict[str, Any]]:
    """The events in any order, some of them several times."""
    mingled = [event for event in events for _ in range(chance.choice([1, 1, 2, 3]))]
    chance.shuffle(mingled)
    return mingled


@_FEW
@given(history=_HISTORIES, chance=st.randoms(use_true_random=False))
def test_permuted_and_doubled_events_end_like_straight_ones_after_every_step_with_the_same_mails(
    twins: Callable[[], _Twins], history: list[tuple[Deed, int]], chance: random.Random
) -> None:
    both = twins()
    for deed, hours in history:
        both.live(deed, hours)
        straight, troubled = both.news()
        both.shop.deliver(straight)
        both.shop.deliver(_mingled(troubled, chance))
        both.settle()
        for event in troubled[-1:]:  # one is consumed again, alone
            both.shop.database.external_events.replay(event["id"])
            both.shop.consume()
        both.assert_equal(told=True)


@_FEW
@given(history=_HISTORIES, chance=st.randoms(use_true_random=False))
def test_delayed_and_lost_events_end_like_straight_ones_after_a_reconciliation(
    twins: Callable[[], _Twins], history: list[tuple[Deed, int]], chance: random.Random
) -> None:
    both = twins()
    began, waiting = both.now, list[tuple[int, Event]]()
    for deed, hours in history:
        both.live(deed, hours)
        straight, troubled = both.news()
        both.shop.deliver(straight)
        # A share never arrives; others arrive steps later, beside newer ones.
        waiting += [(chance.choice([0, 0, 1, 2, 9]), event) for event in troubled if chance.random() > 0.3]
        both.shop.deliver(_mingled([event for wait, event in waiting if wait == 0], chance))
        waiting = [(wait - 1, event) for wait, event in waiting if wait > 0]
        both.settle()
    shop = both.shop
    backfill(shop.database, shop.gateway, shop.settings, began, both.now)
    both.settle()
    both.assert_equal(told=False)
    assert drift(shop.database, shop.gateway, shop.settings, both.now) == []


@_FEW
@given(history=_HISTORIES, chance=st.randoms(use_true_random=False))
def test_a_consumer_that_was_away_tells_as_much_of_permuted_and_lost_events_as_of_straight_ones(
    twins: Callable[[], _Twins], history: list[tuple[Deed, int]], chance: random.Random
) -> None:
    both = twins()
    began = both.now
    for deed, hours in history:
        both.live(deed, hours)
        straight, troubled = both.news()
        both.shop.deliver(straight)
        both.shop.deliver(_mingled([event for event in troubled if chance.random() > 0.3], chance))
    backfill(both.shop.database, both.shop.gateway, both.shop.settings, began, both.now)
    both.settle()
    both.assert_equal(told=True)
    both.settle()
    both.assert_equal(told=True)
