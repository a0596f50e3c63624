"""Webhooks of a world: signed bodies, and every way in which they arrive late, twice, in another order or never.

What happens to an event is decided by a seed and the event's id, so the same world is always delivered the same way.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from offgridflow_pipeline.demo.stripe_counterpart.objects import Document
from offgridflow_pipeline.demo.stripe_counterpart.world import StripeWorld

#: Takes a body and its `Stripe-Signature` header, returns the HTTP status; 0 when nobody answered.
Send = Callable[[bytes, str], int]

#: When a delivery that was not taken is tried again, after the event; Stripe gives up after three days.
RETRY_AFTER = tuple(timedelta(minutes=minutes) for minutes in (0.5, 5, 60, 180, 360, 720, 1440, 2160, 2880))


@dataclass(frozen=True, slots=True)
class DeliveryPlan:
    """Shares (0 to 1) of events that are dropped for good, delivered twice, or delayed by up to `longest_delay`."""

    seed: int = 0
    drop: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0
    longest_delay: timedelta = timedelta(hours=6)
    reorder: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt that was made. `status`: what the receiver answered, 0 for no answer."""

    event_id: str
    event_type: str
    status: int
    at: datetime


@dataclass(slots=True)
class _Waiting:
    event: Document
    due: datetime
    order: float
    attempts: int = 0


class Deliveries:
    """One webhook endpoint of a world. Events count as delivered once it answers 2xx."""

    def __init__(
        self,
        world: StripeWorld,
        send: Send,
        *,
        secrets: Sequence[str],
        plan: DeliveryPlan | None = None,
        types: frozenset[str] | None = None,
        signed_at: Callable[[], datetime] | None = None,
    ) -> None:
        """`types`: events the endpoint wants, else all. `signed_at`: the receiver's clock, else the world's."""
        self._world = world
        self._send = send
        self.secrets = list(secrets)
        self._plan = plan or DeliveryPlan()
        self._types = types
        self._signed_at = signed_at or world.clock.now
        self._waiting: list[_Waiting] = []
        self._taken: set[str] = set()
        self.made: list[Delivery] = []
        self.dropped: list[str] = []
        world.books.endpoints += 1
        world.books.on_event(self._take)

    @property
    def waiting(self) -> int:
        """Deliveries that are still to be made."""
        return len(self._waiting)

    def pump(self) -> int:
        """Make the deliveries that are due by the world's clock; returns how many were taken."""
        now = self._world.clock.now()
        with self._world.lock:
            due = sorted((w for w in self._waiting if w.due <= now), key=lambda waiting: waiting.order)
            self._waiting = [w for w in self._waiting if w.due > now]
        return sum(self._deliver(waiting) for waiting in due)

    def flush(self) -> int:
        """Make every delivery that waits, whenever it is due; what is not taken waits on."""
        with self._world.lock:
            waiting, self._waiting = sorted(self._waiting, key=lambda one: (one.due, one.order)), []
        return sum(self._deliver(one) for one in waiting)

    def signed(self, event: Document) -> tuple[bytes, str]:
        """Body and signature header, as they would be sent now."""
        body = json.dumps(event, indent=2, ensure_ascii=False).encode()
        return body, signature(body, self.secrets, self._signed_at())

    def _take(self, event: Document) -> None:
        if self._types is not None and event["type"] not in self._types:
            event["pending_webhooks"] -= 1
            return
        if self._chance(event, "drop") < self._plan.drop:
            self.dropped.append(event["id"])
            return
        copies = 2 if self._chance(event, "duplicate") < self._plan.duplicate else 1
        for copy in range(copies):
            due = self._world.clock.now()
            if copy or self._chance(event, "delay") < self._plan.delay:
                due += self._plan.longest_delay * self._chance(event, f"by {copy}")
            order = self._chance(event, f"order {copy}") if self._plan.reorder else float(len(self._world.events))
            self._waiting.append(_Waiting(event, due, order))

    def _deliver(self, waiting: _Waiting) -> bool:
        body, header = self.signed(waiting.event)
        status = self._send(body, header)
        now = self._world.clock.now()
        self.made.append(Delivery(waiting.event["id"], waiting.event["type"], status, now))
        if 200 <= status < 300:
            if waiting.event["id"] not in self._taken:
                self._taken.add(waiting.event["id"])
                waiting.event["pending_webhooks"] -= 1
            return True
        if waiting.attempts < len(RETRY_AFTER):
            due = now + RETRY_AFTER[waiting.attempts]
            with self._world.lock:
                self._waiting.append(_Waiting(waiting.event, due, waiting.order, waiting.attempts + 1))
        return False

    def _chance(self, event: Document, question: str) -> float:
        digest = hashlib.sha256(f"{self._plan.seed}:{event['id']}:{question}".encode()).digest()
        return int.from_bytes(digest[:7], "big") / float(1 << 56)


def signature(body: bytes, secrets: Sequence[str], at: datetime) -> str:
    """A `Stripe-Signature` header; several secrets, as while one is being rotated, give several signatures."""
    timestamp = int(at.timestamp())
    signed = f"{timestamp}.".encode() + body
    parts = [f"t={timestamp}"]
    parts += [f"v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}" for secret in secrets]
    return ",".join(parts)


def to_url(url: str, *, timeout_seconds: float = 10.0) -> Send:
    """Sends over HTTP."""

    def send(body: bytes, header: str) -> int:
        request = urllib.request.Request(  # noqa: S310  the address is the one on the command line
            url,
            data=body,
            method="POST",
            headers={"Content-Type": "application/json; charset=utf-8", "Stripe-Signature": header},
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout_seconds) as answer:  # noqa: S310
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            return refused.code
        except OSError:
            return 0

    return send


def system_time() -> datetime:
    """The machine's clock, against which a receiver checks signatures."""
    return datetime.now(UTC)
