"""The subscription of the organisation: what it allows and uses, and the ways to Stripe's pages.

Cards and invoices are Stripe's; what Stripe says arrives by signed events and is in force once the database says so.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline.identity.rate_limits import limits_of
from offgridflow_pipeline.notifications.invoice_links import counterpart_of, invoice_link
from offgridflow_pipeline.sidecar import billing
from offgridflow_pipeline.sidecar.answering import answers
from offgridflow_pipeline.sidecar.entrance import idempotency
from offgridflow_pipeline.sidecar.entrance.authorization import Authorization, requires
from offgridflow_pipeline.sidecar.entrance.idempotency import idempotency_key, idempotent, replay_of
from offgridflow_pipeline.sidecar.entrance.problems import problem_responses
from offgridflow_pipeline.subscriptions.entitlements import BillingState
from offgridflow_pipeline.subscriptions.plans import Plan, PlanName

if TYPE_CHECKING:
    from offgridflow_pipeline.sidecar.billing import Account

router = APIRouter(tags=["billing"])


class PlanLimits(BaseModel):
    """What the plan allows; null = no limit."""

    connections: int | None
    history_days: int | None = Field(description="How far back bills are read.")
    members: int | None
    auditors: int | None
    formats: list[str] = Field(description="Formats that reports are made in.")
    api: bool = Field(description="Whether API keys work.")
    requests_per_minute: int = Field(description="Of all people and keys together.")


class PlanUse(BaseModel):
    """What is used of it: connections that are not paused; members and auditors with those invited."""

    connections: int
    members: int
    auditors: int
    invited: int = Field(description="How many of the members and auditors have not come yet.")


class Billing(BaseModel):
    """The subscription as it is in force."""

    plan: PlanName
    state: BillingState = Field(
        description="trial, active, grace: work goes on. restricted: read, download, pay. suspended: read and export."
    )
    since: datetime | None = Field(description="When the state began; null: nothing was ever subscribed to.")
    limits: PlanLimits
    use: PlanUse
    next_change: datetime | None = Field(
        description="When the state changes, the trial or the paid period ends, as far as it is known."
    )
    trial_end: datetime | None
    cancel_at: datetime | None = Field(description="When it ends: it was cancelled, and goes on until then.")
    open_invoice_url: str | None = Field(description="Stripe's page of the oldest invoice that waits to be paid.")
    offboarding_requested_at: datetime | None = Field(description="When an owner asked to close the account.")


class NewCheckout(BaseModel):
    """The plan to subscribe to."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"plan": "pro"}]})

    plan: Literal["free", "basic", "pro", "enterprise"]


class PaymentPage(BaseModel):
    """A page of Stripe: open it in the browser of who pays."""

    url: str


class Closing(BaseModel):
    """Confirmation that the organisation is to be closed."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"confirm": "alder"}]})

    confirm: str = Field(max_length=63, description="The slug of the organisation, typed out.")


class ClosingRequested(BaseModel):
    """The account is being closed; within minutes nothing can be read any more."""

    tenant: str
    requested_at: datetime


@router.get(
    "/billing",
    operation_id="get_billing",
    summary="Plan, state, limits and use",
    response_model=Billing,
    responses=problem_responses(401, 403, 404, 429),
)
def get_billing(auth: Annotated[Authorization, requires(Permission.BILLING_READ)]) -> Response:
    """404 `not_configured` where the installation has no subscriptions: there nothing is limited."""
    settings = auth.services.settings
    with auth.transaction() as caller:
        billing.require_configured(settings)
        found = billing.account(caller, settings, datetime.now(UTC))
    return answers.read(Billing, _shown(found, counterpart_of(settings)))


@router.post(
    "/billing/checkout",
    operation_id="create_checkout",
    summary="Subscribe to a plan",
    status_code=201,
    response_model=PaymentPage,
    responses=problem_responses(401, 403, 404, 429, 502, 503, *idempotency.STATUSES),
)
def create_checkout(
    auth: Annotated[Authorization, requires(Permission.BILLING_WRITE)],
    body: NewCheckout,
    _key: Annotated[str | None, idempotency_key()] = None,
) -> Response:
    """A page of Stripe on which the plan is bought. One who has a subscription changes it at Stripe instead."""
    with auth.transaction() as caller:
        billing.require_configured(auth.services.settings)
        replayed = replay_of(caller, auth.request, body)
    if replayed is not None:
        return replayed
    url = billing.begin_checkout(auth, caller, body.plan)
    with auth.transaction() as caller, idempotent(caller, auth.request, body) as once:
        return once.replay or once.keep(_page(url))


@router.post(
    "/billing/portal",
    operation_id="create_billing_portal",
    summary="Pay, change or cancel at Stripe",
    status_code=201,
    response_model=PaymentPage,
    responses=problem_responses(401, 403, 404, 409, 429, 502, 503),
)
def create_billing_portal(auth: Annotated[Authorization, requires(Permission.BILLING_WRITE)]) -> Response:
    """A page of Stripe with cards, invoices and the subscription. It works for minutes and is kept nowhere.

    So each request makes another one, and no `Idempotency-Key` is asked for.
    """
    with auth.transaction() as caller:
        billing.require_configured(auth.services.settings)
    return _page(billing.begin_portal(auth, caller))


@router.post(
    "/tenant/offboarding",
    operation_id="close_tenant",
    summary="Close the account of the organisation",
    status_code=202,
    response_model=ClosingRequested,
    responses=problem_responses(401, 403, 404, 409, 422, 429, 502, 503),
)
def close_tenant(auth: Annotated[Authorization, requires(Permission.TENANT_DELETE)], body: Closing) -> Response:
    """Ends the subscription with the period that is paid, and closes the organisation for everybody at once.

    Download what must be kept before: nothing is read or downloaded afterwards. Asked for again, nothing changes.
    """
    with auth.transaction() as caller:
        billing.require_configured(auth.services.settings)
    at = billing.close(auth, caller, confirmed=body.confirm)
    return answers.written(ClosingRequested, ClosingRequested(tenant=caller.tenant, requested_at=at), status=202)


def _page(url: str) -> Response:
    return answers.written(PaymentPage, PaymentPage(url=url), headers={"location": url})


def _shown(found: Account, counterpart: str) -> Billing:
    plan, use = found.standing.plan, found.use
    return Billing(
        plan=plan.name,
        state=found.standing.state,
        since=found.since,
        limits=_limits(plan),
        use=PlanUse(connections=use.connections, members=use.members, auditors=use.auditors, invited=use.invited),
        next_change=found.next_change,
        trial_end=found.trial_end,
        cancel_at=found.cancel_at,
        open_invoice_url=invoice_link(found.open_invoice_url, counterpart) or None,
        offboarding_requested_at=found.offboarding_requested_at,
    )


def _limits(plan: Plan) -> PlanLimits:
    return PlanLimits(
        connections=plan.connections,
        history_days=plan.history_days,
        members=plan.members,
        auditors=plan.auditors,
        formats=sorted(plan.formats),
        api=plan.has_api,
        requests_per_minute=limits_of(f"tenant.{plan.name}")[0].quota,
    )
