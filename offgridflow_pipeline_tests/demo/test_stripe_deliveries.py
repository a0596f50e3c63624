"""Webhooks of the Stripe counterpart: signed as the official library verifies, lost, late, twice, out of order."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stripe

from offgridflow_pipeline.demo.stripe_counterpart import Deliveries, DeliveryPlan, signature, system_time, to_url
from offgridflow_pipeline_tests.counterparts.scripted_server import Response, always, scripted_server
from offgridflow_pipeline_tests.demo.stripe_shop import Shop, shop

SECRET = "whsec_test"


class Inbox:
    """Takes deliveries and answers with `status`."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.bodies: list[bytes] = []
        self.headers: list[str] = []

    def __call__(self, body: bytes, header: str) -> int:
        self.bodies.append(body)
        self.headers.append(header)
        return self.status

    @property
    def ids(self) -> list[str]:
        return [json.loads(body)["id"] for body in self.bodies]


def told(plan: DeliveryPlan, inbox: Inbox, **options: Any) -> tuple[Shop, Deliveries]:
    """A story of about 80 events, delivered by the plan."""
    story = shop()
    deliveries = Deliveries(story.world, inbox, secrets=[SECRET], plan=plan, **options)
    story.subscribe(trial_days=7)
    story.pass_days(150)
    deliveries.pump()
    return story, deliveries


def told_ids(story: Shop) -> list[str]:
    """Events since the endpoint was there: before it the shop was stocked."""
    return [event["id"] for event in story.world.events[len(shop().world.events) :]]


def test_every_event_is_delivered_once_in_order() -> None:
    inbox = Inbox()
    story, deliveries = told(DeliveryPlan(), inbox)
    assert inbox.ids == told_ids(story)
    assert deliveries.waiting == 0
    assert {event["pending_webhooks"] for event in story.world.events} == {0}


def test_the_official_library_verifies_body_and_signature() -> None:
    inbox = Inbox()
    told(DeliveryPlan(), inbox, signed_at=system_time)
    event = stripe.Webhook.construct_event(inbox.bodies[-1], inbox.headers[-1], SECRET, tolerance=300)
    assert event.object == "event"
    assert "Ähre".encode() in b"".join(inbox.bodies)
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(inbox.bodies[-1] + b" ", inbox.headers[-1], SECRET, tolerance=300)
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(inbox.bodies[-1], inbox.headers[-1], "whsec_other", tolerance=300)


def test_a_rotated_secret_gives_two_signatures() -> None:
    moment = datetime.now(UTC)
    header = signature(b"{}", ["whsec_new", "whsec_old"], moment)
    for secret in ("whsec_new", "whsec_old"):
        assert stripe.WebhookSignature.verify_header("{}", header, secret, tolerance=300)


def test_signatures_carry_the_worlds_time_unless_told_otherwise() -> None:
    inbox = Inbox()
    story, _ = told(DeliveryPlan(), inbox)
    assert inbox.headers[-1].startswith(f"t={story.world.clock.timestamp},")


def test_dropped_events_never_arrive_and_are_listed_as_not_delivered() -> None:
    inbox = Inbox()
    story, deliveries = told(DeliveryPlan(seed=3, drop=0.3), inbox)
    deliveries.flush()
    dropped = set(told_ids(story)) - set(inbox.ids)
    assert dropped
    assert dropped == set(deliveries.dropped)
    listed = story.client.v1.events.list({"delivery_success": False, "limit": 100})
    kept = {e["id"] for e in story.world.events if e["created"] > story.world.clock.timestamp - 30 * 86_400}
    assert {event.id for event in listed.auto_paging_iter()} == dropped & kept


def test_duplicates_and_delays_arrive_later_by_the_worlds_clock() -> None:
    inbox = Inbox()
    story, deliveries = told(DeliveryPlan(seed=5, duplicate=0.5, delay=0.5, longest_delay=timedelta(days=200)), inbox)
    at_first = len(inbox.ids)
    assert deliveries.waiting
    assert at_first + deliveries.waiting > len(told_ids(story))
    story.pass_days(100)
    deliveries.pump()
    assert len(inbox.ids) > at_first
    deliveries.flush()
    counts = Counter(inbox.ids)
    assert set(counts) == set(told_ids(story))
    assert set(counts.values()) == {1, 2}


def test_reordered_events_all_arrive_in_another_order_that_the_seed_decides() -> None:
    orders = []
    for seed in (1, 1, 2):
        inbox = Inbox()
        story, _ = told(DeliveryPlan(seed=seed, reorder=True), inbox)
        assert sorted(inbox.ids) == sorted(told_ids(story))
        orders.append(inbox.ids)
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]


def test_what_is_not_taken_is_tried_again_for_three_days() -> None:
    inbox = Inbox(status=503)
    story = shop()
    deliveries = Deliveries(story.world, inbox, secrets=[SECRET], types=frozenset({"checkout.session.completed"}))
    story.subscribe()
    deliveries.pump()
    story.pass_days(0.01)
    deliveries.pump()
    assert [made.status for made in deliveries.made] == [503, 503]
    inbox.status = 200
    story.pass_days(1)
    deliveries.pump()
    assert (len(inbox.ids), deliveries.waiting) == (3, 0)
    inbox.status = 0
    story.subscribe()
    for _ in range(12):
        deliveries.flush()
    assert (len(inbox.ids), deliveries.waiting) == (13, 0)


def test_over_http_the_receivers_status_is_what_counts() -> None:
    with scripted_server() as server:
        server.rules.append(always("POST", "/hooks", Response(204)))
        send = to_url(f"{server.endpoint}/hooks")
        assert send(b"{}", "t=1,v1=x") == 204
        assert server.requests[0].headers["stripe-signature"] == "t=1,v1=x"
        assert to_url(f"{server.endpoint}/elsewhere")(b"{}", "") == 404
        gone = to_url(server.endpoint)
    assert gone(b"{}", "") == 0
