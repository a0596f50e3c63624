"""Billing state from what Stripe says: a pure function of the newest snapshot, the plan before, and the time.

So order, number and delay of events cannot matter: whoever has the same snapshot at the same time is in the same state.
All beginnings are Stripe's times, not the times we heard of them.

================== ==========================================================
Stripe says        state
================== ==========================================================
trialing           trial
active             active, also when it is to be cancelled at the period's end
past_due           grace for 14 days since the oldest open invoice is due, then restricted
paused             restricted since then
unpaid             suspended, counted from the end of the grace
canceled           active while the period is paid, then suspended
incomplete         nothing
incomplete_expired nothing: what other subscriptions say, else free
================== ==========================================================

Suspended for 90 days, or by the owner's wish: offboarded. Of several subscriptions the one that allows most decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from offgridflow_pipeline.subscriptions.entitlements import WORKING, BillingState
from offgridflow_pipeline.subscriptions.plans import PlanName, plan_of, subscribable
from offgridflow_pipeline.subscriptions.snapshots import Snapshot, SubscriptionFacts

GRACE = timedelta(days=14)
READABLE_AFTER_END = timedelta(days=90)
#: Statuses of subscriptions that never were paid for: there is nothing to end.
_NEVER_BEGUN = frozenset({"incomplete", "incomplete_expired"})
_KNOWN = _NEVER_BEGUN | {"trialing", "active", "past_due", "paused", "unpaid", "canceled"}
#: From most to least: which of several subscriptions decides.
_ORDER: tuple[BillingState, ...] = ("active", "trial", "grace", "restricted", "suspended", "offboarded")


@dataclass(frozen=True, slots=True)
class Derived:
    """State of a tenant. `since`: None when nothing dates it (never subscribed). `until`: when time alone changes it.

    `subscription`: the one that decided. `unknown_price`: a price that is no plan's; the plan before stays in force.
    `unknown_status`: one that we do not know, beside nothing that lets work go on; what was before stays in force.
    """

    plan: PlanName
    state: BillingState
    since: datetime | None = None
    until: datetime | None = None
    subscription: SubscriptionFacts | None = None
    unknown_price: str = ""
    unknown_status: str = ""


class _Deriving(Protocol):
    """Makes a state of the subscription at hand."""

    def __call__(self, state: BillingState, since: datetime, until: datetime | None = None) -> Derived: ...


def derive(
    snapshot: Snapshot | None,
    now: datetime,
    *,
    prices: Mapping[PlanName, str],
    plan_before: PlanName = "free",
    offboard_requested_at: datetime | None = None,
) -> Derived:
    """The state at `now` (aware); `prices` are the Stripe price ids of plans."""
    subscriptions = snapshot.subscriptions if snapshot else ()
    candidates = [
        found
        for subscription in (*subscriptions, *(snapshot.former if snapshot else ()))
        if (found := _of(subscription, now, prices, plan_before, deleted=snapshot is not None and snapshot.deleted))
    ]
    best = min(candidates, key=_preference, default=Derived("free", "active"))
    strange = "" if snapshot is None or snapshot.deleted else _strange(subscriptions)
    if strange and (not candidates or best.state not in WORKING):
        # It may be the one that is paid: nothing that ended before it may take anything away.
        best = Derived(plan_before, "active", unknown_status=strange)
    if offboard_requested_at is not None and offboard_requested_at <= now:
        return Derived(best.plan, "offboarded", offboard_requested_at, None, best.subscription)
    return best


def _strange(subscriptions: Sequence[SubscriptionFacts]) -> str:
    """The first status that we do not know; empty without any."""
    return next((found.status for found in subscriptions if found.status not in _KNOWN), "")


def _preference(found: Derived) -> tuple[int, int, float, str]:
    """Most allowed first; then the larger plan, then the newer subscription, then a fixed order."""
    subscription = found.subscription
    created = subscription.created.timestamp() if subscription else 0.0
    return (
        _ORDER.index(found.state),
        -plan_of(found.plan).rank,
        -created,
        subscription.subscription_id if subscription else "",
    )


def _of(
    subscription: SubscriptionFacts,
    now: datetime,
    prices: Mapping[PlanName, str],
    plan_before: PlanName,
    *,
    deleted: bool,
) -> Derived | None:
    plan, unknown = _plan(subscription, prices, plan_before)

    def derived(state: BillingState, since: datetime, until: datetime | None = None) -> Derived:
        return Derived(plan, state, since, until, subscription, unknown)

    found: Derived | None = None
    match "canceled" if deleted and subscription.status not in _NEVER_BEGUN else subscription.status:
        case "trialing":
            found = derived("trial", subscription.created)
        case "active":
            found = derived("active", subscription.created)
        case "past_due":
            found = _unpaid_bill(derived, subscription, now)
        case "paused":
            paused_at = subscription.paused_at or subscription.trial_end or subscription.period_start
            found = derived("restricted", paused_at or subscription.created)
        case "unpaid":
            found = _given_up(derived, subscription, now)
        case "canceled":
            found = _cancelled(derived, subscription, now)
    return found


def _unpaid_bill(derived: _Deriving, subscription: SubscriptionFacts, now: datetime) -> Derived:
    since = _due_since(subscription)
    end = since + GRACE
    return derived("grace", since, end) if now < end else derived("restricted", end)


def _due_since(subscription: SubscriptionFacts) -> datetime:
    """Since when a bill waits; without one, since the period began that it is for."""
    return subscription.past_due_since or subscription.period_start or subscription.created


def _cancelled(derived: _Deriving, subscription: SubscriptionFacts, now: datetime) -> Derived:
    # With a bill open, the period that runs is the one that was not paid.
    if subscription.payment_failed or subscription.past_due_since:
        return _ended(derived, subscription.ended_at or _due_since(subscription), now)
    ended = subscription.ended_at or subscription.canceled_at or subscription.created
    paid_until = max(ended, subscription.paid_until or ended)
    if now < paid_until:
        return derived("active", subscription.created, paid_until)
    return _ended(derived, paid_until, now)


def _given_up(derived: _Deriving, subscription: SubscriptionFacts, now: datetime) -> Derived:
    """Stripe may give up before our grace has ended: then since the bill is due, and readable all the longer."""
    found = _ended(derived, _due_since(subscription) + GRACE, now)
    return found if found.since is None or found.since <= now else replace(found, since=_due_since(subscription))


def _ended(derived: _Deriving, ended: datetime, now: datetime) -> Derived:
    closing = ended + READABLE_AFTER_END
    return derived("suspended", ended, closing) if now < closing else derived("offboarded", closing)


def _plan(subscription: SubscriptionFacts, prices: Mapping[PlanName, str], before: PlanName) -> tuple[PlanName, str]:
    """The largest plan among the items, and the first price that is no plan's; without any, the plan before."""
    by_price = {price: name for name, price in prices.items()}
    hinted = next((plan.name for plan in subscribable() if plan.name == subscription.plan_hint), None)
    known = [name for price in subscription.price_ids if (name := by_price.get(price, hinted))]
    unknown = next((price for price in subscription.price_ids if price not in by_price and hinted is None), "")
    return (max(known, key=lambda name: plan_of(name).rank) if known else before), unknown
