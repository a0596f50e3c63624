"""To Stripe's pages: Checkout for a first or new subscription, the customer portal for everything after it.

One customer per tenant, another one only after Stripe has deleted it. What comes of it is never read from the way
back, but told by events. Callers see to the right and the stepped-up session. Network calls: not inside an open
transaction that others wait for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from offgridflow_pipeline.identity.audit import Action, Json, record
from offgridflow_pipeline.subscriptions.plans import PlanName, prices
from offgridflow_pipeline.subscriptions.snapshots import OVER, Snapshot

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.settings import Settings
    from offgridflow_pipeline.subscriptions.gateway import StripeGateway

#: Statuses of a subscription that never began: no trial was used.
_NEVER_BEGUN = frozenset({"incomplete", "incomplete_expired"})
_DONE = "billing?done=checkout"
_BACK = "billing"


class CheckoutError(ValueError):
    """There is nothing to buy or manage; `code` is stable, the message says what helps."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Buyer:
    """Who asks for a page, as the audit log names them, and the request that it is asked with.

    `email`: to whom Stripe writes; a new customer has it.
    """

    principal: str
    email: str = ""
    request_id: str = ""
    ip_hash: str = ""


def start_checkout(
    database: Database,
    gateway: StripeGateway,
    settings: Settings,
    tenant: str,
    plan: PlanName,
    buyer: Buyer,
    *,
    now: datetime,
) -> str:
    """Address of the page on which the tenant subscribes to the plan.

    While the page is open it stays the same one, also for a double click, and the only one: pages of other plans are
    closed, so that nobody pays twice.

    Raises:
        CheckoutError: the plan is not for sale, or a subscription goes on that is changed in the portal instead.
        StripeUnavailableError, StripeKeyError, StripeRefusedError: Stripe made no page.
    """
    price = prices(settings).get(plan)
    if price is None:
        raise CheckoutError("plan_not_for_sale", f"The {plan} plan cannot be bought here: ask us for an offer.")
    row = database.subscriptions.get(tenant)
    customer_id = row.customer_id if row else _made(database, gateway, tenant, buyer)
    snapshot = gateway.snapshot(customer_id).after(Snapshot.of(row.snapshot) if row and row.snapshot else None)
    if snapshot.deleted:
        customer_id = _made(database, gateway, tenant, buyer, instead_of=customer_id)
        snapshot = gateway.snapshot(customer_id).after(snapshot)
    if any(found.status not in OVER for found in snapshot.subscriptions):
        raise CheckoutError(
            "already_subscribed", "There is a subscription already: change or pay it in the customer portal."
        )
    pages = gateway.checkout_pages(customer_id)
    url = next((address for _, bought, address in pages.open if bought == price and address), None)
    url = url or _page(gateway, settings, tenant, customer_id, price, snapshot, f"{now:%Y-%m-%dT%H}:{pages.ended}")
    for session_id, _, address in pages.open:
        if address != url:
            gateway.close_checkout(session_id)
    with database.tenant(tenant) as scope:
        facts: dict[str, Json] = {"plan": plan, "price": price}
        _note(database.within(scope), tenant, Action.BILLING_CHECKOUT_STARTED, buyer, customer_id, facts)
    return url


def _page(
    gateway: StripeGateway,
    settings: Settings,
    tenant: str,
    customer_id: str,
    price: str,
    snapshot: Snapshot,
    attempt: str,
) -> str:
    root = settings.public_url.rstrip("/")
    return gateway.checkout(
        tenant,
        customer_id=customer_id,
        price=price,
        trial_days=0 if _had_one(snapshot) else settings.stripe_trial_days,
        success_url=f"{root}/{_DONE}",
        cancel_url=f"{root}/{_BACK}",
        attempt=f"{attempt}:{len(snapshot.subscriptions)}",
    )


def open_portal(
    database: Database,
    gateway: StripeGateway,
    settings: Settings,
    tenant: str,
    buyer: Buyer,
) -> str:
    """Address of the page on which the tenant pays, changes card or plan, and cancels; short-lived, never stored.

    Each request (its id) gets a page of its own.

    Raises:
        CheckoutError: the tenant never was a customer.
        StripeUnavailableError, StripeKeyError, StripeRefusedError: Stripe made no page.
    """
    row = database.subscriptions.get(tenant)
    if row is None:
        raise CheckoutError("not_subscribed", "There is no subscription yet: choose a plan first.")
    root = settings.public_url.rstrip("/")
    url = gateway.portal(row.customer_id, return_url=f"{root}/{_BACK}", attempt=buyer.request_id)
    with database.tenant(tenant) as scope:
        _note(database.within(scope), tenant, Action.BILLING_PORTAL_OPENED, buyer, row.customer_id)
    return url


def end_subscriptions(database: Database, gateway: StripeGateway, tenant: str) -> int:
    """Let every subscription of the tenant end with its paid period, when it leaves; returns how many.

    Pages on which another could be bought are closed.

    Raises:
        StripeUnavailableError, StripeKeyError, StripeRefusedError: Stripe ended not all.
    """
    row = database.subscriptions.get(tenant)
    if row is None:
        return 0
    running = [found.subscription_id for found in gateway.snapshot(row.customer_id).subscriptions if found.renews]
    for subscription_id in running:
        gateway.cancel_at_period_end(subscription_id)
    for session_id, _, _ in gateway.checkout_pages(row.customer_id).open:
        gateway.close_checkout(session_id)
    return len(running)


def _made(database: Database, gateway: StripeGateway, tenant: str, buyer: Buyer, *, instead_of: str = "") -> str:
    """A new customer, linked; or the one that somebody else linked meanwhile."""
    organisation = database.tenants.get(tenant).display_name
    made = gateway.ensure_customer(tenant, organisation=organisation, email=buyer.email, instead_of=instead_of)
    facts = {"instead_of": instead_of} if instead_of else {}
    with database.tenant(tenant) as scope:
        bound = database.within(scope)
        linked = bound.subscriptions.link(tenant, made, instead_of=instead_of)
        if linked == made:
            _note(bound, tenant, Action.BILLING_CUSTOMER_LINKED, buyer, made, facts)
    return linked


def _had_one(snapshot: Snapshot) -> bool:
    return any(found.status not in _NEVER_BEGUN for found in (*snapshot.subscriptions, *snapshot.former))


def _note(
    bound: Database,
    tenant: str,
    action: Action,
    buyer: Buyer,
    customer_id: str,
    details: Mapping[str, Json] | None = None,
) -> None:
    record(
        bound,
        tenant,
        action,
        actor=buyer.principal,
        target=customer_id,
        request_id=buyer.request_id,
        ip_hash=buyer.ip_hash,
        details=details,
    )
