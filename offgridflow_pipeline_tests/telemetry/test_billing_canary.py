"""What Stripe tells of people, and what opens Stripe to us, is in no span, log line, run tag or stored snapshot."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import structlog
from pydantic import SecretStr
from starlette.testclient import TestClient

from offgridflow_pipeline.connectors.secrets.shapes import redacted
from offgridflow_pipeline.database.engine import Database, open_database
from offgridflow_pipeline.demo.stripe_counterpart import FAILING, GOOD, StripeWorld
from offgridflow_pipeline.demo.stripe_counterpart.in_process import InProcessHTTPClient
from offgridflow_pipeline.settings import Settings, load_settings
from offgridflow_pipeline.sidecar.app import create_app
from offgridflow_pipeline.sidecar.route_templates import RouteTemplates
from offgridflow_pipeline.subscriptions.gateway import StripeGateway, StripeRefusedError, StripeUnavailableError
from offgridflow_pipeline.telemetry import logs, setup
from offgridflow_pipeline_tests.counterparts.otlp import Collector, attributes_of, collector
from offgridflow_pipeline_tests.counterparts.postgres import settings as database_settings
from offgridflow_pipeline_tests.defs.subscribed import SECRET as DESK_SECRET
from offgridflow_pipeline_tests.defs.subscribed import StripeDesk, configure, metadata_of
from offgridflow_pipeline_tests.subscriptions.signed_events import SECRET, body, header
from offgridflow_pipeline_tests.telemetry.conftest import execute

KEY = "sk_test_canary9f2c71d6"
NAME = "Ada Canary"
CARD, PERSON, STREET, PHONE = "4242424242424242", "ada@canary.example", "Canary Street 9", "+49 30 9092271"
PEOPLE: dict[str, Any] = {
    "id": "cus_canary", "object": "customer", "email": PERSON, "name": NAME,
    "address": {"line1": STREET}, "card": {"number": CARD},
}  # fmt: skip
CANARIES = [KEY, SECRET, CARD, PERSON, STREET, PHONE, NAME]
PATH = "/v1/webhooks/stripe"


@pytest.fixture
def receiver() -> Iterator[Collector]:
    with collector() as running:
        yield running


def test_no_span_of_a_delivery_holds_its_body_its_signature_or_a_secret(
    database: Database, receiver: Collector
) -> None:
    settings = database_settings(Path("var"), database.admin_engine.url).model_copy(
        update={
            "otlp_endpoint": receiver.endpoint,
            "trace_sample_rate": 1.0,
            "stripe_secret_key": SecretStr(KEY),
            "stripe_webhook_secret": SecretStr(SECRET),
        }
    )
    served = open_database(settings, role="ogf_api")
    app = create_app(settings, served)
    telemetry = setup.start(
        settings, app, served, route_of=RouteTemplates(app).of, rate_limit_policies=(), background=False
    )
    payload = body("customer.updated", PEOPLE)
    deliveries = [payload, payload, body("customer.updated", PEOPLE, livemode=True), payload[:-1]]
    signatures = [header(delivery) for delivery in deliveries]
    client = TestClient(app, raise_server_exceptions=False)
    answers = [
        client.post(f"{PATH}?who={PERSON}", content=delivery, headers={"Stripe-Signature": signature})
        for delivery, signature in [*zip(deliveries, signatures, strict=True), (payload, "t=1,v1=canary-signature")]
    ]
    telemetry.shutdown()
    served.close()
    execute(database, "delete from ogf.external_events where customer_id = 'cus_canary'")
    assert [answer.status_code for answer in answers] == [200, 200, 400, 400, 400]
    found = [span for span in receiver.spans if span.name == f"POST {PATH}"]
    assert [attributes_of(span.attributes)["http.response.status_code"] for span in found] == [200, 200, 400, 400, 400]
    sent = b"".join(receiver.bodies)
    secrets = [*CANARIES, "canary-signature", *(signature.rpartition("=")[2] for signature in signatures)]
    assert b"external_events" in sent
    assert [secret for secret in secrets if secret.encode() in sent] == []


def a_customer(world: StripeWorld, gateway: StripeGateway, card: str = GOOD.number) -> str:
    """A customer that subscribed on Stripe's page, and may manage it there."""
    world.offer("pro", "price_pro", 9900)
    customer = gateway.ensure_customer("canary", organisation=NAME, email=PERSON)
    world.call("POST", f"/v1/customers/{customer}", description=STREET, phone=PHONE)
    gateway.checkout(
        "canary",
        customer_id=customer,
        price="price_pro",
        trial_days=0,
        success_url="https://ogf.example/billing",
        cancel_url="https://ogf.example/billing",
        attempt="first",
    )
    session = world.call("GET", "/v1/checkout/sessions")["data"][0]["id"]
    world.complete_checkout(session, card, email=PERSON)
    gateway.portal(customer, return_url="https://ogf.example/billing", attempt="first")
    return customer


@pytest.fixture
def world() -> StripeWorld:
    return StripeWorld(seed=9)


@pytest.fixture
def gateway(world: StripeWorld) -> StripeGateway:
    return StripeGateway(Settings(_env_file=None, stripe_secret_key=SecretStr(KEY)), InProcessHTTPClient(world))


def test_a_snapshot_holds_no_person_address_or_card(world: StripeWorld, gateway: StripeGateway) -> None:
    customer = a_customer(world, gateway)
    world.use_card(customer, FAILING.number)
    world.advance(timedelta(days=40))
    snapshot = gateway.snapshot(customer)
    assert [found.status for found in snapshot.subscriptions] != ["active"]
    known = json.dumps([world.call("GET", f"/v1/{path}") for path in (f"customers/{customer}", "payment_methods")])
    told = [PERSON, STREET, PHONE, NAME, GOOD.number[-4:], FAILING.number[-4:]]
    assert [canary for canary in told if canary not in known] == []
    kept = json.dumps(snapshot.document()) + repr(gateway.all_snapshots())
    assert [canary for canary in (*CANARIES, *told) if canary in kept] == []


def test_no_log_line_tells_what_stripe_was_asked_or_what_it_answered(
    world: StripeWorld, gateway: StripeGateway, written: io.StringIO
) -> None:
    customer = a_customer(world, gateway)
    gateway.snapshot(customer)
    list(gateway.events(world.clock.now() - timedelta(days=1)))
    with pytest.raises(StripeRefusedError) as refused:
        gateway.snapshot("cus_nobody")
    world.unreachable = True
    with pytest.raises(StripeUnavailableError) as away:
        gateway.ensure_customer("canary", organisation=NAME, email=PERSON)
    for error in (refused.value, away.value):
        logging.getLogger("offgridflow.billing").error("failed with %s", KEY, exc_info=error)
    told = written.getvalue()
    assert "failed with [secret]" in told
    assert [canary for canary in (*CANARIES, customer) if canary in told] == []


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """Log lines of the sidecar and the pipeline from here on."""
    stream = io.StringIO()
    root, library = logging.getLogger(), logging.getLogger("stripe")
    handlers, level, level_of_library = root.handlers[:], root.level, library.level
    logs.configure(Settings(_env_file=None, stripe_secret_key=SecretStr(KEY)), redact=redacted, stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    library.setLevel(level_of_library)
    structlog.reset_defaults()


@pytest.fixture
def desk(
    database: Database, new_tenant: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StripeDesk]:
    """An inbox with the events of one customer, before Dagster has seen them."""
    empty = "delete from ogf.external_events; delete from ogf.subscriptions"
    execute(database, empty)
    monkeypatch.setenv("DATABASE_URL", database.admin_engine.url.render_as_string(hide_password=False))
    monkeypatch.setenv("OFFGRIDFLOW_DATA_DIR", str(tmp_path / "data"))
    configure(monkeypatch)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        found = StripeDesk(monkeypatch, database, instance)
        customer = found.subscribe(new_tenant())
        found.world.call("POST", f"/v1/customers/{customer}", name=NAME, phone=PHONE, description=STREET)
        yield found
    execute(database, empty)
    load_settings.cache_clear()


def test_no_tag_metadata_or_log_of_a_run_tells_who_the_customer_is(desk: StripeDesk) -> None:
    assert desk.deliveries.flush()
    assert PHONE in json.dumps(desk.world.events)
    (request,) = desk.requests()
    result = desk.run(**request.tags)
    assert result.success
    assert metadata_of(result, "consume_events")["tenants_changed"]
    records = desk.instance.all_logs(result.run_id)
    run = desk.instance.get_run_by_id(result.run_id)
    told = repr([request.run_key, request.tags, run]) + "".join(record.to_json() for record in records)
    secrets = ["owner@example.org", "sk_test_desk", DESK_SECRET, PHONE, STREET, NAME, "4242"]
    assert [secret for secret in secrets if secret in told] == []
