"""Applying what Stripe says to a tenant: one transaction of snapshot, standing, audit events, mails and jobs.

Whoever applies last ends in the same place: an older snapshot never replaces a newer, and everything else follows from
the stored one and the time. Fetching is `gateway`, the rule from facts to state `derivation`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from offgridflow_pipeline.identity.audit import Action, Json, record
from offgridflow_pipeline.subscriptions.billing_mails import (
    changed_mails,
    confirmation_mails,
    timed_mails,
    write_mails,
)
from offgridflow_pipeline.subscriptions.connection_limits import pause_beyond
from offgridflow_pipeline.subscriptions.derivation import Derived, derive
from offgridflow_pipeline.subscriptions.entitlements import WORKING
from offgridflow_pipeline.subscriptions.plans import PlanName, plan_of, prices
from offgridflow_pipeline.subscriptions.reading_jobs import ask_for_bills
from offgridflow_pipeline.subscriptions.snapshots import Snapshot

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.database.money.subscriptions import StoredStanding, Subscription
    from offgridflow_pipeline.settings import Settings

#: Onboarding that has asked for jobs: those that met the stop have failed, so it begins anew.
_UNDER_WAY = frozenset({"reading", "reporting"})

log = logging.getLogger("offgridflow.billing")


class NotLinkedError(LookupError):
    """The customer is not the tenant's."""


@dataclass(frozen=True, slots=True)
class Told:
    """What events told of that no snapshot says: payments that a person has to confirm, and disputes, by their ids."""

    to_confirm: frozenset[str] = frozenset()
    disputes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a tenant; `mails` and `jobs` are how many were added, `paused` ids of connections."""

    tenant: str
    plan_before: str
    plan: PlanName
    state_before: str
    state: str
    mails: int = 0
    jobs: int = 0
    paused: tuple[str, ...] = ()

    @property
    def of_standing(self) -> bool:
        """Whether plan or state are others than before."""
        return (self.plan_before, self.state_before) != (self.plan, self.state)


def apply(
    database: Database,
    settings: Settings,
    tenant: str,
    snapshot: Snapshot,
    fetched_at: datetime,
    now: datetime,
    *,
    told: Told | None = None,
    traceparent: str | None = None,
) -> Change | None:
    """Bring the tenant to where Stripe says it is; None when nothing came of it.

    `fetched_at`: time of the database before the fetch began. `traceparent`: of the run, for the jobs it asks for.

    Raises:
        NotLinkedError: the customer is not the tenant's.
    """
    told = told or Told()
    with database.tenant(tenant) as scope:
        bound = database.within(scope)
        row = bound.subscriptions.get(tenant, for_update=True)
        if row is None or row.customer_id != snapshot.customer_id:
            raise NotLinkedError(f"{snapshot.customer_id} is not the customer of {tenant}.")
        newest = _kept(bound, tenant, row, snapshot, fetched_at, told.disputes)
        return advance(bound, settings, tenant, row, newest, now, told=told, traceparent=traceparent)


def advance(
    bound: Database,
    settings: Settings,
    tenant: str,
    row: Subscription,
    snapshot: Snapshot | None,
    now: datetime,
    *,
    told: Told | None = None,
    traceparent: str | None = None,
) -> Change | None:
    """Bring the tenant, whose row is locked, to where the snapshot puts it at `now`; None when nothing came of it."""
    before = bound.subscriptions.standing(tenant)
    derived = _derived(settings, tenant, row, snapshot, before, now)
    if derived is None:
        return None
    first = row.onboarding == "none" and derived.subscription is not None and derived.state in {"trial", "active"}
    _change_standing(bound, tenant, row, before, derived, now)
    mails = [*changed_mails(before, derived, first=first), *timed_mails(derived, now)]
    if snapshot is not None and told is not None:
        mails += confirmation_mails(snapshot, told.to_confirm)
    written = write_mails(bound, tenant, mails, now)
    works = derived.state in WORKING
    paused = pause_beyond(bound, tenant, plan_of(derived.plan)) if works else []
    jobs = 0
    came_back = works and row.stopped_since is not None
    if first or (came_back and row.onboarding in _UNDER_WAY):
        bound.subscriptions.onboard(tenant, "due")
    elif came_back and row.stopped_since is not None:
        since = row.stopped_since.date()
        plan = plan_of(derived.plan)
        jobs = ask_for_bills(bound, settings, tenant, plan, now.date(), since=since, traceparent=traceparent)
    change = Change(tenant, before.plan, derived.plan, before.state, derived.state, written, jobs, tuple(paused))
    return change if change.of_standing or first or written or jobs or paused else None


def _kept(
    bound: Database,
    tenant: str,
    row: Subscription,
    snapshot: Snapshot,
    fetched_at: datetime,
    disputes: frozenset[str],
) -> Snapshot:
    """Keep the newest snapshot of the tenant's customer; returns it. New disputes are noted in the audit log."""
    stored = None if row.snapshot is None else Snapshot.of(row.snapshot)
    at = fetched_at if row.fetched_at is None else max(row.fetched_at, fetched_at)
    # What the customer before said is history, even when it was fetched later than this.
    is_newest = at == fetched_at or (stored is not None and stored.customer_id != snapshot.customer_id)
    newest = snapshot.after(stored) if is_newest or stored is None else stored
    known = frozenset(stored.disputes if stored else ())
    newest = newest.model_copy(update={"disputes": tuple(sorted(known | disputes))})
    bound.subscriptions.keep(tenant, newest.document(), at)
    for dispute in sorted(disputes - known):
        record(bound, tenant, Action.BILLING_DISPUTE_OPENED, actor="system", target=dispute)
    return newest


def _derived(
    settings: Settings,
    tenant: str,
    row: Subscription,
    snapshot: Snapshot | None,
    before: StoredStanding,
    now: datetime,
) -> Derived | None:
    """Where the tenant is now; None where only what we do not know could tell."""
    derived = derive(
        snapshot,
        now,
        prices=prices(settings),
        plan_before=plan_of(before.plan).name,
        offboard_requested_at=row.offboard_requested_at,
    )
    if derived.unknown_price:
        log.warning("%s: price %s is no plan's; the plan stays %s", tenant, derived.unknown_price, derived.plan)
    if derived.unknown_status and derived.state != "offboarded":
        log.warning("%s: status %s is not known; nothing changes", tenant, derived.unknown_status)
        return None
    return derived


def _change_standing(
    bound: Database, tenant: str, row: Subscription, before: StoredStanding, derived: Derived, now: datetime
) -> None:
    """Store the standing, and since when no work goes on; note in the audit log what changed."""
    is_same = (before.plan, before.state) == (derived.plan, derived.state)
    if is_same and derived.since in {None, before.since}:
        return
    since = derived.since or now
    bound.subscriptions.change_standing(tenant, derived.plan, derived.state, since)
    if (before.state in WORKING) != (derived.state in WORKING):
        bound.subscriptions.stop(tenant, None if derived.state in WORKING else since)
    target = derived.subscription.subscription_id if derived.subscription else row.customer_id
    facts: dict[str, Json] = {"since": since.isoformat()}
    if derived.subscription and derived.subscription.open_invoice_id:
        facts["invoice"] = derived.subscription.open_invoice_id
    changes: Sequence[tuple[Action, str, str]] = (
        (Action.BILLING_PLAN_CHANGED, before.plan, derived.plan),
        (Action.BILLING_STATE_CHANGED, before.state, derived.state),
    )
    for action, old, new in changes:
        if old != new:
            record(bound, tenant, action, actor="system", target=target, details={"from": old, "to": new, **facts})
