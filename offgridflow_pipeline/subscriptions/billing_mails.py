"""Mails about the subscription, to owners and billing roles: which are due, told from Stripe's facts alone.

A mail's key is made of ids and times that Stripe gave, never of events: told in any order and any number of times, the
same facts give the same mails. Words and variables are those of the templates.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from offgridflow_pipeline.notifications.outbox import enqueue
from offgridflow_pipeline.notifications.templates import MailError
from offgridflow_pipeline.subscriptions.derivation import GRACE
from offgridflow_pipeline.subscriptions.entitlements import WORKING

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.database.money.subscriptions import StoredStanding
    from offgridflow_pipeline.subscriptions.derivation import Derived
    from offgridflow_pipeline.subscriptions.snapshots import Snapshot

#: Days of the grace on which an open payment is told of.
DUNNING_DAYS = (0, 3, 7, 12)
TRIAL_NOTICE = timedelta(days=3)
BILLING_ROLES = frozenset({"owner", "billing"})

log = logging.getLogger("offgridflow.billing")


@dataclass(frozen=True, slots=True)
class BillingMail:
    """A mail that is due; `cause` tells it from others of its template."""

    template: str
    cause: str
    variables: Mapping[str, Any]


def timed_mails(derived: Derived, now: datetime) -> Iterator[BillingMail]:
    """Mails that are due at `now` because of time: of an open payment the newest only, however late we are."""
    subscription = derived.subscription
    if subscription is None or derived.since is None:
        return
    if derived.state == "grace":
        day = max(day for day in DUNNING_DAYS if timedelta(days=day) <= max(now - derived.since, timedelta(0)))
        yield BillingMail(
            "payment_failed",
            f"{subscription.open_invoice_id or subscription.subscription_id}:{day}",
            {"restricted_at": derived.since + GRACE, "invoice_url": subscription.open_invoice_url, "day": day},
        )
    end = subscription.trial_end
    if derived.state == "trial" and end is not None and subscription.renews and end - TRIAL_NOTICE <= now < end:
        yield BillingMail("trial_ending", f"{subscription.subscription_id}:{end.isoformat()}", {"trial_end": end})


def changed_mails(before: StoredStanding, derived: Derived, *, first: bool) -> Iterator[BillingMail]:
    """Mails of a change of the state; `first`: the tenant has just become a customer."""
    subscription = derived.subscription
    if subscription is None or derived.since is None:
        return
    came_back = before.state not in WORKING and derived.state in WORKING
    cause = f"{subscription.subscription_id}:{derived.since.isoformat()}"
    if first or (came_back and derived.state != "grace"):
        began = "" if before.since is None else before.since.isoformat()
        yield BillingMail(
            "subscription_active",
            f"{subscription.subscription_id}:{'first' if first else began}",
            {"plan": derived.plan},
        )
    elif derived.state == before.state:
        return
    elif derived.state == "restricted":
        yield BillingMail("subscription_restricted", cause, {"invoice_url": subscription.open_invoice_url})
    elif derived.state == "suspended":
        yield BillingMail("subscription_suspended", cause, {"readable_until": derived.until})


def confirmation_mails(snapshot: Snapshot, invoices: Collection[str]) -> Iterator[BillingMail]:
    """Mails of payments that a person has to confirm: of those invoices, the ones that are open still."""
    for invoice in (one for subscription in snapshot.subscriptions for one in subscription.open_invoices):
        if invoice.invoice_id in invoices:
            yield BillingMail("payment_action_required", invoice.invoice_id, {"invoice_url": invoice.url})


def write_mails(
    bound: Database, tenant: str, mails: Iterable[BillingMail], now: datetime, roles: Collection[str] = BILLING_ROLES
) -> int:
    """Write each mail to everybody of the roles, in the bound transaction; returns how many are new."""
    due = list(mails)
    if not due:
        return 0
    organisation = bound.tenants.get(tenant).display_name
    people = [
        person
        for person in bound.memberships.list(tenant)
        if person.role in roles and person.status == "active" and (person.expires_at is None or person.expires_at > now)
    ]
    written = 0
    for mail in due:
        for person in people:
            try:
                written += enqueue(
                    bound,
                    tenant,
                    mail.template,
                    to=person.email,
                    user_id=person.user_id,
                    locale=person.locale,
                    vars={"organisation": organisation, **mail.variables},
                    dedupe_key=f"{mail.template}:{mail.cause}:{person.user_id}",
                )
            except MailError as error:  # an address that no mail can have must not keep the state from changing
                log.warning("%s: no mail %s: %s", tenant, mail.template, error)
    return written
