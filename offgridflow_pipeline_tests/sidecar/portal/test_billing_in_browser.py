"""Billing in a real browser: readable by everybody in every state, and a way to Stripe that the policy lets through."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.demo.stripe_counterpart.server import StripeServer
from offgridflow_pipeline_tests.counterparts.browser import PROGRAM, browser, served
from offgridflow_pipeline_tests.counterparts.processes import free_port
from offgridflow_pipeline_tests.sidecar.portal.house import House
from offgridflow_pipeline_tests.sidecar.portal.test_browser import RULES, SIZES, context
from offgridflow_pipeline_tests.sidecar.subscribed import SETTINGS, SubscribedWorld

pytestmark = [
    pytest.mark.skipif(not PROGRAM.exists(), reason=f"no browser at {PROGRAM}: apt-get install chromium"),
    pytest.mark.slow,
]
VIEWS = {
    "free": ("/billing", "/billing?done=checkout", "/members?error=plan_limit_members"),
    "grace": ("/billing", "/reports"),
    "restricted": ("/billing", "/connections?error=plan_limit_restricted"),
    "offboarded": ("/reports",),
}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def house(database: Database, api_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """An organisation of an app that knows its own address and that of the counterpart's pages."""
    stripe_port = free_port()
    values = {
        **SETTINGS,
        "public_url": f"http://127.0.0.1:{free_port()}",
        "stripe_api_url": f"http://127.0.0.1:{stripe_port}",
    }
    shop = SubscribedWorld(database, api_database, tmp_path_factory.mktemp("shop"), values)
    tenant = shop.tenant()
    with StripeServer(shop.stripe, port=stripe_port):
        yield House(shop, tenant, shop.someone(tenant, "owner"), "", "", "", "")


@pytest.fixture(scope="module")
def address(house: House) -> Iterator[str]:
    url = house.world.settings.public_url
    with served(house.world.app, int(url.rpartition(":")[2])):
        yield url


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("size", SIZES)
def test_axe_finds_nothing_on_billing_and_banners_in_any_state(
    chromium: Browser, address: str, house: House, size: str, language: str
) -> None:
    speak(house, language)
    opened, found = context(chromium, address, house, size), {}
    page = opened.new_page()
    assert isinstance(house.world, SubscribedWorld)
    for state, paths in VIEWS.items():
        house.world.put(house.tenant, "free" if state == "free" else "pro", "active" if state == "free" else state)
        for path in paths:
            page.goto(address + path)
            assert page.get_attribute("html", "lang") == language
            wrong = [one["id"] for one in Axe().run(page, options=RULES).response["violations"]]
            if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
                wrong.append("wider than the window")
            if wrong:
                found[state, path] = wrong
    house.world.put(house.tenant, "free")
    opened.close()
    assert found == {}


def test_a_plan_is_chosen_and_paid_and_the_page_looks_again_until_the_database_says_so(
    chromium: Browser, address: str, house: House
) -> None:
    shop = house.world
    assert isinstance(shop, SubscribedWorld)
    speak(house, "en")
    opened = context(chromium, address, house, "wide")
    page = opened.new_page()
    page.goto(f"{address}/billing")
    page.click("button:has-text('Choose Pro')")
    page.wait_for_url(f"{shop.settings.stripe_api_url}/**")
    page.fill("#card_number", "4242 4242 4242 4242")
    page.fill("#card_expiry", "12 / 40")
    page.fill("#card_cvc", "123")
    page.click("button[type=submit]")
    page.wait_for_url(f"{address}/billing?done=checkout")
    assert page.is_visible("text=Waiting for Stripe's confirmation")
    shop.bring(house.tenant)
    page.wait_for_url("**/billing?done=checkout&look=*", timeout=15_000)
    page.wait_for_selector("text=Stripe has confirmed: the plan Pro is in force.", timeout=15_000)
    page.click("button:has-text('Open at Stripe')")
    page.wait_for_url(f"{shop.settings.stripe_api_url}/**")
    opened.close()


def speak(house: House, language: str) -> None:
    """In which language the owner reads; the form comes from the address that the app knows as its own."""
    headers = {**house.owner.headers, "Origin": house.world.settings.public_url}
    answer = house.world.client.post(
        "/settings/profile", data={"name": "Olga Owner", "locale": language}, headers=headers
    )
    assert answer.status_code == 303
