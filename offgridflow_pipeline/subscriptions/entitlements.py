"""Entitlements: whether a tenant may do something now. One function, `check`, for sidecar, schedules and sensors.

Two things decide: the billing state (which activities go on) and the plan (how much of them). What was made is never
taken away: reading and downloading end with the tenant alone (stripe reference, section 5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Literal, get_args

from offgridflow_pipeline.data_rows import data_rows
from offgridflow_pipeline.subscriptions.plans import Format, Plan, is_configured, plan_of

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.settings import Settings

BillingState = Literal["trial", "active", "grace", "restricted", "suspended", "offboarded"]
EVERY_STATE: tuple[BillingState, ...] = get_args(BillingState)
#: States in which work goes on, within the limits of the plan.
WORKING: frozenset[BillingState] = frozenset({"trial", "active", "grace"})


class Entitlement(StrEnum):
    """What a tenant may make, or have so many of."""

    CONNECTIONS = "connections"
    MEMBERS = "members"
    AUDITORS = "auditors"
    HISTORY_DAYS = "history_days"
    KEYS = "keys"
    SYNCS = "syncs"
    RUNS = "runs"
    REPORTS = "reports"
    UPLOADS = "uploads"
    CHANGES = "changes"
    DATAPACK = "datapack"
    PDF = "pdf"
    WORKBOOK = "workbook"
    IXBRL = "ixbrl"
    XBRL = "xbrl"


@dataclass(frozen=True, slots=True)
class Standing:
    """Plan and billing state of a tenant."""

    plan: Plan
    state: BillingState

    @property
    def works(self) -> bool:
        """Whether syncs, runs and reports go on."""
        return self.state in WORKING

    @property
    def is_limited(self) -> bool:
        """Whether the tenant subscribes at all: not where the installation has no Stripe."""
        return self.plan.name != "unlimited"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether it may be; `reason` says why not and what helps, `limit` is the number that was met, if one was.

    `code` is the cause for machines and translations: a billing state, an entitlement that has a number, `formats`
    or `api`.
    """

    allowed: bool
    reason: str = ""
    limit: int | None = None
    code: str = ""


UNLIMITED = Standing(plan_of("unlimited"), "active")
_ALLOWED = Decision(allowed=True)
_FORMATS: frozenset[str] = frozenset(get_args(Format))
_PAUSED_BECAUSE = {
    "restricted": "The subscription is not paid: what was made can be read and downloaded, nothing new is made. "
    "Pay under Billing and everything goes on.",
    "suspended": "The subscription has ended: reports can be read and exported for 90 days. Subscribe again under "
    "Billing and everything goes on.",
    "offboarded": "The account of the organisation is closed.",
}
#: Entitlements that plans limit by a number, named as the plan's own field, and what one and several are called.
COUNTED: Mapping[Entitlement, tuple[str, str]] = {
    Entitlement.CONNECTIONS: ("connection", "connections"),
    Entitlement.MEMBERS: ("member", "members"),
    Entitlement.AUDITORS: ("auditor", "auditors"),
    Entitlement.HISTORY_DAYS: ("day of history", "days of history"),
}
#: Causes of a refusal: what `Decision.code` may be.
CODES: tuple[str, ...] = ("restricted", "suspended", "offboarded", *map(str, COUNTED), "formats", "api")


def standing(settings: Settings, plan: str, state: str) -> Standing:
    """Standing from what the database holds; without Stripe everything is unlimited.

    Raises:
        LookupError: there is no such plan.
    """
    if not is_configured(settings):
        return UNLIMITED
    return _standing(plan, state)


@cache
def _standing(plan: str, state: str) -> Standing:
    found = next((known for known in EVERY_STATE if known == state), None)
    if found is None:
        raise LookupError(f"There is no billing state {state!r}.")
    return Standing(plan_of(plan), found)


def standing_of(database: Database, settings: Settings, tenant: str) -> Standing:
    """Standing of the tenant now; one read, none without Stripe.

    Raises:
        UnknownTenantError: no tenant has that slug.
    """
    if not is_configured(settings):
        return UNLIMITED
    found = database.subscriptions.standing(tenant)
    return standing(settings, found.plan, found.state)


def check(standing: Standing, entitlement: Entitlement, amount: int = 1) -> Decision:
    """Whether the tenant may.

    `amount` is how many there would then be (connections, members, auditors), or how many days back a day lies
    (history_days); other entitlements ask nothing of it.
    """
    if not standing.works:
        return _paused(standing.state)
    plan = standing.plan
    if entitlement in COUNTED:
        limit: int | None = getattr(plan, entitlement)
        if limit is not None and amount > limit:
            return _beyond(plan, f"{limit} {COUNTED[entitlement][limit != 1]}", entitlement, limit)
    elif entitlement in _FORMATS and entitlement not in plan.formats:
        return _beyond(plan, f"reports as {', '.join(sorted(plan.formats))}", "formats")
    elif entitlement is Entitlement.KEYS and not plan.has_api:
        return _beyond(plan, "no API", "api")
    return _ALLOWED


def may_still(standing: Standing, permission: str, *, machine: bool) -> Decision:
    """Whether a permission holds at all, for a person or a machine (an API key or its token).

    Where the plan has no API, keys of a larger plan before it still export what was made.
    """
    if not standing.works and permission not in _kept(standing.state, machine):
        return _paused(standing.state)
    if machine and not standing.plan.has_api and permission not in _kept("suspended", machine):
        return _beyond(standing.plan, "no API", "api")
    return _ALLOWED


def is_open(standing: Standing) -> Decision:
    """Whether the organisation's account is open: closed ones have nothing to show to anybody."""
    return _paused(standing.state) if standing.state == "offboarded" else _ALLOWED


@cache
def _kept(state: BillingState, machine: bool) -> frozenset[str]:
    """Permissions that hold in a state in which no work goes on (`data/states.csv`)."""
    column = f"{state}_key" if machine else state
    return frozenset(row["permission"] for row in data_rows(__file__, "states.csv") if row[column] == "x")


def _paused(state: BillingState) -> Decision:
    return Decision(allowed=False, reason=_PAUSED_BECAUSE[state], code=state)


def _beyond(plan: Plan, allows: str, code: str, limit: int | None = None) -> Decision:
    reason = f"The {plan.name} plan allows {allows}: choose a larger one under Billing."
    return Decision(allowed=False, reason=reason, limit=limit, code=str(code))
