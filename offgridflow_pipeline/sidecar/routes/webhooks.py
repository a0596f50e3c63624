"""Events that Stripe sends: verified as they came, stored, and only then acknowledged. What follows is the pipeline's.

Whatever is not stored is not acknowledged, so Stripe sends it again, for three days. Body, header and secrets are
written to no log: errors say what is wrong, never what was sent.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from typing_extensions import TypedDict

from offgridflow_pipeline.database.money.external_events import InboxError
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline.sidecar.answering import answers
from offgridflow_pipeline.sidecar.entrance.authorization import public
from offgridflow_pipeline.sidecar.entrance.problems import Problem, not_found, problem_responses
from offgridflow_pipeline.sidecar.run_requests import traceparent
from offgridflow_pipeline.sidecar.services import Services
from offgridflow_pipeline.subscriptions.event_bodies import EventBodyError, WrongModeError, parsed
from offgridflow_pipeline.subscriptions.plans import is_configured, is_live
from offgridflow_pipeline.subscriptions.signatures import SignatureError, verify

log = logging.getLogger("offgridflow.sidecar")
router = APIRouter(tags=["webhooks"])
SIGNATURE_HEADER = "Stripe-Signature"
_EVENT: dict[str, Any] = {
    "id": "evt_1SgK2mCZ6qsJgndJ0a1b2c3d",
    "object": "event",
    "api_version": "2026-10-28.endive",
    "created": 1795000000,
    "livemode": False,
    "type": "invoice.paid",
    "data": {"object": {"id": "in_1SgK2lCZ6qsJgndJ4e5f6a7b", "object": "invoice", "customer": "cus_Tdx1aBcD2eFgH3"}},
}
#: FastAPI must not read the body: it is verified as bytes, before anybody parses it.
_ASKED: dict[str, Any] = {
    "parameters": [
        {
            "name": SIGNATURE_HEADER,
            "in": "header",
            "required": True,
            "description": "Time, and HMAC-SHA-256 of time and body: `t=…,v1=…`.",
            "schema": {
                "type": "string",
                "examples": ["t=1795000000,v1=5257a869e7ecebeda32affa62cdca3fa51cad7e77a0e56f"],
            },
        }
    ],
    "requestBody": {
        "required": True,
        "description": "A snapshot event of Stripe's API, at most 1 MiB.",
        "content": {"application/json": {"schema": {"type": "object"}, "example": _EVENT}},
    },
}


class ReceivedEvent(TypedDict):
    """The event is stored, now or before."""

    received: bool


@router.post(
    "/webhooks/stripe",
    operation_id="receive_stripe_event",
    summary="Take an event of Stripe",
    response_model=ReceivedEvent,
    responses=problem_responses(400, 404, 413, 429, 503),
    openapi_extra=_ASKED,
)
async def receive_stripe_event(services: Annotated[Services, public()], request: Request) -> Response:
    """For Stripe alone: the signature is the credential. 404 where no endpoint of Stripe is set up."""
    secrets = _secrets(services.settings)
    if not secrets:
        raise not_found()
    header = ",".join(request.headers.getlist(SIGNATURE_HEADER))
    try:
        payload = await request.body()
    except ClientDisconnect:
        raise _unreadable("The body ended before it was whole.") from None
    await run_in_threadpool(_store, services, payload, header, secrets, traceparent(request))
    return answers.written(ReceivedEvent, {"received": True}, status=200)


def _secrets(settings: Settings) -> list[str]:
    """Secrets that a signature may be made with: none without Stripe, two while they are rotated."""
    current, previous = (
        found.get_secret_value().strip()
        for found in (settings.stripe_webhook_secret, settings.stripe_webhook_secret_previous)
    )
    if not current or not is_configured(settings):
        return []
    return [current, previous] if previous else [current]


def _store(services: Services, payload: bytes, header: str, secrets: list[str], trace: str | None) -> None:
    """Verify, parse, commit: in this order.

    Raises:
        Problem: 400 when the event is not Stripe's or not for us, 503 when it could not be stored.
    """
    try:
        verify(payload, header, secrets, datetime.now(UTC))
    except SignatureError as error:
        raise Problem(400, "bad_signature", str(error)) from None
    try:
        event = parsed(payload, livemode=is_live(services.settings))
    except WrongModeError as error:
        log.warning("an event of Stripe was refused: %s", error)
        raise Problem(400, "wrong_mode", str(error)) from None
    except EventBodyError as error:
        log.warning("an event of Stripe was refused: %s", error)
        raise _unreadable(str(error)) from None
    try:
        services.database.external_events.add(replace(event, traceparent=trace))
    except InboxError as error:
        log.warning("%s Stripe sends it again.", error)
        raise Problem(
            503, "not_stored", "The event was not stored: send it again.", headers={"Retry-After": "30"}
        ) from None


def _unreadable(detail: str) -> Problem:
    return Problem(400, "unreadable_body", detail)
