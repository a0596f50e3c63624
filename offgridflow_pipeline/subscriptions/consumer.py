"""Consuming the inbox: events say whose customer to look at, never what became of it.

A batch is claimed for the time of a lease; each customer in it is fetched once and applied in one transaction. Who
dies in between loses nothing: the lease ends, and the next one fetches again. When Stripe is out of reach the last
state stays and the events wait, however long that takes; only what fails by itself is given up at last.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from offgridflow_pipeline.database.engine import UnknownTenantError
from offgridflow_pipeline.database.statements import RecordError, one_at_a_time
from offgridflow_pipeline.identity.audit import Action, record
from offgridflow_pipeline.subscriptions.application import Told, apply
from offgridflow_pipeline.subscriptions.gateway import (
    SERVICE,
    StripeKeyError,
    StripeRefusedError,
    StripeUnavailableError,
)

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.database.money.external_events import InboxEvent
    from offgridflow_pipeline.settings import Settings
    from offgridflow_pipeline.subscriptions.application import Change
    from offgridflow_pipeline.subscriptions.gateway import StripeGateway
    from offgridflow_pipeline.subscriptions.snapshots import Snapshot

CHECKOUT = "checkout.session.completed"
DISPUTE = "charge.dispute.created"
TO_CONFIRM = "invoice.payment_action_required"

log = logging.getLogger("offgridflow.billing")


class ForeignEventError(LookupError):
    """The event concerns nobody here; the message says why it is ignored."""


@dataclass
class Drained:
    """What a drain came to: events that were settled or put back, customers applied; `ignored` events among them."""

    events: int = 0
    customers: int = 0
    ignored: int = 0
    failed: int = 0
    postponed: int = 0
    dead: list[str] = field(default_factory=list)
    batches: int = 0
    changes: list[Change] = field(default_factory=list)


def drain(
    database: Database,
    gateway: StripeGateway,
    settings: Settings,
    now: datetime,
    *,
    budget: timedelta,
    traceparent: str | None = None,
) -> Drained:
    """Consume batches until nothing is due, the time is up, or Stripe is out of reach."""
    drained = Drained()
    end = time.monotonic() + budget.total_seconds()
    batch = _Batches(database, gateway, settings, now, traceparent, drained)
    while not drained.batches or time.monotonic() < end:
        events = database.external_events.claim()
        if not events:
            break
        drained.batches += 1
        drained.events += len(events)
        if not batch.consume(events):
            break
    return drained


@dataclass(frozen=True, slots=True)
class _Batches:
    """How batches are consumed, and what came of them so far."""

    database: Database
    gateway: StripeGateway
    settings: Settings
    now: datetime
    traceparent: str | None
    drained: Drained

    def consume(self, events: Sequence[InboxEvent]) -> bool:
        """Consume claimed events, customer by customer; False when Stripe is out of reach and the rest must wait."""
        by_customer: dict[str, list[InboxEvent]] = {}
        for event in events:
            by_customer.setdefault(event.customer_id or event.external_id, []).append(event)
        unreachable = ""
        for told in by_customer.values():
            if unreachable:
                self.drained.postponed += self.database.external_events.postpone(told, unreachable)
            else:
                unreachable = self._settle(told)
        return not unreachable

    def _settle(self, events: Sequence[InboxEvent]) -> str:
        """Apply the customer of the events and settle them; returns why Stripe is out of reach, if it is."""
        try:
            self._apply(events)
        except ForeignEventError as reason:
            self.drained.ignored += self.database.external_events.settle(events, "ignored", str(reason))
        except (StripeUnavailableError, StripeKeyError) as error:
            level = logging.ERROR if isinstance(error, StripeKeyError) else logging.WARNING
            log.log(level, "Events of Stripe wait: %s", error)
            self.drained.postponed += self.database.external_events.postpone(events, str(error))
            return str(error)
        except Exception as error:
            # The fault of one customer keeps no other waiting. A database that is away is met again by `fail`.
            log.exception("Event %s could not be applied.", events[0].external_id)
            self._fail(events, str(error) if isinstance(error, StripeRefusedError) else type(error).__name__)
        else:
            self.drained.customers += 1
            self.database.external_events.settle(events, "done")
        return ""

    def _fail(self, events: Sequence[InboxEvent], error: str) -> None:
        self.drained.failed += len(events)
        self.drained.dead += self.database.external_events.fail(events, error)

    def _apply(self, events: Sequence[InboxEvent]) -> None:
        customer_id = events[0].customer_id or self._customer_of(events[0])
        if not customer_id:
            raise ForeignEventError("The event tells of no customer.")
        known = self.database.subscriptions.tenant_of(customer_id)
        tenant = known or self._bought_for(customer_id, events)
        snapshot, fetched_at = fetched(self.database, self.gateway, self.settings, tenant, customer_id)
        if known is None:
            _link(self.database, tenant, customer_id)
        told = Told(
            frozenset(event.object_id for event in events if event.event_type == TO_CONFIRM),
            frozenset(event.object_id for event in events if event.event_type == DISPUTE),
        )
        change = apply(
            self.database,
            self.settings,
            tenant,
            snapshot,
            fetched_at,
            self.now,
            told=told,
            traceparent=self.traceparent,
        )
        if change is not None:
            self.drained.changes.append(change)

    def _customer_of(self, event: InboxEvent) -> str:
        """The customer of an event that names none: a dispute names a charge alone."""
        if event.event_type != DISPUTE:
            return ""
        try:
            return self.gateway.disputed_customer(event.object_id)
        except StripeRefusedError as error:
            if error.missing:
                return ""
            raise

    def _bought_for(self, customer_id: str, events: Sequence[InboxEvent]) -> str:
        """Tenant that a completed checkout shows the customer to be."""
        for session_id in (event.object_id for event in events if event.event_type == CHECKOUT):
            found = self.gateway.checkout_session(session_id)
            marked = (found.environment, found.service) == (self.settings.environment, SERVICE)
            if marked and found.customer_id == customer_id and found.tenant and found.tenant == found.client_reference:
                return found.tenant
        raise ForeignEventError(f"No organisation here is the customer {customer_id}.")


def fetched(
    database: Database, gateway: StripeGateway, settings: Settings, tenant: str, customer_id: str
) -> tuple[Snapshot, datetime]:
    """What Stripe says of the tenant's customer now, and the database's time before it was asked: for `apply`.

    Raises:
        StripeUnavailableError, StripeKeyError, StripeRefusedError: Stripe did not say.
        ForeignEventError: the customer is not marked as the tenant's.
    """
    fetched_at = database.subscriptions.clock()
    snapshot = gateway.snapshot(customer_id)
    require_ours(settings, tenant, snapshot)
    return snapshot, fetched_at


def require_ours(settings: Settings, tenant: str, snapshot: Snapshot) -> None:
    """Pass a customer whose metadata says what our row says. A deleted one has none left: the row decides.

    Raises:
        ForeignEventError: it is another tenant's, environment's or service's.
    """
    if snapshot.deleted:
        return
    stated = {
        "tenant": (snapshot.tenant, tenant),
        "environment": (snapshot.environment, settings.environment),
        "service": (snapshot.service, SERVICE),
    }
    if foreign := [name for name, (theirs, ours) in stated.items() if theirs != ours]:
        raise ForeignEventError(f"The metadata of customer {snapshot.customer_id} is not ours: {', '.join(foreign)}.")


@contextmanager
def linking(database: Database, customer_id: str) -> Iterator[None]:
    """Hold back others who link the same customer, to whichever tenant: each sees whose it is before it takes it."""
    with database.platform() as everybody:
        one_at_a_time(everybody, "customer", customer_id)
        yield


def _link(database: Database, tenant: str, customer_id: str) -> None:
    """Make the customer the tenant's.

    Raises:
        ForeignEventError: there is no such tenant, it is another customer, or the customer is another tenant's.
    """
    try:
        with linking(database, customer_id), database.tenant(tenant) as scope:
            if (holder := database.subscriptions.tenant_of(customer_id)) not in {None, tenant}:
                raise ForeignEventError(f"{customer_id} is the customer of {holder} already.")
            bound = database.within(scope)
            before = bound.subscriptions.get(tenant)
            if (linked := bound.subscriptions.link(tenant, customer_id)) != customer_id:
                raise ForeignEventError(f"{tenant} is another customer already: {linked}.")
            if before is None:
                record(bound, tenant, Action.BILLING_CUSTOMER_LINKED, actor="system", target=customer_id)
    except UnknownTenantError:
        raise ForeignEventError(f"There is no organisation {tenant!r} here.") from None
    except RecordError as error:
        raise ForeignEventError(str(error)) from None
