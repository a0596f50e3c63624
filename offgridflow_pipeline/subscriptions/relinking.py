"""Linking a tenant to a customer by hand, when the one it has is unknown to our key or it has none here.

So it is after a move to another account of Stripe, or for a customer that was made in Stripe's dashboard. Stripe's own
metadata says whose a customer is: one that bears another's marks is never taken, one that bears none gets ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from offgridflow_pipeline.identity.audit import Action, Json, record
from offgridflow_pipeline.subscriptions.application import apply
from offgridflow_pipeline.subscriptions.consumer import ForeignEventError, fetched, linking, require_ours
from offgridflow_pipeline.subscriptions.gateway import StripeRefusedError

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.settings import Settings
    from offgridflow_pipeline.subscriptions.gateway import StripeGateway
    from offgridflow_pipeline.subscriptions.snapshots import Snapshot

_PREFIX = "cus_"


class RelinkError(ValueError):
    """The customer cannot be the tenant's. The message says why and what helps; the link stays as it was."""


@dataclass(frozen=True, slots=True)
class Relinked:
    """What was done: the customer before (empty without one), and whether the new one bore no marks and got ours."""

    before: str
    marked: bool


def relink(
    database: Database, gateway: StripeGateway, settings: Settings, tenant: str, customer_id: str, now: datetime
) -> Relinked:
    """Make the customer the tenant's, bring plan and state to where Stripe says it is, and note it in the audit log.

    What the customer before had subscribed to has ended for us: a period that was paid stays so, a trial was had.
    Marks that the customer got, and closed pages of the one before, stay so also when a later step fails.

    Raises:
        RelinkError: the customer is not there, somebody else's or the tenant's already, or the one before still pays.
        UnknownTenantError: no tenant has that slug.
        StripeUnavailableError, StripeKeyError, StripeRefusedError: Stripe did not say.
    """
    _require_open(database, tenant)
    row = database.subscriptions.get(tenant)
    before = row.customer_id if row else ""
    _require_another(tenant, customer_id, before)
    _require_free(database, tenant, customer_id)
    found = _found(gateway, customer_id)
    is_bare = not (found.tenant or found.environment or found.service)
    try:
        if not is_bare:
            require_ours(settings, tenant, found)
        if before:
            _require_ended(gateway, settings, tenant, before)
        if is_bare:
            gateway.mark_customer(customer_id, tenant)
        snapshot, fetched_at = fetched(database, gateway, settings, tenant, customer_id)
    except ForeignEventError as error:
        raise RelinkError(
            f"{error} Name the customer of {tenant}; if this is the one, correct its metadata in Stripe's dashboard."
        ) from None
    details: dict[str, Json] = {"by": "command line", "instead_of": before}
    with linking(database, customer_id), database.tenant(tenant) as scope:
        _require_free(database, tenant, customer_id)
        bound = database.within(scope)
        linked = bound.subscriptions.link(tenant, customer_id, instead_of=before)
        if linked != customer_id:
            raise RelinkError(f"{tenant} was linked to {linked} at this moment: look, and ask again if it is wrong.")
        record(bound, tenant, Action.BILLING_CUSTOMER_LINKED, actor="system", target=customer_id, details=details)
        apply(bound, settings, tenant, snapshot, fetched_at, now)
    return Relinked(before, is_bare)


def _require_open(database: Database, tenant: str) -> None:
    if database.tenants.get(tenant).status == "closed":
        raise RelinkError(f"{tenant} is closed: nobody subscribes for it any more.")


def _require_another(tenant: str, customer_id: str, before: str) -> None:
    if not customer_id.startswith(_PREFIX):
        raise RelinkError(f"{customer_id!r} is no customer's id: copy the one that begins with {_PREFIX} from Stripe.")
    if customer_id == before:
        raise RelinkError(
            f"{customer_id} is the customer of {tenant} already: `offgridflow billing reconcile` compares them."
        )


def _require_free(database: Database, tenant: str, customer_id: str) -> None:
    if (holder := database.subscriptions.tenant_of(customer_id)) not in {None, tenant}:
        raise RelinkError(f"{customer_id} is the customer of {holder}: name another one for {tenant}.")


def _found(gateway: StripeGateway, customer_id: str) -> Snapshot:
    """What Stripe says of the customer, who is there."""
    try:
        found = gateway.snapshot(customer_id)
    except StripeRefusedError as error:
        if not error.missing:
            raise
        raise RelinkError(
            f"Stripe does not know {customer_id} by our key: look it up in the account, and in the mode (test or "
            "live), that STRIPE_SECRET_KEY belongs to."
        ) from None
    if found.deleted:
        raise RelinkError(f"{customer_id} was deleted at Stripe: name one that is there.")
    return found


def _require_ended(gateway: StripeGateway, settings: Settings, tenant: str, before: str) -> None:
    """Pass when the customer before pays for no further period; pages on which it could still buy are closed."""
    try:
        snapshot = gateway.snapshot(before)
        require_ours(settings, tenant, snapshot)
        pages = gateway.checkout_pages(before)
    except ForeignEventError:  # it was linked by mistake: what it pays is not this tenant's
        return
    except StripeRefusedError as error:
        if error.missing:
            return
        raise
    if renewing := [one.subscription_id for one in snapshot.subscriptions if one.renews]:
        named = ", ".join(renewing)
        raise RelinkError(
            f"{before}, the customer of {tenant} until now, still subscribes ({named}): cancel this at Stripe first, "
            "or both are paid for."
        )
    for session_id, _, _ in pages.open:
        gateway.close_checkout(session_id)
