"""Billing: plan and state in words, use against limits, what each plan allows, and the ways to Stripe's pages."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, get_args

from fastapi import APIRouter, Query, Response

from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline.identity.rate_limits import limits_of
from offgridflow_pipeline.sidecar import billing
from offgridflow_pipeline.sidecar.entrance.authorization import Authorization, requires
from offgridflow_pipeline.sidecar.entrance.problems import Problem
from offgridflow_pipeline.sidecar.portal.forms import Field, refusal_text
from offgridflow_pipeline.sidecar.portal.rendering import language_for, page, see_other
from offgridflow_pipeline.sidecar.portal.texts import Texts
from offgridflow_pipeline.subscriptions.plans import Format, is_configured, prices, subscribable

if TYPE_CHECKING:
    from collections.abc import Callable

    from offgridflow_pipeline.sidecar.billing import Account

router = APIRouter(include_in_schema=False)
RELOAD_SECONDS = 5
#: How often the page looks for Stripe's confirmation by itself: two minutes.
MAXIMUM_LOOKS = 24
#: Refusals that the page tells beside its forms.
_TOLD = frozenset({
    "already_subscribed", "not_confirmed", "not_subscribed", "plan_not_for_sale", "stripe_refused",
    "stripe_unavailable",
})  # fmt: skip


@router.get("/billing")
def billing_page(
    auth: Annotated[Authorization, requires(Permission.BILLING_READ)],
    done: str = "",
    look: Annotated[int, Query(ge=0, le=MAXIMUM_LOOKS)] = 0,
) -> Response:
    """The subscription as the database knows it; back from Stripe the page looks again until it does."""
    return _billing(auth, waits=done == "checkout", look=look)


@router.post("/billing/checkout")
def checkout_form(auth: Annotated[Authorization, requires(Permission.BILLING_WRITE)], plan: Field = "") -> Response:
    """To Stripe's page on which the plan is bought."""

    def begin() -> str:
        with auth.transaction() as caller:
            billing.require_configured(auth.services.settings)
        return billing.begin_checkout(auth, caller, plan)

    return _led(auth, begin)


@router.post("/billing/portal")
def portal_form(auth: Annotated[Authorization, requires(Permission.BILLING_WRITE)]) -> Response:
    """To Stripe's page with cards, invoices and the subscription."""

    def begin() -> str:
        with auth.transaction() as caller:
            billing.require_configured(auth.services.settings)
        return billing.begin_portal(auth, caller)

    return _led(auth, begin)


@router.post("/billing/closing")
def closing_form(auth: Annotated[Authorization, requires(Permission.TENANT_DELETE)], confirm: Field = "") -> Response:
    """Close the account of the organisation."""

    def close() -> str:
        with auth.transaction() as caller:
            billing.require_configured(auth.services.settings)
        billing.close(auth, caller, confirmed=confirm)
        return "/settings?done=offboarding"

    return _led(auth, close)


def _led(auth: Authorization, act: Callable[[], str]) -> Response:
    """On to where the action leads, or the page with its refusal."""
    try:
        return see_other(act())
    except Problem as problem:
        if problem.code not in _TOLD:
            raise
        return _billing(auth, refused=problem)


def _billing(auth: Authorization, *, waits: bool = False, look: int = 0, refused: Problem | None = None) -> Response:
    settings = auth.services.settings
    configured = is_configured(settings)
    with auth.transaction() as caller:
        account = billing.account(caller, settings, datetime.now(UTC)) if configured else None
    texts = Texts(language_for(auth.request, caller))
    confirmed = account is not None and account.goes_on
    waiting = waits and configured and not confirmed
    looks_again = waiting and look < MAXIMUM_LOOKS
    told = None if refused is None else refusal_text(auth.request, refused.code, caller)
    response = page(
        auth.request,
        "billing.html",
        caller,
        status=200 if refused is None else refused.status,
        account=account,
        next_words=_next(texts, account) if account else "",
        plans=subscribable(),
        for_sale=frozenset(prices(settings)) - {"free"},
        requests={plan.name: limits_of(f"tenant.{plan.name}")[0].quota for plan in subscribable()},
        used=_used(account) if account else [],
        waiting=waiting,
        may_choose=caller.may(Permission.BILLING_WRITE) and not confirmed and not looks_again,
        formats=get_args(Format),
        confirmed=waits and confirmed,
        looks=looks_again,
        refusal=told,
        wrong=told if refused is not None and refused.code == "not_confirmed" else "",
    )
    if looks_again:
        response.headers["Refresh"] = f"{RELOAD_SECONDS}; url=/billing?done=checkout&look={look + 1}"
    return response


def _used(account: Account) -> list[dict[str, Any]]:
    """What plans count: what there is, and of how much."""
    plan, use = account.standing.plan, account.use
    return [
        {"name": name, "used": used, "limit": limit, "over": limit is not None and used > limit}
        for name, used, limit in (
            ("connections", use.connections, plan.connections),
            ("members", use.members, plan.members),
            ("auditors", use.auditors, plan.auditors),
        )
    ]


def _next(texts: Texts, account: Account) -> str:
    """What happens next, in words; empty where nothing does."""
    state = account.standing.state
    words: dict[str, datetime | None] = {
        "grace": account.changes_at if state == "grace" else None,
        "suspended": account.changes_at if state == "suspended" else None,
        "end": account.cancel_at or (account.changes_at if state == "active" else None),
        "trial": account.trial_end,
        "renewal": account.renews_at,
    }
    if account.offboarding_requested_at is not None:
        return texts("billing.next_offboarding", day=texts.day(account.offboarding_requested_at))
    if state == "restricted":
        return texts("billing.next_restricted")
    return next((texts(f"billing.next_{name}", day=texts.day(at)) for name, at in words.items() if at), "")
