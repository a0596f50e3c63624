"""What Stripe says of a customer, reduced to what the billing state follows from: no card, no address, no amount.

A snapshot is fetched, never taken from an event's body, and kept as JSON; `gateway` makes it, `derivation` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

#: Statuses of subscriptions that are over, or that never began.
OVER = frozenset({"canceled", "incomplete", "incomplete_expired"})


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class OpenInvoice(_Fact):
    """An invoice that waits to be paid. `due_since`: when it was finalised, or is to be paid, if that is later."""

    invoice_id: str
    due_since: datetime
    url: str = ""


class SubscriptionFacts(_Fact):
    """One Stripe subscription. Times are Stripe's own, in UTC; periods live on its items, which may differ.

    `paid_until`: latest period end of its items; `next_change`: earliest; `period_start`: latest beginning.
    `price_ids` in the order of the items. `plan_hint`: `metadata.plan` of the product or the `lookup_key` of the price,
    for prices that the settings do not name. `payment_failed`: it was cancelled because it was not paid.
    `open_invoices`: oldest first.
    """

    subscription_id: str
    status: str
    created: datetime
    price_ids: tuple[str, ...] = ()
    plan_hint: str = ""
    period_start: datetime | None = None
    paid_until: datetime | None = None
    next_change: datetime | None = None
    trial_end: datetime | None = None
    cancel_at: datetime | None = None
    canceled_at: datetime | None = None
    ended_at: datetime | None = None
    paused_at: datetime | None = None
    payment_failed: bool = False
    open_invoices: tuple[OpenInvoice, ...] = ()

    @property
    def renews(self) -> bool:
        """Whether a period is still to come and to be paid: an end may also be set for one that lies far ahead."""
        if self.status in OVER:
            return False
        return self.cancel_at is None or (self.next_change is not None and self.cancel_at > self.next_change)

    @property
    def past_due_since(self) -> datetime | None:
        """Since when the oldest open invoice waits; None when none is open."""
        return self.open_invoices[0].due_since if self.open_invoices else None

    @property
    def open_invoice_id(self) -> str:
        """Id of the oldest open invoice; empty when none is open."""
        return self.open_invoices[0].invoice_id if self.open_invoices else ""

    @property
    def open_invoice_url(self) -> str:
        """Stripe's page on which the oldest open invoice is paid; empty when none is open."""
        return self.open_invoices[0].url if self.open_invoices else ""


class Snapshot(_Fact):
    """A customer and all its subscriptions, ended ones included, as fetched.

    `former`: subscriptions, all ended, of customers that Stripe deleted and that this one came after. `disputes`: ids
    of payments' disputes that we were told of; Stripe lists none by customer, so they add up here.
    """

    customer_id: str
    tenant: str = ""
    environment: str = ""
    service: str = ""
    deleted: bool = False
    subscriptions: tuple[SubscriptionFacts, ...] = ()
    former: tuple[SubscriptionFacts, ...] = ()
    disputes: tuple[str, ...] = ()

    def after(self, before: Snapshot | None) -> Snapshot:
        """This one, with what was told before and is not told any more: of deleted customers, and disputes.

        Of a deleted customer Stripe tells neither metadata nor, always, its subscriptions: all of them have ended.
        """
        if before is None:
            return self
        values: dict[str, Any] = {"disputes": before.disputes, "former": before.former}
        if before.customer_id != self.customer_id:
            values["former"] = (*before.former, *map(_ended, before.subscriptions))
        elif self.deleted:
            values |= {"tenant": before.tenant, "environment": before.environment, "service": before.service}
            values["subscriptions"] = tuple(map(_ended, self.subscriptions or before.subscriptions))
        return self.model_copy(update=values)

    def document(self) -> dict[str, Any]:
        """JSON-ready, as the database keeps it."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Snapshot:
        """The snapshot of a stored document."""
        return cls.model_validate(document)


def _ended(found: SubscriptionFacts) -> SubscriptionFacts:
    return found if found.status in OVER else found.model_copy(update={"status": "canceled"})
