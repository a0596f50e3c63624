"""A subscription at localstripe, as far as it goes: customer, subscription, signed webhooks, what follows from them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline.subscriptions.derivation import Derived, derive
from offgridflow_pipeline.subscriptions.event_bodies import parsed
from offgridflow_pipeline.subscriptions.fetched_facts import snapshot_of
from offgridflow_pipeline.subscriptions.gateway import StripeGateway
from offgridflow_pipeline.subscriptions.signatures import SignatureError, verify
from offgridflow_pipeline_tests.counterparts.installation import without
from offgridflow_pipeline_tests.counterparts.localstripe import (
    INSTALL_SCRIPT,
    LocalStripe,
    NotInstalledError,
    localstripe_server,
)
from offgridflow_pipeline_tests.counterparts.scripted_server import Request, Response, always, scripted_server

SECRET = "whsec_local"
FAILING = "4000000000000341"


@pytest.fixture(scope="module")
def server() -> Iterator[LocalStripe]:
    with ExitStack() as stack:
        try:
            running = stack.enter_context(localstripe_server())
        except NotInstalledError:
            without("localstripe", INSTALL_SCRIPT)
        yield running


def card(client: Any, customer: str, number: str) -> None:
    details = {"number": number, "exp_month": 12, "exp_year": 2030, "cvc": "123"}
    method = client.v1.payment_methods.create({"type": "card", "card": details})
    client.v1.payment_methods.attach(method.id, {"customer": customer})
    client.v1.customers.update(customer, {"invoice_settings": {"default_payment_method": method.id}})


def standing(client: Any, customer: str, now: datetime) -> Derived:
    listed = client.v1.subscriptions.list({"customer": customer, "status": "all"}).to_dict(for_json=True)["data"]
    facts = snapshot_of({"id": customer, "metadata": {}}, listed, [], lambda _price: "")
    return derive(facts, now, prices={"basic": "price_basic"}, plan_before="basic")


def until(seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_subscription_from_customer_to_cancellation(server: LocalStripe) -> None:
    settings = Settings(_env_file=None, stripe_secret_key="sk_test_local", stripe_api_url=server.url)
    client = server.client()
    with scripted_server() as inbox:
        inbox.rules.append(always("POST", "/", Response(200)))
        server.send_webhooks_to(inbox.endpoint, SECRET)

        customer = StripeGateway(settings).ensure_customer("t1", organisation="Alder", email="billing@alder.example")
        card(client, customer, "4242424242424242")
        product = client.v1.products.create({"name": "Basic"})
        server.add_plan("price_basic", product.id, 4_900)
        subscription = client.v1.subscriptions.create({"customer": customer, "items": [{"plan": "price_basic"}]})  # type: ignore[typeddict-unknown-key]
        now = datetime.now(UTC)
        assert (standing(client, customer, now).plan, standing(client, customer, now).state) == ("basic", "active")

        client.v1.subscriptions.cancel(subscription.id)
        assert standing(client, customer, now).state == "active"  # the paid period is not over
        assert standing(client, customer, now + timedelta(days=32)).state == "suspended"

        until(lambda: "customer.subscription.deleted" in told_types(inbox.requests))
        for request in inbox.requests:
            check(request)
    told = [parsed(request.body, livemode=False) for request in inbox.requests]
    assert {"customer.created", "customer.subscription.created", "invoice.payment_succeeded"} <= {
        event.event_type for event in told
    }
    assert {event.customer_id for event in told if event.event_type.startswith("customer.")} == {customer}
    assert len({event.external_id for event in told}) == len(told)


def told_types(requests: list[Request]) -> set[str]:
    return {parsed(request.body, livemode=False).event_type for request in list(requests)}


def check(request: Request) -> None:
    header = request.headers["stripe-signature"]
    verify(request.body, header, [SECRET], datetime.now(UTC))
    with pytest.raises(SignatureError):
        verify(request.body[:-1], header, [SECRET], datetime.now(UTC))
    with pytest.raises(SignatureError):
        verify(request.body, header, ["whsec_other"], datetime.now(UTC))


def test_a_first_payment_that_fails_changes_nothing(server: LocalStripe) -> None:
    client = server.client()
    customer = client.v1.customers.create({"email": "poor@alder.example"}).id
    card(client, customer, FAILING)
    product = client.v1.products.create({"name": "Pro"})
    server.add_plan("price_pro", product.id, 19_900)
    made = client.v1.subscriptions.create({"customer": customer, "items": [{"plan": "price_pro"}]})  # type: ignore[typeddict-unknown-key]
    assert made.status == "incomplete"
    assert standing(client, customer, datetime.now(UTC)).subscription is None
