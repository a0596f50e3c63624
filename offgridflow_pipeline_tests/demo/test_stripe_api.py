"""The Stripe counterpart's API: keys, versions, idempotency, pages, expansion, events, failures, shapes."""

from __future__ import annotations

import importlib
import inspect
from datetime import timedelta
from typing import Any

import pytest
import stripe
from stripe._object_classes import OBJECT_CLASSES

from offgridflow_pipeline.demo.stripe_counterpart import API_VERSION, FAILING, Failure, NoAnswerError, StripeWorld
from offgridflow_pipeline_tests.demo.stripe_shop import client_of, shop

#: Fields the library knows as never absent and this counterpart leaves out: none of them says anything of a
#: subscription's state. `plan` is the price in the shape of before 2020.
LEFT_OUT = {"subscription_item": {"plan"}}
COMPLETE = ["customer", "event", "price", "product", "subscription", "subscription_item"]


def test_the_version_is_the_one_of_the_installed_library() -> None:
    from stripe._api_version import _ApiVersion

    assert _ApiVersion.CURRENT == API_VERSION


def _annotations(kind: str) -> dict[str, str]:
    module, name = OBJECT_CLASSES[kind]
    found: dict[str, Any] = {}
    for base in reversed(getattr(importlib.import_module(module), name).__mro__):
        if base.__module__.startswith("stripe") and base.__name__ != "StripeObject":
            found |= inspect.get_annotations(base)
    return {field: str(kind) for field, kind in found.items() if field[0] != "_" and "ClassVar" not in str(kind)}


def _told() -> StripeWorld:
    """A world in which objects of every kind came to be."""
    story = shop()
    story.subscribe()
    story.world.dispute(story.customer)
    story.world.use_card(story.customer, FAILING.number)
    story.pass_days(60)
    return story.world


def test_every_field_is_one_that_the_library_knows() -> None:
    world = _told()
    seen = set()
    for event in world.events:
        for document in (event, event["data"]["object"]):
            seen.add(document["object"])
            assert set(document) <= set(_annotations(document["object"])), document["object"]
    assert seen >= {*COMPLETE, "invoice", "charge", "payment_intent", "checkout.session"} - {"subscription_item"}


@pytest.mark.parametrize("kind", COMPLETE)
def test_no_field_is_missing_that_is_never_absent(kind: str) -> None:
    never_absent = {field for field, shape in _annotations(kind).items() if "Optional" not in shape}
    for document in _told().books.objects.of(kind):
        assert never_absent - LEFT_OUT.get(kind, set()) <= set(document)


def test_the_same_seed_and_story_give_the_same_identifiers() -> None:
    assert [event["id"] for event in _told().events] == [event["id"] for event in _told().events]
    assert shop(seed=1).customer != shop(seed=2).customer


def test_the_same_idempotency_key_makes_one_customer() -> None:
    story = shop()
    first, second = (story.client.v1.customers.create({"name": "A"}, {"idempotency_key": "key-1"}) for _ in range(2))
    assert first.id == second.id
    assert second.last_response is not None
    assert second.last_response.headers["Idempotent-Replayed"] == "true"
    with pytest.raises(stripe.IdempotencyError):
        story.client.v1.customers.create({"name": "B"}, {"idempotency_key": "key-1"})
    story.pass_days(1)
    assert story.client.v1.customers.create({"name": "B"}, {"idempotency_key": "key-1"}).id != first.id


def test_a_request_in_another_version_is_refused_and_recorded() -> None:
    story = shop()
    old = client_of(story.world, stripe_version="2024-06-20")
    with pytest.raises(stripe.InvalidRequestError, match="version"):
        old.v1.customers.list()
    assert story.world.requests[-1].version == "2024-06-20"


@pytest.mark.parametrize("key", ["sk_live_1", "nonsense"])
def test_only_keys_of_test_mode_are_taken(key: str) -> None:
    world = shop().world
    status, document = world.handle("GET", "/v1/customers", {}, {"Authorization": f"Bearer {key}"})
    assert (status, document["error"]["type"]) == (401, "invalid_request_error")


def test_listings_are_paged_newest_first() -> None:
    story = shop()
    made = [story.client.v1.products.create({"name": f"Product {n}"}).id for n in range(25)]
    page = story.client.v1.products.list({"limit": 10})
    assert [product.id for product in page.data] == made[:-11:-1]
    assert page.has_more
    everything = [product.id for product in story.client.v1.products.list({"limit": 7}).auto_paging_iter()]
    assert everything[:25] == made[::-1]
    back = story.client.v1.products.list({"ending_before": made[0], "limit": 3}).data
    assert [product.id for product in back] == [made[3], made[2], made[1]]
    with pytest.raises(stripe.InvalidRequestError, match="limit"):
        story.client.v1.products.list({"limit": 101})


def test_expansion_reaches_four_levels_and_no_further() -> None:
    story = shop()
    subscription = story.subscribe()
    one = story.client.v1.subscriptions.retrieve(
        subscription, {"expand": ["items.data.price.product", "customer", "latest_invoice.payments"]}
    )
    assert one["items"].data[0].price.product.metadata["plan"] == "basic"
    assert isinstance(one.latest_invoice, stripe.Invoice)
    assert one.latest_invoice.payments is not None
    assert one.latest_invoice.payments.data[0].status == "paid"
    with pytest.raises(stripe.InvalidRequestError, match="more than 4 levels"):
        story.client.v1.subscriptions.list({"expand": ["data.items.data.price.product"]})
    with pytest.raises(stripe.InvalidRequestError, match=r"try expanding 'data\.customer'"):
        story.client.v1.subscriptions.list({"expand": ["customer"]})


def test_subscriptions_are_listed_by_status_customer_and_price() -> None:
    story = shop()
    running, ended = story.subscribe(), story.subscribe(price="price_pro")
    story.client.v1.subscriptions.cancel(ended)

    def listed(**filters: Any) -> list[str]:
        return [found.id for found in story.client.v1.subscriptions.list(filters).data]  # type: ignore[arg-type]

    assert listed() == listed(status="active") == [running]
    assert listed(status="all") == [ended, running]
    assert listed(status="ended") == listed(status="canceled") == [ended]
    assert listed(status="all", price="price_pro") == [ended]
    assert listed(customer="cus_other", status="all") == []


def test_events_hold_the_object_as_it_was_then_and_what_changed() -> None:
    story = shop()
    subscription = story.subscribe(trial_days=14)
    story.pass_days(20)
    events = story.client.v1.events.list({"types": ["customer.subscription.created", "customer.subscription.updated"]})
    newest, oldest = events.data[0], events.data[-1]
    assert (oldest.data.object["status"], newest.data.object["status"]) == ("trialing", "active")
    assert newest.data.previous_attributes is not None
    assert newest.data.previous_attributes["status"] == "trialing"
    assert {event.data.object["id"] for event in events.data} == {subscription}
    assert all((event.livemode, event.api_version) == (False, API_VERSION) for event in events.data)


def test_events_say_which_request_caused_them() -> None:
    story = shop()
    created = story.client.v1.customers.create({"name": "A"}, {"idempotency_key": "key-2"})
    (event,) = (e for e in story.world.events if e["data"]["object"]["id"] == created.id)
    assert created.last_response is not None
    assert event["request"] == {"id": created.last_response.request_id, "idempotency_key": "key-2"}
    story.pass_days(1)
    story.subscribe()
    story.pass_days(40)
    assert story.world.events[-1]["request"]["id"] is None


def test_events_are_listed_by_time_and_for_thirty_days() -> None:
    story = shop()
    since = story.world.clock.timestamp + 1
    story.pass_days(10)
    story.client.v1.products.create({"name": "Later"})
    (later,) = story.client.v1.events.list({"created": {"gte": since}}).data
    assert later.type == "product.created"
    story.pass_days(25)
    assert [event.id for event in story.client.v1.events.list().data] == [later.id]
    with pytest.raises(stripe.InvalidRequestError, match="No such event"):
        story.client.v1.events.retrieve(story.world.events[0]["id"])


def test_metadata_is_merged_and_unset_by_an_empty_value() -> None:
    story = shop()
    changed = story.client.v1.customers.update(story.customer, {"metadata": {"plan": "pro", "tenant": ""}})
    assert changed.metadata.to_dict() == {"plan": "pro"}


def test_prices_are_found_by_lookup_key() -> None:
    (price,) = shop().client.v1.prices.list({"lookup_keys": ["pro"], "expand": ["data.product"]}).data
    assert (price.id, price.product.metadata["plan"]) == ("price_pro", "pro")  # type: ignore[union-attr]


def test_a_portal_session_leads_to_a_page() -> None:
    story = shop()
    portal = story.client.v1.billing_portal.sessions.create(
        {"customer": story.customer, "return_url": "https://merchant.test/billing"}
    )
    assert portal.url.startswith("https://stripe.test/portal/p_session_test_")
    assert portal.customer == story.customer


def test_what_does_not_exist_is_missing() -> None:
    story = shop()
    with pytest.raises(stripe.InvalidRequestError) as refused:
        story.client.v1.subscriptions.retrieve("sub_none")
    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")
    with pytest.raises(stripe.InvalidRequestError, match="Unrecognized request URL"):
        story.client.v1.coupons.list()


def test_a_server_error_is_retried_by_the_library() -> None:
    story = shop()
    story.world.fail(Failure(500, times=2, path="/v1/customers"))
    patient = client_of(story.world, max_network_retries=2)
    assert patient.v1.customers.retrieve(story.customer).id == story.customer
    story.world.fail(Failure(500, times=3))
    with pytest.raises(stripe.APIError):
        patient.v1.customers.retrieve(story.customer)


def test_a_lost_answer_and_its_retry_have_one_effect() -> None:
    story = shop()
    story.world.fail(Failure(0, path="/v1/customers", after_effect=True))
    before = len(story.world.books.objects.of("customer"))
    client_of(story.world, max_network_retries=2).v1.customers.create({"name": "Once"})
    assert len(story.world.books.objects.of("customer")) == before + 1


def test_too_many_requests_and_silence_reach_the_caller() -> None:
    story = shop()
    story.world.fail(Failure(429))
    with pytest.raises(stripe.RateLimitError):
        story.client.v1.customers.list()
    story.world.unreachable = True
    with pytest.raises(stripe.APIConnectionError):
        story.client.v1.customers.list()
    with pytest.raises(NoAnswerError):
        story.world.handle("GET", "/v1/customers", {}, {})
    story.world.unreachable = False
    story.world.advance(timedelta(hours=1))
    assert len(story.client.v1.customers.list().data) == 1
