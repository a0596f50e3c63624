"""Figures of billing: counted from Stripe's events and the tenants' states, without a name of either."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256

import pytest

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.money.external_events import NewEvent
from offgridflow_pipeline.subscriptions.entitlements import EVERY_STATE
from offgridflow_pipeline.telemetry import names
from offgridflow_pipeline_tests.telemetry.conftest import Serve, execute, value

FAILURES = "offgridflow_billing_payment_failures_total"
AGE = "offgridflow_billing_inbox_age_seconds"
DEPTH = 'offgridflow_billing_inbox_depth{{state="{}"}}'
TENANTS = 'offgridflow_billing_tenants{{state="{}"}}'


@pytest.fixture
def receive(database: Database) -> Iterator[Callable[[str], str]]:
    """Puts an event of the type into the inbox, as the webhook does; they are gone after the test."""
    received: list[str] = []

    def add(event_type: str) -> str:
        received.append(f"evt_{uuid.uuid4().hex}")
        database.external_events.add(
            NewEvent(
                external_id=received[-1],
                event_type=event_type,
                object_id="in_1",
                customer_id="cus_1",
                api_version="2026-10-28.endive",
                event_created=datetime.now(UTC),
                livemode=False,
                payload=b"{}",
                payload_sha256=sha256(b"{}").digest(),
            )
        )
        return received[-1]

    yield add
    execute(database, "delete from ogf.external_events where external_id = any(:ids)", ids=received)


def test_a_failed_payment_is_counted_once_whatever_becomes_of_its_event(
    database: Database, serve: Serve, receive: Callable[[str], str]
) -> None:
    served = serve()
    before = value(served.scrape(), FAILURES)
    receive("invoice.paid")
    failed = receive("invoice.payment_failed")
    assert value(served.scrape(), FAILURES) - before == 1
    execute(
        database,
        "update ogf.external_events set state = 'done', settled_at = clock_timestamp(), payload = null"
        " where external_id = :id",
        id=failed,
    )
    assert value(served.scrape(), FAILURES) - before == 1


def test_the_inbox_tells_how_much_waits_how_long_and_what_was_given_up(
    database: Database, serve: Serve, receive: Callable[[str], str]
) -> None:
    served = serve()
    before = served.scrape()
    waiting, dead = receive("invoice.paid"), receive("invoice.paid")
    execute(
        database,
        "update ogf.external_events set received_at = clock_timestamp() - interval '40 days' where external_id = :id",
        id=waiting,
    )
    execute(
        database,
        "update ogf.external_events set received_at = clock_timestamp() - interval '90 days', state = 'dead',"
        " settled_at = clock_timestamp() where external_id = :id",
        id=dead,
    )
    text = served.scrape()
    for state, more in (("pending", 1), ("processing", 0), ("dead", 1)):
        assert value(text, DEPTH.format(state)) - value(before, DEPTH.format(state)) == more, state
    assert value(text, AGE) == pytest.approx(40 * 86_400, abs=60)


def test_tenants_are_counted_by_billing_state_and_closed_ones_not_at_all(
    database: Database, serve: Serve, new_tenant: Callable[[], str]
) -> None:
    served = serve()
    before = served.scrape()
    late, closed, _untouched = new_tenant(), new_tenant(), new_tenant()
    for tenant in (late, closed):
        execute(
            database,
            "insert into ogf.tenant_states (tenant_id, billing_state) values (:id, 'grace')"
            " on conflict (tenant_id) do update set billing_state = 'grace'",
            id=database.tenants.get(tenant).tenant_id,
        )
    execute(database, "update ogf.tenants set status = 'closed' where slug = :slug", slug=closed)
    text = served.scrape()
    for state, more in (("grace", 1), ("active", 1), ("suspended", 0)):
        assert value(text, TENANTS.format(state)) - value(before, TENANTS.format(state)) == more, state
    assert late not in text


def test_every_figure_is_exported_as_zero_before_stripe_has_said_anything(serve: Serve) -> None:
    text = serve().scrape()
    for series in (
        FAILURES,
        AGE,
        *map(DEPTH.format, ("pending", "processing", "dead")),
        *map(TENANTS.format, EVERY_STATE),
    ):
        assert value(text, series) >= 0


def test_the_states_that_are_counted_are_those_that_tenants_can_be_in() -> None:
    assert names.BILLING_STATES == EVERY_STATE
