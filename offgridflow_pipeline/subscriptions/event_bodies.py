"""Bodies of Stripe's events: who and what an event tells of. Nothing else in a body is ever used.

The form is checked as far as the inbox needs it; unknown types are kept as evidence, and ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from offgridflow_pipeline.database.money.external_events import NewEvent

#: Types that may change what a tenant may do, or that somebody must hear of (stripe reference, section 3).
HANDLED = frozenset(
    {
        "charge.dispute.created",
        "checkout.session.completed",
        "customer.deleted",
        "customer.subscription.created",
        "customer.subscription.deleted",
        "customer.subscription.paused",
        "customer.subscription.resumed",
        "customer.subscription.trial_will_end",
        "customer.subscription.updated",
        "customer.updated",
        "invoice.finalized",
        "invoice.paid",
        "invoice.payment_action_required",
        "invoice.payment_failed",
    }
)
_NAME = re.compile(r"[!-~]{1,255}")
#: The end of the year 9999, the last that a time can have.
_LAST_TIME = 253_402_300_799


class EventBodyError(ValueError):
    """The body is no event; the message names the field, never its content."""


class WrongModeError(EventBodyError):
    """A test event where payments are real, or the reverse."""


def parsed(payload: bytes, *, livemode: bool) -> NewEvent:
    """The event of a verified body.

    Raises:
        WrongModeError: the event is of the other mode than `livemode`.
        EventBodyError: the body is not JSON in UTF-8, or no event.
    """
    body = _json(payload)
    if body.get("object") != "event":
        raise EventBodyError("The body is no event: the endpoint takes snapshot events of the API's first version.")
    mode = body.get("livemode")
    if not isinstance(mode, bool):
        raise EventBodyError("The event does not state its livemode.")
    if mode is not livemode:
        raise WrongModeError(f"The event is of {_mode(mode)}, the key of this installation of {_mode(livemode)}.")
    told = _told(body)
    event_type = _name(body, "type")
    return NewEvent(
        external_id=_name(body, "id"),
        event_type=event_type,
        object_id=_id(told.get("id")),
        customer_id=_customer(told),
        api_version=None if body.get("api_version") is None else _name(body, "api_version"),
        event_created=_time(body.get("created")),
        livemode=mode,
        payload=payload,
        payload_sha256=sha256(payload).digest(),
        ignored=event_type not in HANDLED,
    )


def _json(payload: bytes) -> Mapping[str, Any]:
    try:
        body = json.loads(payload.decode())
    except (ValueError, RecursionError):  # without its cause, which quotes the body
        raise EventBodyError("The body is not JSON in UTF-8.") from None
    if not isinstance(body, dict):
        raise EventBodyError("The body is no JSON object.")
    return body


def _told(body: Mapping[str, Any]) -> Mapping[str, Any]:
    data = body.get("data")
    told = data.get("object") if isinstance(data, dict) else None
    if not isinstance(told, dict):
        raise EventBodyError("The event has no data.object.")
    return told


def _customer(told: Mapping[str, Any]) -> str:
    """Customer that the object is, or belongs to: an id, or the whole customer where it was expanded."""
    if told.get("object") == "customer":
        return _id(told.get("id"))
    customer = told.get("customer")
    return _id(customer.get("id") if isinstance(customer, dict) else customer)


def _name(body: Mapping[str, Any], field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise EventBodyError(f"The event's {field} is missing, or not of the right form.")
    return value


def _id(value: object) -> str:
    """The id; objects without one (a balance, an upcoming invoice) have none to keep."""
    return value if isinstance(value, str) and _NAME.fullmatch(value) else ""


def _time(value: object) -> datetime:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LAST_TIME:
        raise EventBodyError("The event's created is missing, or no time.")
    return datetime.fromtimestamp(value, UTC)


def _mode(livemode: bool) -> str:
    return "live mode" if livemode else "test mode"
