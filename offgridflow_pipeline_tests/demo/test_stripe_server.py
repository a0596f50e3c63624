"""The Stripe counterpart over HTTP: the official client, the hosted pages, the program with its webhooks."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import requests
import stripe

from offgridflow_pipeline.demo.stripe_counterpart import API_VERSION, DECLINED, GOOD, Failure, StripeServer
from offgridflow_pipeline_tests.counterparts.scripted_server import Response, always, scripted_server
from offgridflow_pipeline_tests.demo.stripe_shop import Shop, shop

CARD = {"card_number": "4242 4242 4242 4242", "card_expiry": "12 / 30", "card_cvc": "123"}


@pytest.fixture
def story() -> Iterator[Shop]:
    told = shop()
    with StripeServer(told.world) as server:
        told.client = over_http(server.url)
        yield told


def over_http(url: str, **options: int) -> stripe.StripeClient:
    return stripe.StripeClient("sk_test_shop", stripe_version=API_VERSION, base_addresses={"api": url}, **options)


def post(url: str, **fields: str) -> requests.Response:
    return requests.post(url, data=fields, timeout=10, allow_redirects=False)


def get(url: str) -> str:
    return requests.get(url, timeout=10).text


def test_the_official_client_works_over_http(story: Shop) -> None:
    assert story.client.v1.customers.retrieve(story.customer).name == "Ähre GmbH"
    session = story.checkout()
    assert str(session.url).startswith("http://127.0.0.1:")
    with pytest.raises(stripe.InvalidRequestError):
        story.client.v1.subscriptions.retrieve("sub_none")


def test_a_lost_connection_reaches_the_official_client(story: Shop) -> None:
    url = story.world.books.hosted_url
    story.world.fail(Failure(0))
    with pytest.raises(stripe.APIConnectionError):
        over_http(url, max_network_retries=0).v1.customers.retrieve(story.customer)


def test_the_checkout_page_takes_a_card_and_leads_back(story: Shop) -> None:
    session = story.checkout(trial_days=14, cancel_url="https://merchant.test/no")
    url = str(session.url)
    html = get(url)
    assert 'lang="en"' in html
    assert "OffGridFlow Basic: 49.00 EUR per month" in html
    assert "14 days free" in html
    fields = set(re.findall(r'<input id="(\w+)"', html))
    assert fields == set(re.findall(r'<label for="(\w+)"', html)) == set(CARD)
    answer = post(url, **CARD)
    assert (answer.status_code, answer.headers["Location"]) == (
        303,
        f"https://merchant.test/done?session={session.id}",
    )
    assert story.client.v1.checkout.sessions.retrieve(session.id).status == "complete"
    assert requests.get(url, timeout=10).status_code == 410


def test_the_checkout_page_tells_that_a_card_was_declined(story: Shop) -> None:
    session = story.checkout()
    for number, text in ((DECLINED.number, "Your card was declined."), ("1234", "Your card number is incorrect.")):
        answer = post(str(session.url), **{**CARD, "card_number": number})
        assert answer.status_code == 402
        assert f'<p role="alert">{text}</p>' in answer.text
    assert story.client.v1.checkout.sessions.retrieve(session.id).status == "open"


def test_text_of_the_merchant_is_escaped(story: Shop) -> None:
    product = story.client.v1.products.create({"name": "<script>alert(1)</script>"})
    price = story.client.v1.prices.create(
        {"product": product.id, "currency": "eur", "unit_amount": 100, "recurring": {"interval": "month"}}
    )
    html = get(str(story.checkout(price.id).url))
    assert "&lt;script&gt;" in html
    assert "<script>" not in html


def test_the_portal_cancels_keeps_and_changes_the_plan(story: Shop) -> None:
    subscription = story.subscribe()
    portal = story.client.v1.billing_portal.sessions.create(
        {"customer": story.customer, "return_url": "https://merchant.test/billing"}
    )
    assert "Cancel plan" in get(portal.url)
    assert "Cancels on 28 February 2026." in post(portal.url, action="cancel", subscription=subscription).text
    assert story.subscription(subscription).cancel_at_period_end
    assert "Renews on" in post(portal.url, action="keep", subscription=subscription).text
    changed = post(portal.url, action="switch", subscription=subscription, price="price_pro").text
    assert "<h2>OffGridFlow Pro</h2>" in changed
    assert 'href="https://merchant.test/billing"' in changed
    declined = post(portal.url, action="card", **{**CARD, "card_number": DECLINED.number})
    assert (declined.status_code, "Your card was declined." in declined.text) == (402, True)


def test_a_portal_shows_nothing_of_another_customer(story: Shop) -> None:
    theirs = story.subscribe()
    other = story.client.v1.customers.create({"name": "Other"})
    portal = story.client.v1.billing_portal.sessions.create({"customer": other.id})
    assert "OffGridFlow" not in get(portal.url).split("Card", 1)[0]
    assert "No such subscription" in post(portal.url, action="cancel", subscription=theirs).text
    assert story.subscription(theirs).cancel_at is None


def test_an_open_invoice_is_paid_on_its_page(story: Shop) -> None:
    subscription = story.subscribe()
    base = story.world.books.hosted_url
    failing = post(f"{base}/_world/card", customer=story.customer, card="pm_card_chargeCustomerFail")
    assert failing.status_code == 200
    assert post(f"{base}/_world/advance", days="30").json()["now"] == "2026-03-02T09:00:00+00:00"
    assert story.status(subscription) == "past_due"
    (bill,) = story.invoices(status="open")
    assert "Pay 49.00 EUR" in get(str(bill.hosted_invoice_url))
    assert "This invoice is paid." in post(str(bill.hosted_invoice_url), **CARD).text
    assert story.status(subscription) == "active"


def test_pages_and_deeds_that_do_not_exist(story: Shop) -> None:
    base = story.world.books.hosted_url
    for path in ("/pay/cs_none", "/portal/none", "/invoices/none", "/elsewhere"):
        assert requests.get(base + path, timeout=10).status_code == 404
    assert post(f"{base}/_world/nonsense").status_code == 404


def _until(seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_program_serves_delivers_signed_webhooks_and_ends_on_sigterm() -> None:
    with scripted_server() as receiver:
        receiver.rules.append(always("POST", "/v1/webhooks/stripe", Response(200)))
        command = [sys.executable, "-m", "offgridflow_pipeline.demo.stripe_counterpart"]
        command += ["--webhook", f"{receiver.endpoint}/v1/webhooks/stripe", "--secret", "whsec_program"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
            try:
                assert program.stdout is not None
                url = program.stdout.readline().split()[-1]
                client = over_http(url)
                assert {price.id for price in client.v1.prices.list().data} == {
                    "price_free",
                    "price_basic",
                    "price_pro",
                    "price_enterprise",
                }
                client.v1.customers.create({"name": "Of a program"})
                _until(lambda: bool(receiver.requests))
                taken = receiver.requests[-1]
                event = stripe.Webhook.construct_event(
                    taken.body, taken.headers["stripe-signature"], "whsec_program", tolerance=300
                )
                assert event.type == "customer.created"
                program.send_signal(signal.SIGTERM)
                assert program.wait(timeout=15) == 0
            finally:
                program.kill()


def test_a_ticking_world_goes_on_with_the_machine() -> None:
    told = shop()
    before = told.world.clock.now()
    with StripeServer(told.world, ticking=True) as server:
        _until(lambda: told.world.clock.now() > before)
        assert told.world.clock.now() - before < timedelta(seconds=20)
        assert json.loads(get(f"{server.url}/_world"))["waiting_deliveries"] == 0


def test_a_card_is_declined_by_number_or_token(story: Shop) -> None:
    story.world.use_card(story.customer, GOOD.token)
    with pytest.raises(stripe.CardError):
        story.client.v1.customers.update(
            story.customer, {"invoice_settings": {"default_payment_method": "pm_card_chargeDeclined"}}
        )
