"""What time alone changes: a grace or a paid period that ends, mails of an open payment, the last days of a trial.

The stored snapshots say what becomes of each tenant at a time. Before time takes something away or asks for money,
Stripe is asked once more: the event that it was paid may be lost. Doing it twice does nothing more.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from offgridflow_pipeline.subscriptions.application import advance, apply
from offgridflow_pipeline.subscriptions.consumer import ForeignEventError, fetched
from offgridflow_pipeline.subscriptions.derivation import derive
from offgridflow_pipeline.subscriptions.entitlements import WORKING
from offgridflow_pipeline.subscriptions.gateway import STRIPE_ERRORS
from offgridflow_pipeline.subscriptions.plans import prices
from offgridflow_pipeline.subscriptions.snapshots import Snapshot

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.settings import Settings
    from offgridflow_pipeline.subscriptions.application import Change
    from offgridflow_pipeline.subscriptions.gateway import StripeGateway

#: While a payment is open Stripe is asked once in this time, not with every run: those who paid wait behind it.
ASKED_AGAIN = timedelta(hours=1)

log = logging.getLogger("offgridflow.billing")


@dataclass
class Passed:
    """Customers looked at and what became of them; tenants that wait because Stripe could not say, or that failed."""

    customers: int = 0
    changes: list[Change] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def pass_time(database: Database, settings: Settings, now: datetime, gateway: StripeGateway | None = None) -> Passed:
    """Bring every customer to where it is at `now`; the fault of one keeps no other waiting.

    `gateway`: who is asked first. Without one, what is stored is believed.
    """
    passed = Passed()
    for tenant, customer_id in database.subscriptions.customers().items():
        passed.customers += 1
        try:
            change = pass_time_of(database, settings, tenant, customer_id, now, gateway)
        except (*STRIPE_ERRORS, ForeignEventError) as error:
            log.warning("%s stays as it is until Stripe can be asked: %s", tenant, error)
            passed.waiting.append(tenant)
        except Exception:
            log.exception("Could not bring the subscription of %s forward.", tenant)
            passed.failed.append(tenant)
        else:
            passed.changes += [change] if change is not None else []
    return passed


def pass_time_of(
    database: Database,
    settings: Settings,
    tenant: str,
    customer_id: str,
    now: datetime,
    gateway: StripeGateway | None = None,
) -> Change | None:
    """Bring one customer to where it is at `now`; None when nothing came of it.

    Raises:
        StripeUnavailableError, StripeKeyError, StripeRefusedError, ForeignEventError: Stripe was to be asked and did
            not say; nothing was changed.
    """
    with database.tenant(tenant) as scope:
        bound = database.within(scope)
        row = bound.subscriptions.get(tenant, for_update=True)
        if row is None:
            return None
        snapshot = None if row.snapshot is None else Snapshot.of(row.snapshot)
        before = bound.subscriptions.standing(tenant).state
        if gateway is None or not _is_grave(settings, snapshot, row.fetched_at, before, now):
            return advance(bound, settings, tenant, row, snapshot, now)
    fresh, fetched_at = fetched(database, gateway, settings, tenant, customer_id)
    return apply(database, settings, tenant, fresh, fetched_at, now)


def close_accounts(database: Database, settings: Settings, now: datetime) -> list[str]:
    """Close the accounts whose owners asked for it, without asking Stripe; returns the tenants that were closed."""
    closed = []
    for tenant in database.subscriptions.leaving():
        try:
            change = pass_time_of(database, settings, tenant, "", now)
        except Exception:
            log.exception("Could not close the account of %s.", tenant)  # the others are not kept waiting
            continue
        closed += [tenant] if change is not None else []
    return closed


def _is_grave(
    settings: Settings, snapshot: Snapshot | None, fetched_at: datetime | None, state_before: str, now: datetime
) -> bool:
    """Whether time would end the work, or close the account, or tells people to pay."""
    state = derive(snapshot, now, prices=prices(settings)).state
    is_new = fetched_at is not None and timedelta(0) <= now - fetched_at < ASKED_AGAIN
    return (state == "grace" and not is_new) or (state != state_before and state not in WORKING)
