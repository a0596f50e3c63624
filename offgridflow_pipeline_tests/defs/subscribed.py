"""An installation whose tenants subscribe: its settings, and a Stripe that is asked without sockets."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from offgridflow_pipeline.connectors.connections import connection, to_row
from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.definitions import defs
from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.defs.sensors.billing import stripe_inbox
from offgridflow_pipeline.demo.stripe_counterpart import (
    Deliveries,
    DeliveryPlan,
    InProcessHTTPClient,
    StripeWorld,
    WorldClock,
)
from offgridflow_pipeline.settings import load_settings
from offgridflow_pipeline.subscriptions import gateway
from offgridflow_pipeline.subscriptions.event_bodies import parsed
from offgridflow_pipeline.subscriptions.gateway import StripeGateway
from offgridflow_pipeline.subscriptions.signatures import verify

SECRET = "whsec_of_the_desk"
PRICES = {plan: f"price_{plan}" for plan in ("basic", "pro", "enterprise")}


def configure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tenants subscribe."""
    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_test_desk")
    for plan, price in PRICES.items():
        monkeypatch.setenv(f"STRIPE_PRICE_{plan.upper()}", price)
    load_settings.cache_clear()


def stand(database: Database, tenant: str, plan: str, state: str = "active") -> None:
    """Put the tenant on a plan and into a state, as if Stripe had said so."""
    database.subscriptions.change_standing(tenant, plan, state, datetime.now(UTC))


class StripeDesk:
    """A world at the machine's time, its webhooks into the inbox, and what Dagster makes of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, database: Database, instance: dg.DagsterInstance) -> None:
        self.database, self.instance = database, instance
        self.world = StripeWorld(WorldClock(datetime.now(UTC).replace(microsecond=0)))
        for number, (plan, price) in enumerate(PRICES.items(), 1):
            self.world.offer(plan, price, 1000 * number)
        client = InProcessHTTPClient(self.world)
        self.gateway = StripeGateway(load_settings(), client)
        monkeypatch.setattr(gateway, "StripeGateway", lambda settings: StripeGateway(settings, client))
        self.deliveries = Deliveries(self.world, self._receive, secrets=[SECRET])
        self.cursor: str | None = None

    def lose_events(self) -> None:
        """From now on no event arrives."""
        self.deliveries._plan = DeliveryPlan(drop=1)

    def subscribe(self, tenant: str, plan: str = "pro") -> str:
        """A customer of the tenant with a paid subscription; returns the customer's id. Events wait to be delivered."""
        customer = self.gateway.ensure_customer(tenant, organisation="A tenant", email="owner@example.org")
        self.database.subscriptions.link(tenant, customer)
        self.world.use_card(customer, "4242424242424242")
        self.world.call("POST", "/v1/subscriptions", customer=customer, items=[{"price": PRICES[plan]}])
        return customer

    def connect(self, tenant: str) -> None:
        """Where bills could be read."""
        wanted = connection({"id": "bills", "kind": "cur2", "uri": "/nowhere"})
        self.database.connections.add(tenant, wanted.id, **to_row(wanted))

    def tick(self) -> dg.SensorResult | dg.SkipReason:
        """One tick of the sensor; its cursor is kept as Dagster does."""
        with dg.build_sensor_context(self.instance, cursor=self.cursor, resources={"platform": Platform()}) as context:
            result = stripe_inbox(context)
        if isinstance(result, dg.SensorResult):
            self.cursor = result.cursor
        return result

    def requests(self) -> list[dg.RunRequest]:
        result = self.tick()
        return list(result.run_requests or ()) if isinstance(result, dg.SensorResult) else []

    def run(self, job: str = "billing_events", **tags: str) -> dg.ExecuteInProcessResult:
        return defs.resolve_job_def(job).execute_in_process(instance=self.instance, tags=tags, raise_on_error=False)

    def standing(self, tenant: str) -> tuple[str, str]:
        found = self.database.subscriptions.standing(tenant)
        return found.plan, found.state

    def actions(self, tenant: str) -> list[str]:
        """Actions of the audit log about billing, oldest first."""
        events = self.database.audit_log.events(tenant, after=0, limit=100)
        return [action for e in events if (action := json.loads(e.body)["action"]).startswith("billing:")]

    def write(self, statement: str, **values: Any) -> None:
        with self.database.admin_engine.begin() as connection:
            connection.execute(sa.text(statement), values)

    def states(self) -> dict[str, int]:
        """Events in the inbox by state, states without one left out."""
        return {state: count for state, count in self.database.external_events.counts().items() if count}

    def _receive(self, body: bytes, header: str) -> int:
        verify(body, header, [SECRET], self.world.clock.now())
        self.database.external_events.add(parsed(body, livemode=False))
        return 200


def metadata_of(result: dg.ExecuteInProcessResult, step: str) -> dict[str, Any]:
    """Metadata of the step's output."""
    (event,) = [e for e in result.all_events if e.is_successful_output and e.step_key == step]
    return {name: value.value for name, value in event.step_output_data.metadata.items()}
