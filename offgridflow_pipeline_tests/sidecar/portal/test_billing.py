"""The billing page and the banner: what people read and where buttons lead, against Stripe's counterpart."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.money.subscriptions import StoredStanding, Subscriptions
from offgridflow_pipeline.demo.stripe_counterpart.world import Failure
from offgridflow_pipeline.subscriptions.entitlements import EVERY_STATE
from offgridflow_pipeline.subscriptions.plans import subscribable
from offgridflow_pipeline_tests.sidecar.portal.house import House, build, tree, where, words
from offgridflow_pipeline_tests.sidecar.signed_in import signed_in
from offgridflow_pipeline_tests.sidecar.subscribed import SETTINGS, SubscribedWorld
from offgridflow_pipeline_tests.sidecar.world import Someone, World

CARD_THAT_FAILS_LATER = "4000000000000341"


@pytest.fixture(scope="module")
def shop(database: Database, api_database: Database, tmp_path_factory: pytest.TempPathFactory) -> SubscribedWorld:
    return SubscribedWorld(database, api_database, tmp_path_factory.mktemp("shop"))


@pytest.fixture
def own(shop: SubscribedWorld) -> House:
    """An organisation of this test alone, and its owner."""
    shop.client.cookies.clear()
    tenant = shop.tenant()
    return House(shop, tenant, shop.someone(tenant, "owner"), "", "", "", "")


def shop_of(house: House) -> SubscribedWorld:
    assert isinstance(house.world, SubscribedWorld)
    return house.world


def buy(house: House, plan: str = "pro") -> None:
    """By the form, and on Stripe's page; what came of it is not told yet."""
    shop_of(house).buy(house.post("/billing/checkout", {"plan": plan}).headers["location"])


def fail_to_pay(house: House, later: timedelta) -> None:
    """The card of a subscription that was bought fails at the end of the trial; then time passes."""
    shop = shop_of(house)
    row = shop.operator.subscriptions.get(house.tenant)
    assert row is not None
    shop.stripe.use_card(row.customer_id, CARD_THAT_FAILS_LATER)
    shop.stripe.advance(timedelta(days=15))
    shop.bring(house.tenant, later=later)


def banners(page: Any) -> list[str]:
    return [" ".join(node.text_content().split()) for node in tree(page).xpath("//main/div[@role='status']")]


def test_the_page_says_plan_and_use_and_what_every_plan_allows(own: House) -> None:
    own.world.connection(own.tenant)
    page = own.get("/billing")
    assert page.status_code == 200
    assert "No subscription. The free plan costs nothing" in words(page)
    figures = {
        " ".join(node.xpath("dt")[0].text_content().split()): " ".join(node.xpath("dd")[0].text_content().split())
        for node in tree(page).xpath("//dl[contains(@class, 'figures')]/div")
    }
    assert figures == {"Connections": "1 of 1", "Members": "2 of 2", "Auditors": "0 of 0"}
    rows = [[" ".join(cell.text_content().split()) for cell in row] for row in tree(page).xpath("//tbody/tr")]
    assert [row[0] for row in rows] == ["Freeyour plan", "Basic", "Pro", "Enterprise"]
    assert rows[2][1:7] == ["10", "1,830", "50", "5", "Data pack, PDF, Workbook, Inline XBRL, XBRL", "1,200"]
    assert rows[1][6] == "no API"
    assert [row[7] for row in rows] == ["", "Choose Basic", "Choose Pro", "Choose Enterprise"]


def test_a_plan_is_bought_and_the_page_waits_for_stripe_before_it_says_so(own: House) -> None:
    leads = own.post("/billing/checkout", {"plan": "pro"})
    assert leads.status_code == 303
    assert leads.headers["location"].startswith("http")
    waiting = own.get("/billing?done=checkout")
    assert "Waiting for Stripe's confirmation" in words(waiting)
    assert tree(waiting).xpath("//form[@action='/billing/checkout']") == []
    assert waiting.headers["refresh"] == "5; url=/billing?done=checkout&look=1"
    shop_of(own).buy(leads.headers["location"])
    assert "Waiting for Stripe's confirmation" in words(own.get("/billing?done=checkout&look=1"))
    shop_of(own).bring(own.tenant)
    done = own.get("/billing?done=checkout&look=2")
    assert "refresh" not in done.headers
    assert "the plan Pro is in force" in words(done)
    assert "on trial" in words(done)
    assert "The trial ends on" in words(done)
    assert "Choose" not in words(done)


def test_after_two_minutes_the_page_waits_no_longer_by_itself(own: House) -> None:
    late = own.get("/billing?done=checkout&look=24")
    assert "refresh" not in late.headers
    assert "Stripe has not confirmed yet" in words(late)
    assert own.get("/billing?done=checkout&look=25").status_code == 422


def test_who_came_back_without_paying_is_never_told_that_it_worked(own: House) -> None:
    own.post("/billing/checkout", {"plan": "pro"})
    for _ in range(2):
        assert "in force" not in words(own.get("/billing?done=checkout"))
    assert tree(own.get("/billing")).xpath("//main/div[@role='status']") == []


def test_a_failed_payment_is_told_on_every_page_and_who_pays_has_the_way(own: House) -> None:
    buy(own)
    shop_of(own).bring(own.tenant)
    fail_to_pay(own, later=timedelta(hours=1))
    viewer = own.world.someone(own.tenant, "viewer")
    for path in ("/", "/reports", "/connections", "/settings"):
        page = own.get(path)
        assert any("The last payment failed" in text for text in banners(page)), path
        assert tree(page).xpath("//main/div[@role='status']//a/@href") == ["/billing"], path
    seen = own.get("/reports", viewer)
    assert any("The last payment failed" in text for text in banners(seen))
    assert tree(seen).xpath("//main/div[@role='status']//a") == []
    page = own.get("/billing")
    assert "payment overdue" in words(page)
    assert re.search(r"Everything goes on until \d+ \w+ 20\d\d", words(page))
    assert tree(page).xpath("//form[@action='/billing/portal']//button/text()") == ["Pay at Stripe"]
    assert own.post("/billing/portal").headers["location"].startswith("http")


@pytest.mark.parametrize(
    ("language", "said"),
    [("en", "Everything goes on until 15 January 2026; then"), ("de", "Bis zum 15. Januar 2026 geht alles weiter")],
)
def test_the_banner_of_a_failed_payment_names_the_day_on_which_work_stops(own: House, language: str, said: str) -> None:
    own.post("/settings/profile", {"name": "Bianca", "locale": language})
    shop_of(own).put(own.tenant, "pro", "grace")  # since the first of January
    (told,) = banners(own.get("/reports"))
    assert said in told


def test_the_banner_names_the_same_day_as_the_billing_page(own: House) -> None:
    buy(own)
    shop_of(own).bring(own.tenant)
    fail_to_pay(own, later=timedelta(hours=1))
    page = own.get("/billing")
    days = re.findall(r"Everything goes on until (\d+ \w+ 20\d\d)", words(page))
    assert len(days) == 2
    assert len(set(days)) == 1


def test_a_payment_that_arrives_while_the_page_is_made_leaves_no_banner_of_a_day_that_is_none(
    own: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop_of(own).put(own.tenant, "pro", "grace")
    standing = Subscriptions.standing

    def paid_meanwhile(self: Subscriptions, tenant: str) -> StoredStanding:
        shop_of(own).put(tenant, "pro", "active")
        return standing(self, tenant)

    monkeypatch.setattr(Subscriptions, "standing", paid_meanwhile)
    assert banners(own.get("/reports")) == []


def test_an_unpaid_subscription_is_restricted_and_says_what_brings_it_back(own: House) -> None:
    buy(own)
    shop_of(own).bring(own.tenant)
    fail_to_pay(own, later=timedelta(days=15))
    page = own.get("/billing")
    assert "restricted" in words(page)
    assert "Once the open invoice is paid, everything goes on" in words(page)
    assert any("nothing new is read or reported until it is paid" in text for text in banners(own.get("/")))
    refused = own.post("/reports", {"month": "2026-03"})
    assert refused.headers["location"] == "/reports?error=plan_limit_restricted"
    assert "nothing new is made while the subscription is not paid" in words(own.get(refused.headers["location"]))


def test_a_german_reader_reads_german_everywhere(own: House) -> None:
    own.post("/settings/profile", {"name": "Bianca", "locale": "de"})
    shop_of(own).put(own.tenant, "basic", "restricted")
    page = words(own.get("/billing"))
    for text in (
        "Abrechnung",
        "eingeschränkt",
        "Genutzt",
        "Verbindungen",
        "von 3",
        "unbegrenzt",
        "Ihr Tarif",
        "keine API",
    ):
        assert text in page, text
    assert "Das Abonnement ist nicht bezahlt." in words(own.get("/"))
    refused = own.post("/reports", {"month": "2026-03"})
    assert "Solange das Abonnement nicht bezahlt ist" in words(own.get(refused.headers["location"]))


@pytest.mark.parametrize("state", EVERY_STATE)
@pytest.mark.parametrize("language", ["en", "de"])
def test_every_state_of_every_plan_has_its_words(own: House, state: str, language: str) -> None:
    own.post("/settings/profile", {"name": "Bianca", "locale": language})
    for plan in subscribable():
        shop_of(own).put(own.tenant, plan.name, state)
        page = own.get("/billing")
        assert page.status_code == (403 if state == "offboarded" else 200)
        assert "billing_state." not in page.text


def test_the_billing_role_begins_at_billing_and_sees_nothing_else(own: House) -> None:
    payer = own.world.someone(own.tenant, "billing")
    assert where(own.get("/", payer)) == ("/billing", {})
    page = tree(own.get("/billing", payer))
    assert {link.get("href") for link in page.xpath("//nav//a")} == {"/billing"}
    assert len(page.xpath("//form[@action='/billing/checkout']")) == 3
    assert page.xpath("//form[@action='/billing/closing']") == []


def test_an_admin_reads_and_does_not_pay(own: House) -> None:
    admin = own.world.someone(own.tenant, "admin")
    page = own.get("/billing", admin)
    assert tree(page).xpath("//main//form") == []
    assert "Owners and the billing role change the subscription." in words(page)


def test_paying_asks_for_the_password_again_first(own: House) -> None:
    unproved = signed_in(own.world.api, own.tenant, "billing", stepped_up=False)
    answer = own.world.client.post("/billing/checkout", data={"plan": "pro"}, headers=unproved.headers)
    assert where(answer) == ("/step-up", {"next": "/billing"})


def test_stripe_out_of_reach_is_said_beside_the_buttons(own: House) -> None:
    shop = shop_of(own)
    shop.stripe.fail(Failure(503, times=9, path="/v1/customers"))
    try:
        answer = own.post("/billing/checkout", {"plan": "pro"})
    finally:
        shop.stripe._failures.clear()
    assert answer.status_code == 503
    assert "Stripe cannot be reached" in words(answer)
    assert tree(answer).xpath("//form[@action='/billing/checkout']")


@pytest.mark.parametrize(("plan", "told"), [("free", "cannot be bought here"), ("golden", "cannot be bought here")])
def test_what_is_not_for_sale_is_refused_on_the_page(own: House, plan: str, told: str) -> None:
    answer = own.post("/billing/checkout", {"plan": plan})
    assert answer.status_code == 409
    assert told in words(answer)


def test_closing_asks_for_the_short_name_and_then_shows_nothing_any_more(own: House) -> None:
    buy(own)
    shop_of(own).bring(own.tenant)
    wrong = own.post("/billing/closing", {"confirm": "something"})
    assert wrong.status_code == 422
    assert tree(wrong).xpath("//input[@name='confirm']/@aria-invalid") == ["true"]
    assert where(own.post("/billing/closing", {"confirm": own.tenant})) == ("/settings", {"done": "offboarding"})
    assert "Closing was asked for on" in words(own.get("/billing"))
    shop_of(own).bring(own.tenant, later=timedelta(minutes=5))
    closed = own.get("/reports")
    assert closed.status_code == 403
    assert "The account of the organisation is closed" in words(closed)


def test_where_nobody_subscribes_the_page_says_so_and_no_menu_shows_it(world: World) -> None:
    owner = world.someone(world.tenant(), "owner")
    page = world.client.get("/billing", headers=owner.headers)
    assert "nothing is limited, and nothing is to be paid" in words(page)
    assert tree(page).xpath("//main//form") == []
    assert "/billing" not in {link.get("href") for link in tree(page).xpath("//nav//a")}


def test_forms_may_lead_to_stripe_and_outside_of_production_to_what_stands_in_for_it(
    database: Database, api_database: Database, tmp_path_factory: pytest.TempPathFactory, own: House
) -> None:
    usual = own.get("/billing").headers["content-security-policy"]
    assert "form-action 'self' https://checkout.stripe.com https://billing.stripe.com;" in usual
    values = {**SETTINGS, "stripe_api_url": "http://127.0.0.1:12111/v1"}
    beside = World(database, api_database, tmp_path_factory.mktemp("beside"), values)
    policy = beside.client.get("/sign-in").headers["content-security-policy"]
    assert "https://billing.stripe.com http://127.0.0.1:12111;" in policy


def test_every_page_of_a_subscriber_keeps_the_rules_of_pages(shop: SubscribedWorld) -> None:
    house = build(shop)
    shop.put(house.tenant, "pro", "grace")
    for path in [*house.paths(), "/billing", "/billing?done=checkout"]:
        answer = house.get(path)
        assert answer.status_code == 200, path
        page = tree(answer)
        assert len(page.xpath("//h1")) == 1, path
        assert page.xpath("//script | //@style | //iframe") == [], path
        ids = page.xpath("//@id")
        assert len(ids) == len(set(ids)), path
        for control in page.xpath("//input[not(@type='hidden') and not(@hidden)] | //select"):
            assert page.xpath(f"//label[@for='{control.get('id')}']"), (path, control.get("name"))


def test_a_stranger_sees_their_own_billing_only(own: House) -> None:
    buy(own, "enterprise")
    shop_of(own).bring(own.tenant)
    stranger: Someone = own.world.someone(own.world.tenant(), "owner")
    assert "your plan" in words(own.get("/billing", stranger))
    assert "on trial" not in words(own.get("/billing", stranger))
