"""A Stripe world with two plans and the official client, for tests that tell a customer's story in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import stripe

from offgridflow_pipeline.demo.stripe_counterpart import (
    API_VERSION,
    GOOD,
    AccountSettings,
    InProcessHTTPClient,
    StripeWorld,
    WorldClock,
)

START = datetime(2026, 1, 31, 9, 0, tzinfo=UTC)
SUCCESS_URL = "https://merchant.test/done?session={CHECKOUT_SESSION_ID}"


def client_of(world: StripeWorld, **options: Any) -> stripe.StripeClient:
    stated: dict[str, Any] = {"stripe_version": API_VERSION, "http_client": InProcessHTTPClient(world), **options}
    return stripe.StripeClient("sk_test_shop", **stated)


def stocked(world: StripeWorld) -> StripeWorld:
    world.offer("basic", "price_basic", 4_900)
    world.offer("pro", "price_pro", 19_900)
    world.offer("yearly", "price_yearly", 49_000, interval="year")
    return world


@dataclass(slots=True)
class Shop:
    world: StripeWorld
    client: stripe.StripeClient
    customer: str

    def checkout(self, price: str = "price_basic", *, trial_days: int = 0, **extra: Any) -> stripe.checkout.Session:
        data: dict[str, Any] = {"metadata": {"tenant": "t1"}}
        if trial_days:
            data["trial_period_days"] = trial_days
        params: dict[str, Any] = {
            "mode": "subscription",
            "customer": self.customer,
            "client_reference_id": "t1",
            "line_items": [{"price": price, "quantity": 1}],
            "success_url": SUCCESS_URL,
            "subscription_data": data,
            **extra,
        }
        return self.client.v1.checkout.sessions.create(params)  # type: ignore[arg-type]

    def subscribe(self, card: str = GOOD.number, **checkout: Any) -> str:
        session = self.checkout(**checkout)
        return str(self.world.complete_checkout(session.id, card)["subscription"])

    def subscription(self, subscription_id: str) -> stripe.Subscription:
        return self.client.v1.subscriptions.retrieve(subscription_id)

    def status(self, subscription_id: str) -> str:
        return self.subscription(subscription_id).status

    def invoices(self, **filters: Any) -> list[stripe.Invoice]:
        return self.client.v1.invoices.list({"customer": self.customer, **filters}).data

    def pass_days(self, days: float) -> None:
        self.world.advance(timedelta(days=days))

    def types_since(self, count: int) -> list[str]:
        return [event["type"] for event in self.world.events[count:]]


def shop(seed: int = 0, **settings: Any) -> Shop:
    world = stocked(StripeWorld(WorldClock(START), seed=seed, settings=AccountSettings(**settings)))
    client = client_of(world)
    customer = client.v1.customers.create(
        {"email": "owner@merchant.test", "name": "Ähre GmbH", "metadata": {"tenant": "t1"}}
    )
    return Shop(world, client, customer.id)
