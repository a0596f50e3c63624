"""A world in which organisations subscribe: the app with prices and a key, and Stripe's counterpart in its process."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from offgridflow_pipeline.demo.stripe_counterpart.books import AccountSettings
from offgridflow_pipeline.demo.stripe_counterpart.clock import WorldClock
from offgridflow_pipeline.demo.stripe_counterpart.in_process import InProcessHTTPClient
from offgridflow_pipeline.demo.stripe_counterpart.world import StripeWorld
from offgridflow_pipeline.subscriptions.application import apply
from offgridflow_pipeline.subscriptions.gateway import StripeGateway
from offgridflow_pipeline_tests.sidecar.world import World

AMOUNTS = {"basic": 4900, "pro": 19_900, "enterprise": 99_000}
SETTINGS = {
    "stripe_secret_key": "sk_test_of_the_counterpart",
    "stripe_webhook_secret": "whsec_of_the_counterpart",
    "stripe_trial_days": 14,
    **{f"stripe_price_{plan}": f"price_{plan}" for plan in AMOUNTS},
}
#: Pages of invoices are shown when they lie at Stripe itself.
HOSTED_AT = "https://invoice.stripe.com"
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class SubscribedWorld(World):
    """The app, and `stripe`, in which customers act."""

    values: dict[str, Any] = field(default_factory=lambda: dict(SETTINGS))
    stripe: StripeWorld = field(init=False)
    gateway: StripeGateway = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.stripe = StripeWorld(WorldClock(datetime.now(UTC)), settings=AccountSettings(hosted_url=HOSTED_AT))
        for plan, amount in AMOUNTS.items():
            self.stripe.offer(plan, f"price_{plan}", amount)
        self.gateway = StripeGateway(self.settings, InProcessHTTPClient(self.stripe))
        self.app.state.services.stripe = self.gateway

    def tenant_on(self, plan: str, state: str = "active") -> str:
        """A new tenant on a plan, in a billing state: as the database says, whatever Stripe would."""
        tenant = self.tenant()
        self.put(tenant, plan, state)
        return tenant

    def put(self, tenant: str, plan: str, state: str = "active") -> None:
        """Let the database say so."""
        self.operator.subscriptions.change_standing(tenant, plan, state, LONG_AGO)

    def buy(self, url: str) -> None:
        """The customer pays on Stripe's page with a card that works."""
        sessions = [found for found in self.stripe.books.objects.of("checkout.session") if found["url"] == url]
        self.stripe.complete_checkout(sessions[0]["id"])

    def bring(self, tenant: str, later: timedelta = timedelta(0)) -> None:
        """What the pipeline does after an event: fetch, and apply; so much later than it is at Stripe."""
        now = self.stripe.clock.now() + later
        row = self.operator.subscriptions.get(tenant)
        assert row is not None
        snapshot = self.gateway.snapshot(row.customer_id)
        apply(self.operator, self.settings, tenant, snapshot, now, now)
