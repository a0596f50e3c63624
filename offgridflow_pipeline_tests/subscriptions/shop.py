"""A Stripe world, a tenant that is its customer, and the way of its events through our inbox."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.money.external_events import InboxEvent
from offgridflow_pipeline.demo.stripe_counterpart import GOOD, InProcessHTTPClient, StripeWorld
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline.subscriptions.consumer import Drained, drain
from offgridflow_pipeline.subscriptions.event_bodies import parsed
from offgridflow_pipeline.subscriptions.gateway import StripeGateway
from offgridflow_pipeline.subscriptions.passage import pass_time

PLANS = ("free", "basic", "pro", "enterprise")
BUDGET = timedelta(minutes=5)


def settings(**changes: Any) -> Settings:
    values = {
        "environment": "test",
        "public_url": "https://ogf.example",
        "stripe_secret_key": "sk_test_of_tests",
        **{f"stripe_price_{plan}": f"price_{plan}" for plan in PLANS},
        **changes,
    }
    return Settings(_env_file=None, **values)


@dataclass
class Shop:
    """One account at Stripe, and our database that listens to it."""

    database: Database
    settings: Settings = field(default_factory=settings)
    world: StripeWorld = field(default_factory=lambda: StripeWorld(seed=uuid.uuid4().int))
    _told: int = 0

    def __post_init__(self) -> None:
        self.gateway = StripeGateway(self.settings, InProcessHTTPClient(self.world))
        for plan, amount in zip(PLANS, (0, 4900, 19900, 99900), strict=True):
            self.world.offer(plan, f"price_{plan}", amount)

    def customer(self, tenant: str, card: str | None = GOOD.token) -> str:
        """Make the tenant a customer with a card."""
        made = self.gateway.ensure_customer(tenant, organisation="Alder", email=f"{tenant}@alder.example")
        self.database.subscriptions.link(tenant, made)
        if card:
            self.world.use_card(made, card)
        return made

    def subscribe(self, customer: str, plan: str = "pro", **form: Any) -> str:
        made = self.world.call(
            "POST", "/v1/subscriptions", customer=customer, items=[{"price": f"price_{plan}"}], **form
        )
        return str(made["id"])

    def new_events(self) -> list[dict[str, Any]]:
        """What happened since this was last asked."""
        found = self.world.events[self._told :]
        self._told += len(found)
        return list(found)

    def deliver(self, events: Iterable[dict[str, Any]] | None = None) -> int:
        """Put events into the inbox, as the webhook does; all new ones by default."""
        wanted = self.new_events() if events is None else events
        return sum(self.database.external_events.add(parsed(json.dumps(e).encode(), livemode=False)) for e in wanted)

    def consume(self) -> Drained:
        return drain(self.database, self.gateway, self.settings, self.world.clock.now(), budget=BUDGET)

    def listen(self, **time: float) -> Drained:
        """Let time pass at Stripe, then deliver and consume what happened, then let it pass here."""
        self.world.advance(timedelta(**time))
        self.deliver()
        drained = self.consume()
        pass_time(self.database, self.settings, self.world.clock.now(), self.gateway)
        return drained


def standing(database: Database, tenant: str) -> tuple[str, str]:
    """Plan and state."""
    found = database.subscriptions.standing(tenant)
    return found.plan, found.state


def mails(database: Database, tenant: str) -> Counter[str]:
    """How many mails of each template the tenant has, dunning mails by their day."""
    return Counter(
        f"{mail.template}.{mail.vars['day']}" if mail.template == "payment_failed" else mail.template
        for mail in database.outbox.list(tenant)
    )


def audited(database: Database, tenant: str) -> list[tuple[str, str, str]]:
    """Changes of plan and state in the audit log: action, from, to."""
    found = []
    for body in bodies(database, tenant):
        details = body["details"]
        if "from" in details:
            found.append((body["action"].rpartition("billing:")[2], details["from"], details["to"]))
    return found


def bodies(database: Database, tenant: str) -> list[dict[str, Any]]:
    """All events of the tenant's audit log, oldest first."""
    return [json.loads(event.body) for event in database.audit_log.events(tenant, after=0, limit=10_000)]


def inbox(database: Database) -> dict[str, InboxEvent]:
    """All events in the inbox by id."""
    states = ("pending", "processing", "done", "ignored", "dead")
    return {event.external_id: event for event in database.external_events.newest(states, 10_000)}
