"""Reconciling with Stripe: events that never arrived, and tenants that are not where Stripe says they are.

Events that are found go through the same inbox as delivered ones, so finding one twice does nothing. Stripe keeps them
for 30 days; what is older is repaired by fetching every customer. `drift` changes nothing: it is the check.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from offgridflow_pipeline.subscriptions.application import apply
from offgridflow_pipeline.subscriptions.consumer import ForeignEventError, fetched, require_ours
from offgridflow_pipeline.subscriptions.derivation import derive
from offgridflow_pipeline.subscriptions.event_bodies import EventBodyError, parsed
from offgridflow_pipeline.subscriptions.gateway import EVENTS_KEPT, SERVICE, StripeRefusedError
from offgridflow_pipeline.subscriptions.plans import plan_of, prices
from offgridflow_pipeline.subscriptions.snapshots import Snapshot

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.settings import Settings
    from offgridflow_pipeline.subscriptions.gateway import StripeGateway

#: Asking for events of exactly 30 days ago races with their removal.
_MARGIN = timedelta(minutes=5)

log = logging.getLogger("offgridflow.billing")


_SENTENCES = {
    "standing": "{tenant} ({customer_id}) is on {ours} here, and on {stripes} by Stripe.",
    "unlinked": "{customer_id} subscribes for {tenant!r}, {stripes} by Stripe, and is no organisation's customer here.",
    "unreadable": "{tenant} ({customer_id}) is on {ours} here, and Stripe cannot say: {stripes}",
    "unknown_price": "{tenant} ({customer_id}) is on {ours} here, by Stripe at a price of no plan: {stripes}.",
}


@dataclass
class Backfilled:
    """Events that Stripe listed, those that were new to the inbox, unreadable ones; customers that were fetched."""

    listed: int = 0
    added: int = 0
    unreadable: int = 0
    refetched: int = 0
    failed: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Drift:
    """A customer that is elsewhere than Stripe says, as `plan, state`.

    `standing`: plan or state differ. `unlinked`: it bears our marks, subscribes, and is nobody's here. `unreadable`:
    Stripe does not know it, or says that it is not ours. `unknown_price`: a price is no plan's.
    """

    kind: Literal["standing", "unlinked", "unreadable", "unknown_price"]
    tenant: str
    customer_id: str
    ours: str
    stripes: str

    @property
    def text(self) -> str:
        """The difference in a sentence that names organisation, customer and both states."""
        return _SENTENCES[self.kind].format(**asdict(self))


def backfill(
    database: Database, gateway: StripeGateway, settings: Settings, since: datetime, now: datetime
) -> Backfilled:
    """Put the account's events since then into the inbox, undelivered ones first; drain it afterwards.

    Since more than 30 days ago: every customer is fetched and applied as well, for such events are gone.

    Raises:
        StripeUnavailableError, StripeKeyError, StripeRefusedError: what was found until then is in the inbox.
    """
    found = Backfilled()
    oldest = now - EVENTS_KEPT + _MARGIN
    for undelivered_only in (True, False):
        for body in gateway.events(max(since, oldest), undelivered_only=undelivered_only):
            _store(database, gateway, body, found)
    if since < oldest:
        _refetch(database, gateway, settings, now, found)
    return found


def drift(database: Database, gateway: StripeGateway, settings: Settings, now: datetime) -> list[Drift]:
    """Customers whose stored plan and state are not what follows from Stripe at `now`; empty is well.

    Let `pass_time` and `drain` go before: what merely waits is drift as well.

    Raises:
        StripeUnavailableError, StripeKeyError, StripeRefusedError: nothing is known.
    """
    linked = {customer: tenant for tenant, customer in database.subscriptions.customers().items()}
    listed = gateway.all_snapshots()
    found = [
        difference
        for customer_id, tenant in linked.items()
        for difference in _of_tenant(database, gateway, settings, tenant, customer_id, listed.get(customer_id), now)
    ]
    for customer_id in sorted(listed.keys() - linked.keys()):
        snapshot = listed[customer_id]
        marked = (snapshot.environment, snapshot.service) == (settings.environment, SERVICE)
        derived = derive(snapshot, now, prices=prices(settings))
        if marked and not snapshot.deleted and derived.state not in {"suspended", "offboarded"}:
            found.append(Drift("unlinked", snapshot.tenant, customer_id, "", f"{derived.plan}, {derived.state}"))
    return found


def _of_tenant(
    database: Database,
    gateway: StripeGateway,
    settings: Settings,
    tenant: str,
    customer_id: str,
    snapshot: Snapshot | None,
    now: datetime,
) -> Iterator[Drift]:
    row, stored = database.subscriptions.get(tenant), database.subscriptions.standing(tenant)
    ours = f"{stored.plan}, {stored.state}"
    try:
        # Not among those that subscribed, or deleted, which the listing shows without its past.
        fresh = gateway.snapshot(customer_id) if snapshot is None or snapshot.deleted else snapshot
        require_ours(settings, tenant, fresh)
    except (StripeRefusedError, ForeignEventError) as error:
        yield Drift("unreadable", tenant, customer_id, ours, str(error))
        return
    if row is not None and row.snapshot is not None:
        fresh = fresh.after(Snapshot.of(row.snapshot))
    derived = derive(
        fresh,
        now,
        prices=prices(settings),
        plan_before=plan_of(stored.plan).name,
        offboard_requested_at=row.offboard_requested_at if row else None,
    )
    if derived.unknown_price:
        yield Drift("unknown_price", tenant, customer_id, ours, derived.unknown_price)
    if (derived.plan, derived.state) != (stored.plan, stored.state) and not derived.unknown_status:
        yield Drift("standing", tenant, customer_id, ours, f"{derived.plan}, {derived.state}")


def _store(database: Database, gateway: StripeGateway, body: bytes, found: Backfilled) -> None:
    found.listed += 1
    try:
        event = parsed(body, livemode=gateway.livemode)
    except EventBodyError as error:  # one that we cannot read must not hide the others
        log.warning("An event of Stripe's list was left out: %s", error)
        found.unreadable += 1
        return
    found.added += database.external_events.add(event)


def _refetch(database: Database, gateway: StripeGateway, settings: Settings, now: datetime, found: Backfilled) -> None:
    for tenant, customer_id in database.subscriptions.customers().items():
        try:
            snapshot, fetched_at = fetched(database, gateway, settings, tenant, customer_id)
        except (StripeRefusedError, ForeignEventError) as error:
            log.warning("%s was not fetched: %s", tenant, error)
            found.failed.append(tenant)
            continue
        apply(database, settings, tenant, snapshot, fetched_at, now)
        found.refetched += 1
