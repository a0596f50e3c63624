"""What all parts of a Stripe world share: clock, objects, settings, and the events that every change leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from offgridflow_pipeline.demo.stripe_counterpart.cards import Card, card_of
from offgridflow_pipeline.demo.stripe_counterpart.clock import WorldClock
from offgridflow_pipeline.demo.stripe_counterpart.errors import missing
from offgridflow_pipeline.demo.stripe_counterpart.objects import Document, Objects, copied

#: The version whose layout this counterpart has; it refuses to be asked in another.
API_VERSION = "2026-10-28.endive"

AfterLastRetry = Literal["unpaid", "canceled", "past_due"]


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """What the merchant's account says. `retry_days`: when a failed charge is tried again, after its first failure.

    `draft_for`: how long an invoice of a renewal stays a draft before it is finalised and charged.
    """

    retry_days: tuple[int, ...] = (1, 3, 5, 7, 9, 11, 13, 14)
    after_last_retry: AfterLastRetry = "unpaid"
    draft_for: timedelta = timedelta(hours=1)
    currency: str = "eur"
    hosted_url: str = "https://stripe.test"


@dataclass(frozen=True, slots=True)
class Cause:
    """The API request that a change follows from."""

    request_id: str
    idempotency_key: str | None


class Books:
    """Clock, objects and events of one world."""

    def __init__(self, clock: WorldClock, seed: int, settings: AccountSettings) -> None:
        self.clock = clock
        self.objects = Objects(seed)
        self.settings = settings
        self.hosted_url = settings.hosted_url
        self.events: list[Document] = []
        self.cause: Cause | None = None
        #: Webhook endpoints that have not yet taken an event; set by who delivers.
        self.endpoints = 0
        self._listeners: list[Callable[[Document], None]] = []

    def on_event(self, listener: Callable[[Document], None]) -> None:
        """Tell the listener of every event, as it happens."""
        self._listeners.append(listener)

    def emit(self, event_type: str, document: Document, previous: Document | None = None) -> Document:
        """Record an event with the object as it is now; `previous`: the values that an update replaced."""
        data: Document = {"object": copied(document)}
        if previous is not None:
            data["previous_attributes"] = previous
        cause = self.cause
        event = self.objects.add(
            {
                "id": self.objects.new_id("event"),
                "object": "event",
                "api_version": API_VERSION,
                "created": self.clock.timestamp,
                "data": data,
                "livemode": False,
                "pending_webhooks": self.endpoints,
                "request": {
                    "id": cause.request_id if cause else None,
                    "idempotency_key": cause.idempotency_key if cause else None,
                },
                "type": event_type,
            }
        )
        self.events.append(event)
        for listener in self._listeners:
            listener(event)
        return event

    @contextmanager
    def changing(self, document: Document, event_type: str) -> Iterator[Document]:
        """Change an object and record one event, unless nothing changed."""
        before = copied(document)
        yield document
        replaced = {name: before.get(name) for name in document if document[name] != before.get(name)}
        if replaced:
            self.emit(event_type, document, replaced)

    def customer(self, customer_id: str) -> Document:
        """A customer that was not deleted.

        Raises:
            ApiError: 404, there is none.
        """
        found = self.objects.get("customer", customer_id)
        if found.get("deleted"):
            raise missing("customer", customer_id)
        return found

    def card(self, payment_method_id: str | None) -> Card | None:
        """The card behind a payment method."""
        if payment_method_id is None:
            return None
        method = self.objects.get("payment_method", payment_method_id)
        return card_of(method["metadata"]["test_card"])


def changed_metadata(document: Document, form: Any) -> None:
    """Merge `metadata` of a request into an object: an empty value removes its key, an empty text all keys."""
    stated = form.get("metadata")
    if stated is None:
        return
    merged = {**document["metadata"], **stated} if isinstance(stated, dict) else {}
    document["metadata"] = {name: str(value) for name, value in merged.items() if value != ""}
