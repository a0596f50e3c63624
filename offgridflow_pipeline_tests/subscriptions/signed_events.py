"""Bodies of events as Stripe sends them, and their signatures, made by the official library."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from stripe import WebhookSignature

SECRET = "whsec_of_these_tests"
PREVIOUS_SECRET = "whsec_before_the_rotation"
CREATED = datetime(2026, 11, 20, 12, tzinfo=UTC)


def body(
    event_type: str = "customer.subscription.updated", told: Mapping[str, Any] | None = None, /, **changes: Any
) -> bytes:
    """An event of test mode that tells of the object; a subscription of the customer `cus_1` unless stated."""
    event = {
        "id": f"evt_{uuid.uuid4().hex}",
        "object": "event",
        "api_version": "2026-10-28.endive",
        "created": int(CREATED.timestamp()),
        "data": {"object": told or {"id": "sub_1", "object": "subscription", "customer": "cus_1"}},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": event_type,
    }
    return json.dumps({**event, **changes}).encode()


def header(payload: bytes, secret: str = SECRET, *, at: datetime | None = None, ago: timedelta = timedelta(0)) -> str:
    """The Stripe-Signature header of the bytes, made at that time (now) or so long before it."""
    signed_at = (at or datetime.now(UTC)) - ago
    return str(WebhookSignature.generate_signature_header(payload.decode(), secret, int(signed_at.timestamp())))


def id_of(payload: bytes) -> str:
    """Id of the event."""
    return str(json.loads(payload)["id"])
