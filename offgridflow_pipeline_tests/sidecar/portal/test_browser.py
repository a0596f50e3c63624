"""Pages in a real browser: nothing against WCAG 2.2 AA that axe-core finds, no policy broken, usable by keyboard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page

from offgridflow_pipeline_tests.counterparts.browser import PROGRAM, browser, served
from offgridflow_pipeline_tests.sidecar.portal.house import DOORS, House, next_code, with_second_factor
from offgridflow_pipeline_tests.sidecar.world import PASSWORD

pytestmark = [
    pytest.mark.skipif(not PROGRAM.exists(), reason=f"no browser at {PROGRAM}: apt-get install chromium"),
    pytest.mark.slow,
]
SIZES = {"wide": {"width": 1280, "height": 900}, "narrow": {"width": 390, "height": 844}}
RULES = {
    "resultTypes": ["violations"],
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]},
}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def address(house: House) -> Iterator[str]:
    with served(house.world.app) as url:
        yield url


def context(chromium: Browser, address: str, house: House, size: str, *, signed_in: bool = True) -> BrowserContext:
    """A browser with the owner's session, as large as asked."""
    opened = chromium.new_context(viewport=SIZES[size], java_script_enabled=True)
    if signed_in:
        opened.add_cookies([{"name": "ogf_session", "value": house.owner.token, "url": address}])
    return opened


def focused(page: Page) -> str:
    """What the keyboard is on: id, name, or text."""
    return str(page.evaluate("(e => e.id || e.getAttribute('name') || e.textContent.trim())(document.activeElement)"))


@pytest.mark.parametrize("size", SIZES)
def test_axe_finds_nothing_no_policy_is_broken_and_nothing_is_wider_than_the_window(
    chromium: Browser, address: str, house: House, size: str
) -> None:
    axe, found = Axe(), {}
    one_view_of_each = [path for path in house.paths() if "?by=" not in path or path.endswith("service")]
    for signed_in, paths in ((True, one_view_of_each), (False, DOORS)):
        opened = context(chromium, address, house, size, signed_in=signed_in)
        page = opened.new_page()
        told: list[str] = []
        page.on("console", lambda message, told=told: told.append(message.text))
        for path in paths:
            told.clear()
            page.goto(address + path)
            wrong = [
                f"{one['id']}: {one['nodes'][0]['html'][:120]}"
                for one in axe.run(page, options=RULES).response["violations"]
            ]
            wrong += [text for text in told if "Security Policy" in text or "Refused to" in text]
            if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
                wrong.append("wider than the window")
            if wrong:
                found[path] = wrong
        opened.close()
    assert found == {}


def test_a_person_signs_in_by_keyboard_alone_and_can_skip_the_navigation(
    chromium: Browser, address: str, house: House
) -> None:
    person = house.world.someone(house.tenant, "viewer")
    opened = context(chromium, address, house, "wide", signed_in=False)
    page = opened.new_page()
    page.goto(address + "/sign-in")
    order = []
    for _ in range(5):
        page.keyboard.press("Tab")
        order.append(focused(page))
    assert order == ["Skip to content", "OffGridFlow", "email", "password", "Sign in"]
    page.focus("#email")
    page.keyboard.type(person.email)
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(address + "/")
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to content"
    page.keyboard.press("Enter")
    assert focused(page) == "main"
    opened.close()


@pytest.mark.parametrize("size", SIZES)
def test_recovery_codes_are_renewed_on_pages_that_axe_finds_nothing_against(
    chromium: Browser, address: str, house: House, size: str
) -> None:
    secret, _, headers = with_second_factor(house.world, house.world.someone(house.tenant, "viewer"))
    opened = context(chromium, address, house, size, signed_in=False)
    opened.add_cookies([{"name": "ogf_session", "value": headers["Cookie"].partition("=")[2], "url": address}])
    page, axe = opened.new_page(), Axe()

    def wrong() -> list[str]:
        wider = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        found = [one["id"] for one in axe.run(page, options=RULES).response["violations"]]
        return found + (["wider than the window"] if page.evaluate(wider) else [])

    page.goto(address + "/settings")
    page.click("a:has-text('New recovery codes')")
    assert wrong() == []
    for code in ("000000", next_code(secret)):
        page.fill("#password", PASSWORD)
        page.fill("#code", code)
        page.keyboard.press("Enter")
        page.wait_for_selector("[role=alert]" if code == "000000" else ".codes")
        assert wrong() == []
    assert page.locator(".codes li").count() == 8
    opened.close()


def test_every_stop_of_the_keyboard_is_seen(chromium: Browser, address: str, house: House) -> None:
    opened = context(chromium, address, house, "wide")
    page = opened.new_page()
    page.goto(address + "/keys")
    unseen = []
    for _ in range(30):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        if outline == "none":
            unseen.append(focused(page))
    assert unseen == []
    opened.close()


def test_everything_works_where_scripts_are_off(chromium: Browser, address: str, house: House) -> None:
    opened = chromium.new_context(viewport=SIZES["narrow"], java_script_enabled=False)
    opened.add_cookies([{"name": "ogf_session", "value": house.owner.token, "url": address}])
    page = opened.new_page()
    page.goto(address + "/")
    page.click("summary:has-text('Menu')")
    page.click(".sheet a:has-text('Reports')")
    assert page.url == address + "/reports"
    page.click("button:has-text('Request report')")
    assert "/reports/jobs/job_" in page.url
    assert page.is_visible("text=The report is requested.")
    opened.close()


def test_fonts_and_stylesheet_are_loaded_from_this_site(chromium: Browser, address: str, house: House) -> None:
    opened = context(chromium, address, house, "wide")
    page = opened.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address + "/")
    assert page.evaluate("document.fonts.ready.then(() => document.fonts.check('16px \"IBM Plex Sans\"'))")
    assert {url for url in asked if not url.startswith(address)} == set()
    assert any(url.endswith(".woff2") for url in asked)
    opened.close()
