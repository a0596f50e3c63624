"""A Stripe counterpart that is started again is the same account: nothing forgotten, no identifier given out twice."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import stripe

from offgridflow_pipeline.demo.stripe_counterpart import (
    API_VERSION,
    FAILING,
    GOOD,
    AccountSettings,
    ApiError,
    StripeServer,
    StripeWorld,
)
from offgridflow_pipeline.demo.stripe_counterpart.journal import Journal, JournalError
from offgridflow_pipeline_tests.demo.stripe_shop import START, Shop, client_of, stocked


def opened(path: Path) -> StripeWorld:
    return Journal(path).world(stocked, start=START, seed=7, settings=AccountSettings())


def told(world: StripeWorld) -> Shop:
    """A story with every kind of deed: a checkout refused and done, dunning, a payment, a dispute, a deletion."""
    client = client_of(world)
    story = Shop(world, client, client.v1.customers.create({"name": "A"}, {"idempotency_key": "k"}).id)
    session = story.checkout()
    with pytest.raises(ApiError):
        world.complete_checkout(session.id, FAILING.number)
    subscription = str(world.complete_checkout(session.id, GOOD.number)["subscription"])
    world.use_card(story.customer, FAILING.number)
    story.pass_days(35)
    with pytest.raises(ApiError):
        world.pay_invoice(story.invoices(status="open")[0].id)
    world.pay_invoice(story.invoices(status="open")[0].id, GOOD.number)
    world.dispute(story.customer)
    world.call("POST", f"/v1/subscriptions/{subscription}", cancel_at_period_end="true")
    client.v1.customers.delete(client.v1.customers.create({"name": "Gone"}).id)
    return story


def test_what_happened_is_there_again(tmp_path: Path) -> None:
    first = told(opened(tmp_path / "journal")).world
    second = opened(tmp_path / "journal")
    assert [(e["id"], e["type"], e["created"], e["data"]) for e in second.events] == [
        (e["id"], e["type"], e["created"], e["data"]) for e in first.events
    ]
    assert second.clock.now() == first.clock.now()


def test_what_comes_after_goes_on_and_is_kept_too(tmp_path: Path) -> None:
    first = told(opened(tmp_path / "journal")).world
    second = opened(tmp_path / "journal")
    again = client_of(second).v1.customers.create({"name": "A"}, {"idempotency_key": "k2"})
    assert again.id not in {event["data"]["object"].get("id") for event in first.events}
    assert client_of(opened(tmp_path / "journal")).v1.customers.retrieve(again.id).name == "A"


def test_a_retry_after_the_start_is_answered_as_before(tmp_path: Path) -> None:
    client = client_of(opened(tmp_path / "journal"))
    made = client.v1.customers.create({"name": "A"}, {"idempotency_key": "k"})
    again = client_of(opened(tmp_path / "journal")).v1.customers.create({"name": "A"}, {"idempotency_key": "k"})
    assert again.id == made.id


def test_no_card_number_is_written(tmp_path: Path) -> None:
    world = told(opened(tmp_path / "journal")).world
    with pytest.raises(ApiError, match="number is incorrect"):
        world.use_card(str(world.books.objects.of("customer")[-1]["id"]), "4929000000000006")
    text = (tmp_path / "journal").read_text()
    assert GOOD.token in text
    assert not {GOOD.number, FAILING.number, "4929000000000006"} & set(text.replace('"', " ").split())


def test_a_file_that_is_no_journal_is_named(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("{}\nnonsense\n")
    with pytest.raises(JournalError, match="line 2"):
        opened(tmp_path / "journal")


def test_a_ticking_clock_writes_nothing(tmp_path: Path) -> None:
    world = opened(tmp_path / "journal")
    with world.lock:
        world.clock.advance(timedelta(seconds=5))
    with StripeServer(world):
        client_of(world).v1.customers.list()
    assert len((tmp_path / "journal").read_text().splitlines()) == 1


def test_the_program_remembers_its_customers(tmp_path: Path) -> None:
    made = ""
    for _ in range(2):
        command = [sys.executable, "-m", "offgridflow_pipeline.demo.stripe_counterpart"]
        with subprocess.Popen(
            [*command, "--journal", str(tmp_path / "journal")], stdout=subprocess.PIPE, text=True
        ) as program:
            try:
                assert program.stdout is not None
                url = program.stdout.readline().split()[-1]
                client = stripe.StripeClient("sk_test_x", stripe_version=API_VERSION, base_addresses={"api": url})
                made = made or client.v1.customers.create({"name": "Kept"}).id
                assert client.v1.customers.retrieve(made).name == "Kept"
            finally:
                program.terminate()
    assert json.loads((tmp_path / "journal").read_text().splitlines()[1])["deed"] == "answer"
