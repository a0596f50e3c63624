"""Billing by the API against Stripe's counterpart: what is in force, the ways to Stripe's pages, and closing."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.demo.stripe_counterpart.world import Failure
from offgridflow_pipeline_tests.sidecar.signed_in import Session, signed_in
from offgridflow_pipeline_tests.sidecar.subscribed import HOSTED_AT, SubscribedWorld
from offgridflow_pipeline_tests.sidecar.world import Someone, World


@pytest.fixture(scope="module")
def world(database: Database, api_database: Database, tmp_path_factory: pytest.TempPathFactory) -> SubscribedWorld:
    return SubscribedWorld(database, api_database, tmp_path_factory.mktemp("billing"))


@pytest.fixture
def payer(world: SubscribedWorld) -> Someone:
    """Somebody of the billing role in an organisation of this test alone."""
    return world.someone(world.tenant(), "billing")


def ask(world: World, who: Someone | Session, method: str, path: str, body: Any = None, key: str = "") -> Any:
    world.client.cookies.clear()
    headers = {**who.headers, "Idempotency-Key": key or uuid.uuid4().hex}
    return world.client.request(method, path, json=body, headers=headers)


def subscribed(world: SubscribedWorld, payer: Someone, plan: str = "pro") -> None:
    """Bought on Stripe's page, and told by Stripe."""
    world.buy(ask(world, payer, "POST", "/v1/billing/checkout", {"plan": plan}).json()["url"])
    world.bring(payer.tenant)


def noted(world: World, tenant: str) -> list[dict[str, Any]]:
    """The tenant's audit log, newest first."""
    return [json.loads(event.body) for event in world.api.audit_log.newest(tenant, limit=50)]


def actions(world: World, tenant: str) -> list[str]:
    return [body["action"] for body in noted(world, tenant)]


def test_who_never_subscribed_is_on_the_free_plan(world: SubscribedWorld, payer: Someone) -> None:
    found = ask(world, payer, "GET", "/v1/billing").json()
    assert (found["plan"], found["state"], found["since"], found["next_change"]) == ("free", "active", None, None)
    assert found["limits"] == {
        "connections": 1, "history_days": 90, "members": 2, "auditors": 0, "formats": ["datapack"], "api": False,
        "requests_per_minute": 60,
    }  # fmt: skip
    assert found["use"] == {"connections": 0, "members": 2, "auditors": 0, "invited": 0}


def test_use_counts_what_is_read_and_who_is_invited(world: SubscribedWorld, payer: Someone) -> None:
    world.connection(payer.tenant)
    world.api.connections.pause(payer.tenant, world.connection(payer.tenant))
    world.invitation(payer.tenant)
    world.someone(payer.tenant, "auditor")
    found = ask(world, payer, "GET", "/v1/billing").json()
    assert found["use"] == {"connections": 1, "members": 3, "auditors": 1, "invited": 1}


def test_a_checkout_leads_to_stripe_and_is_in_force_when_stripe_says_so(world: SubscribedWorld, payer: Someone) -> None:
    answer = ask(world, payer, "POST", "/v1/billing/checkout", {"plan": "pro"})
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == answer.json()["url"]
    assert ask(world, payer, "GET", "/v1/billing").json()["plan"] == "free"
    world.buy(answer.json()["url"])
    assert ask(world, payer, "GET", "/v1/billing").json()["plan"] == "free"
    world.bring(payer.tenant)
    found = ask(world, payer, "GET", "/v1/billing").json()
    assert (found["plan"], found["state"]) == ("pro", "trial")
    ends = datetime.fromisoformat(found["trial_end"]) - world.stripe.clock.now()
    assert timedelta(days=13) < ends <= timedelta(days=14)
    assert found["next_change"] == found["trial_end"]
    assert {"billing:customer:linked", "billing:checkout:started", "billing:plan:changed"} <= set(
        actions(world, payer.tenant)
    )


def test_the_same_checkout_sent_again_gets_the_same_page_and_another_request_is_refused(
    world: SubscribedWorld, payer: Someone
) -> None:
    key = uuid.uuid4().hex
    first = ask(world, payer, "POST", "/v1/billing/checkout", {"plan": "pro"}, key)
    again = ask(world, payer, "POST", "/v1/billing/checkout", {"plan": "pro"}, key)
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert ask(world, payer, "POST", "/v1/billing/checkout", {"plan": "basic"}, key).status_code == 422
    assert actions(world, payer.tenant).count("billing:checkout:started") == 1
    assert world.client.post("/v1/billing/checkout", json={"plan": "pro"}, headers=payer.headers).status_code == 400


def test_one_organisation_is_one_customer_and_a_running_subscription_is_not_bought_twice(
    world: SubscribedWorld, payer: Someone
) -> None:
    subscribed(world, payer)
    refused = ask(world, payer, "POST", "/v1/billing/checkout", {"plan": "enterprise"})
    assert (refused.status_code, refused.json()["code"]) == (409, "already_subscribed")
    customers = [c for c in world.stripe.books.objects.of("customer") if c["metadata"]["tenant"] == payer.tenant]
    assert len(customers) == 1


def test_a_plan_without_a_price_is_not_for_sale(world: SubscribedWorld, payer: Someone) -> None:
    refused = ask(world, payer, "POST", "/v1/billing/checkout", {"plan": "free"})
    assert (refused.status_code, refused.json()["code"]) == (409, "plan_not_for_sale")
    assert ask(world, payer, "POST", "/v1/billing/checkout", {"plan": "golden"}).status_code == 422


def test_the_portal_opens_for_customers_anew_each_time(world: SubscribedWorld, payer: Someone) -> None:
    refused = ask(world, payer, "POST", "/v1/billing/portal")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_subscribed")
    subscribed(world, payer)
    first, second = (ask(world, payer, "POST", "/v1/billing/portal") for _ in range(2))
    assert first.status_code == second.status_code == 201
    assert first.json()["url"] != second.json()["url"]
    assert actions(world, payer.tenant).count("billing:portal:opened") == 2


def test_an_unpaid_invoice_is_shown_with_its_page_and_the_end_of_the_grace(
    world: SubscribedWorld, payer: Someone
) -> None:
    subscribed(world, payer)
    customer = world.operator.subscriptions.get(payer.tenant)
    assert customer is not None
    world.stripe.use_card(customer.customer_id, "4000000000000341")
    world.stripe.advance(timedelta(days=15))
    world.bring(payer.tenant, later=timedelta(hours=1))
    found = ask(world, payer, "GET", "/v1/billing").json()
    assert found["state"] == "grace"
    assert found["open_invoice_url"].startswith(f"{HOSTED_AT}/invoices/")
    ends = datetime.fromisoformat(found["since"]) + timedelta(days=14)
    assert datetime.fromisoformat(found["next_change"]) == ends


def test_the_audit_log_names_the_request_that_led_to_stripe(world: SubscribedWorld, payer: Someone) -> None:
    bought = ask(world, payer, "POST", "/v1/billing/checkout", {"plan": "pro"})
    opened = ask(world, payer, "POST", "/v1/billing/portal")
    by_action = {body["action"]: body for body in noted(world, payer.tenant)}
    for action, answer in (
        ("billing:customer:linked", bought), ("billing:checkout:started", bought), ("billing:portal:opened", opened),
    ):  # fmt: skip
        assert by_action[action]["request_id"] == answer.headers["x-request-id"]
        assert by_action[action]["ip_hash"]


@pytest.mark.parametrize("failure", [503, 429, 0])
def test_stripe_out_of_reach_is_said_and_nothing_is_changed(
    world: SubscribedWorld, payer: Someone, failure: int
) -> None:
    world.stripe.fail(Failure(failure, times=9, path="/v1/customers"))
    try:
        answer = ask(world, payer, "POST", "/v1/billing/checkout", {"plan": "pro"})
    finally:
        world.stripe._failures.clear()
    assert (answer.status_code, answer.json()["code"]) == (503, "stripe_unavailable")
    assert answer.headers["retry-after"]
    assert "try again" in answer.json()["detail"]
    assert world.api.subscriptions.get(payer.tenant) is None


def test_a_key_that_stripe_refuses_is_the_operator_s_matter(
    world: SubscribedWorld, payer: Someone, caplog: pytest.LogCaptureFixture
) -> None:
    world.stripe.fail(Failure(400, times=9, path="/v1/customers"))
    try:
        answer = ask(world, payer, "POST", "/v1/billing/checkout", {"plan": "pro"})
    finally:
        world.stripe._failures.clear()
    assert (answer.status_code, answer.json()["code"]) == (502, "stripe_refused")
    assert "ask the operator" in answer.json()["detail"]
    assert "Stripe refuses" in caplog.text


def test_while_stripe_is_asked_no_transaction_is_open(world: SubscribedWorld, payer: Someone) -> None:
    held: list[int] = []
    answer = world.gateway._http_client
    assert answer is not None
    real = answer.request

    def request(*values: Any, **named: Any) -> Any:
        held.append(world.api.application_engine.pool.checkedout())  # type: ignore[attr-defined]
        return real(*values, **named)

    answer.request = request  # type: ignore[method-assign]
    try:
        assert ask(world, payer, "POST", "/v1/billing/checkout", {"plan": "pro"}).status_code == 201
        assert ask(world, payer, "POST", "/v1/billing/portal").status_code == 201
    finally:
        answer.request = real  # type: ignore[method-assign]
    assert len(held) >= 3
    assert set(held) == {0}


def test_only_who_pays_may_and_only_after_a_fresh_proof(world: SubscribedWorld, payer: Someone) -> None:
    unproved = signed_in(world.api, payer.tenant, "billing", stepped_up=False)
    for path, body in (("checkout", {"plan": "pro"}), ("portal", None)):
        assert ask(world, unproved, "POST", f"/v1/billing/{path}", body).json()["code"] == "step_up_required"
        admin = world.someone(payer.tenant, "admin")
        assert ask(world, admin, "POST", f"/v1/billing/{path}", body).json()["code"] == "forbidden"
    assert ask(world, unproved, "GET", "/v1/billing").status_code == 200


def test_an_owner_closes_the_account_by_typing_its_name_and_the_subscription_ends(
    world: SubscribedWorld, payer: Someone
) -> None:
    subscribed(world, payer)
    owner = world.someone(payer.tenant, "owner")
    close = "/v1/tenant/offboarding"
    wrong = ask(world, owner, "POST", close, {"confirm": "another"})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "/body/confirm")
    assert ask(world, payer, "POST", close, {"confirm": payer.tenant}).status_code == 403
    done = ask(world, owner, "POST", close, {"confirm": payer.tenant})
    assert done.status_code == 202, done.text
    assert ask(world, owner, "POST", close, {"confirm": payer.tenant}).json() == done.json()
    assert actions(world, payer.tenant).count("billing:offboarding:requested") == 1
    world.bring(payer.tenant, later=timedelta(minutes=5))
    assert ask(world, owner, "GET", "/v1/billing").json()["code"] == "plan_limit"
    ended = [s for s in world.stripe.books.objects.of("subscription") if s["metadata"]["tenant"] == payer.tenant]
    assert [subscription["cancel_at_period_end"] for subscription in ended] == [True]


def test_who_never_subscribed_asks_the_operator_to_close(world: SubscribedWorld, payer: Someone) -> None:
    owner = world.someone(payer.tenant, "owner")
    refused = ask(world, owner, "POST", "/v1/tenant/offboarding", {"confirm": payer.tenant})
    assert (refused.status_code, refused.json()["code"]) == (409, "not_subscribed")


def test_without_stripe_there_is_no_billing(
    database: Database, api_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plain = World(database, api_database, tmp_path_factory.mktemp("plain"))
    owner = plain.someone(plain.tenant(), "owner")
    for method, path, body in (
        ("GET", "/v1/billing", None),
        ("POST", "/v1/billing/checkout", {"plan": "pro"}),
        ("POST", "/v1/billing/portal", None),
        ("POST", "/v1/tenant/offboarding", {"confirm": owner.tenant}),
    ):
        answer = ask(plain, owner, method, path, body)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_configured"), path
