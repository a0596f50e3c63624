"""From the billing page over Stripe's checkout to the first report by mail, in a real browser over real processes.

Stripe is our own counterpart; its signed webhooks go to the sidecar over HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from offgridflow_pipeline.demo.stripe_counterpart import FAILING, Deliveries, StripeWorld, WorldClock, to_url
from offgridflow_pipeline.demo.stripe_counterpart.__main__ import stock
from offgridflow_pipeline.demo.stripe_counterpart.deliveries import system_time
from offgridflow_pipeline.demo.stripe_counterpart.server import StripeServer
from offgridflow_pipeline.demo.subscription import WEBHOOK_SECRET, stripe_variables
from offgridflow_pipeline_tests.counterparts.browser import browser
from offgridflow_pipeline_tests.counterparts.processes import free_port
from offgridflow_pipeline_tests.counterparts.smtp import MailServer, smtp_server
from offgridflow_pipeline_tests.journey.stack import MONTH, OWNER, Stack, installation, sign_in, until

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
PARTITIONS = sa.text("select partition from dynamic_partitions")


@dataclass
class Shop:
    """The installation, and the Stripe account that its tenants pay into."""

    stack: Stack
    world: StripeWorld

    def standing(self) -> str:
        return self.stack.database.subscriptions.standing(self.stack.tenant.slug).state

    def partitions(self) -> list[str]:
        engine = sa.create_engine(self.stack.environment["OFFGRIDFLOW_DAGSTER_DATABASE_URL"], poolclass=sa.NullPool)
        if not sa.inspect(engine).has_table("dynamic_partitions"):
            return []  # Dagster has not run yet
        with engine.connect() as connection:
            return list(connection.scalars(PARTITIONS).all())

    def wait_for(self, state: str) -> None:
        """Until the tenant is in the state: a webhook, the sensor's tick and a run lie between."""
        until(lambda: self.standing() == state or None, 120, f"the state {state}")


@pytest.fixture(scope="module")
def mail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailServer]:
    with smtp_server(tmp_path_factory.mktemp("smtp")) as server:
        yield server


@pytest.fixture(scope="module")
def shop(mail: MailServer) -> Iterator[Shop]:
    port = free_port()
    world = StripeWorld(WorldClock(system_time()))
    stock(world)
    webhook = to_url(f"http://127.0.0.1:{port}/v1/webhooks/stripe")
    deliveries = Deliveries(world, webhook, secrets=[WEBHOOK_SECRET], signed_at=system_time)
    with (
        StripeServer(world, [deliveries]) as stripe,
        installation(mail, port=port, variables=stripe_variables(stripe.url)) as stack,
    ):
        stack.start_sidecar()
        yield Shop(stack, world)


def buy(page: Page, shop: Shop, plan: str, card: str) -> None:
    """Choose the plan in the portal and pay at Stripe; ends on the page that waits for Stripe's word."""
    page.goto(f"{shop.stack.url}/billing")
    page.click(f"form[action='/billing/checkout']:has([value='{plan}']) button")
    page.wait_for_url("**/pay/cs_test_*")
    for name, text in (("card_number", card), ("card_expiry", "12 / 34"), ("card_cvc", "123")):
        page.fill(f"[name={name}]", text)
    page.click("button[type=submit]")
    page.wait_for_url(f"{shop.stack.url}/billing?done=checkout")


def test_a_checkout_activates_the_tenant_and_its_first_report_is_mailed(shop: Shop, mail: MailServer) -> None:
    stack = shop.stack
    assert shop.partitions() == []
    with browser() as chromium:
        page = chromium.new_page()
        sign_in(page, stack, OWNER)
        buy(page, shop, "pro", FAILING.number)
        assert shop.standing() == "active"  # free: the way back from Stripe proves nothing
        stack.start_daemon()
        shop.wait_for("trial")
        page.goto(f"{stack.url}/billing")
        assert "Pro" in page.inner_text("main")
    assert shop.partitions() == [stack.tenant.slug]
    told = until(
        lambda: next((m for m in mail.received if "/reports/rep_" in m.part("plain")), None), 400, "the first report"
    )
    assert told.recipients == [OWNER]
    (report,) = stack.api("GET", "/v1/reports").json()["items"]
    assert report["period"] == MONTH


def test_a_failed_payment_is_mailed_with_the_bill_and_a_restricted_tenant_still_reads(
    shop: Shop, mail: MailServer
) -> None:
    stack = shop.stack
    shop.world.advance(timedelta(days=14, hours=2))  # the trial ends, and the card pays nothing
    shop.wait_for("grace")
    told = until(
        lambda: next((m for m in mail.received if "/invoices/" in m.part("plain")), None), 40, "the mail of the bill"
    )
    assert told.recipients == [OWNER]
    assert stack.api("GET", "/v1/reports").status_code == 200
