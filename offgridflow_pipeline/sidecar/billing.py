"""What a tenant subscribes to and uses, and the ways to Stripe's pages, for the API and the portal.

Nothing here believes what a browser brings back from Stripe: what counts is what the database says.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from offgridflow_pipeline.identity.audit import Action, record
from offgridflow_pipeline.sidecar.entrance.audit_trail import trail
from offgridflow_pipeline.sidecar.entrance.problems import FieldProblem, Problem
from offgridflow_pipeline.subscriptions import room
from offgridflow_pipeline.subscriptions.derivation import derive
from offgridflow_pipeline.subscriptions.entitlements import Standing
from offgridflow_pipeline.subscriptions.plans import is_configured, prices, subscribable
from offgridflow_pipeline.subscriptions.snapshots import Snapshot, SubscriptionFacts

if TYPE_CHECKING:
    from offgridflow_pipeline.settings import Settings
    from offgridflow_pipeline.sidecar.entrance.authorization import Authorization
    from offgridflow_pipeline.sidecar.entrance.caller import Caller
    from offgridflow_pipeline.subscriptions.checkout import Buyer

log = logging.getLogger("offgridflow.sidecar")
#: Statuses of a subscription that goes on: it is changed at Stripe, a second one is not bought.
_GOING_ON = frozenset({"trialing", "active", "past_due", "unpaid", "paused"})
RETRY_SECONDS = "30"


@dataclass(frozen=True, slots=True)
class Account:
    """A tenant's subscription as the database knows it.

    `subscription`: the one that decides, None without any. `changes_at`: when the state changes by time alone.
    """

    standing: Standing
    since: datetime | None
    use: room.Use
    subscription: SubscriptionFacts | None
    changes_at: datetime | None
    is_customer: bool
    offboarding_requested_at: datetime | None

    @property
    def goes_on(self) -> bool:
        """Whether there is a subscription that can be changed, or paid, at Stripe."""
        return self.subscription is not None and self.subscription.status in _GOING_ON

    @property
    def cancel_at(self) -> datetime | None:
        """When it ends, if it was cancelled and has not ended."""
        return self.subscription.cancel_at if self.subscription and self.goes_on else None

    @property
    def trial_end(self) -> datetime | None:
        """When the trial ends that goes on."""
        return self.subscription.trial_end if self.subscription and self.standing.state == "trial" else None

    @property
    def renews_at(self) -> datetime | None:
        """When the next period begins."""
        renews = self.standing.state == "active" and self.goes_on and self.cancel_at is None
        return self.subscription.next_change if self.subscription and renews else None

    @property
    def next_change(self) -> datetime | None:
        """When something changes next, as far as is known."""
        return self.changes_at or self.cancel_at or self.trial_end or self.renews_at

    @property
    def open_invoice_url(self) -> str:
        """Stripe's page of the oldest invoice that waits to be paid; empty without any."""
        return self.subscription.open_invoice_url if self.subscription else ""


def require_configured(settings: Settings) -> None:
    """Pass only where organisations subscribe.

    Raises:
        Problem: 404 `not_configured`.
    """
    if not is_configured(settings):
        raise Problem(404, "not_configured", "This installation has no subscriptions: nothing is limited.")


def account(caller: Caller, settings: Settings, now: datetime) -> Account:
    """The tenant's subscription, in the transaction of the caller."""
    row = caller.database.subscriptions.get(caller.tenant)
    stored = caller.database.subscriptions.standing(caller.tenant)
    snapshot = Snapshot.of(row.snapshot) if row and row.snapshot is not None else None
    derived = derive(
        snapshot, now, prices=prices(settings), plan_before=caller.standing.plan.name,
        offboard_requested_at=row.offboard_requested_at if row else None,
    )  # fmt: skip
    return Account(
        standing=caller.standing,
        since=stored.since,
        use=room.use(caller.database, caller.tenant),
        subscription=derived.subscription,
        changes_at=derived.until if derived.state == caller.standing.state else None,
        is_customer=row is not None,
        offboarding_requested_at=row.offboard_requested_at if row else None,
    )


def begin_checkout(auth: Authorization, caller: Caller, plan: str) -> str:
    """Address of Stripe's page on which the plan is bought; one is open at a time, so that nobody buys twice.

    `caller`'s transaction has ended.

    Raises:
        Problem: 409 for a plan that is not for sale or a subscription that goes on; 502, 503 of Stripe.
    """
    from offgridflow_pipeline.subscriptions.checkout import start_checkout

    wanted = next((known.name for known in subscribable() if known.name == plan), None)
    if wanted is None:
        raise Problem(409, "plan_not_for_sale", "There is no such plan.")
    services, buyer = auth.services, _buyer(auth, caller)
    with _stripe_told():
        return start_checkout(
            services.database, services.stripe, services.settings, caller.tenant, wanted, buyer, now=datetime.now(UTC)
        )


def begin_portal(auth: Authorization, caller: Caller) -> str:
    """Address of Stripe's page with cards, invoices and the subscription; `caller`'s transaction has ended.

    Raises:
        Problem: 409 when the tenant never subscribed; 502, 503 of Stripe.
    """
    from offgridflow_pipeline.subscriptions.checkout import open_portal

    services = auth.services
    with _stripe_told():
        return open_portal(services.database, services.stripe, services.settings, caller.tenant, _buyer(auth, caller))


def close(auth: Authorization, caller: Caller, *, confirmed: str) -> datetime:
    """Let subscriptions end with their paid period and note that the account is to be closed; returns since when.

    `caller`'s transaction has ended. Asked for again, nothing changes.

    Raises:
        Problem: 422 unless the slug was typed, 409 when the tenant never subscribed; 502, 503 of Stripe.
    """
    from offgridflow_pipeline.subscriptions.checkout import end_subscriptions

    if confirmed.strip() != caller.tenant:
        told = f"Type {caller.tenant} to confirm."
        wrong = FieldProblem(pointer="/body/confirm", message=told, code="not_confirmed")
        raise Problem(422, "not_confirmed", told, errors=[wrong])
    with _stripe_told():
        ended = end_subscriptions(auth.services.database, auth.services.stripe, caller.tenant)
    now = datetime.now(UTC)
    with auth.transaction() as again:
        row = again.database.subscriptions.get(again.tenant, for_update=True)
        if row is None:
            raise Problem(409, "not_subscribed", "The organisation never subscribed: ask the operator to close it.")
        if row.offboard_requested_at is not None:
            return row.offboard_requested_at
        again.database.subscriptions.request_offboarding(again.tenant, now)
        record(
            again.database,
            again.tenant,
            Action.BILLING_OFFBOARDING_REQUESTED,
            actor=again.principal,
            target=f"tenant:{again.tenant_id}",
            details={"subscriptions_ended": ended},
            **trail(auth.request),
        )
    return now


def _buyer(auth: Authorization, caller: Caller) -> Buyer:
    from offgridflow_pipeline.subscriptions.checkout import Buyer

    return Buyer(caller.principal, caller.email, **trail(auth.request))


@contextmanager
def _stripe_told() -> Iterator[None]:
    """Faults of Stripe inside the block become problems that say what to do; the log has the cause."""
    from offgridflow_pipeline.subscriptions import gateway
    from offgridflow_pipeline.subscriptions.checkout import CheckoutError

    try:
        yield
    except CheckoutError as error:
        raise Problem(409, error.code, str(error)) from None
    except gateway.StripeUnavailableError as error:
        log.warning("%s", error)
        told = "Stripe cannot be reached. Nothing was changed: try again in a moment."
        raise Problem(503, "stripe_unavailable", told, headers={"Retry-After": RETRY_SECONDS}) from None
    except (gateway.StripeKeyError, gateway.StripeRefusedError):
        log.exception("Stripe does not accept a request of ours")
        told = "Stripe does not accept this. Nothing was changed: ask the operator of this installation."
        raise Problem(502, "stripe_refused", told) from None
