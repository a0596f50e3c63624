"""From events of Stripe to runs and back: asked for once, finished after a kill, compared daily, and told by the CLI."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from offgridflow_pipeline.cli import app
from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.money.external_events import JITTER, MAXIMUM_ATTEMPTS, OUTAGE_WAIT
from offgridflow_pipeline.database.pipeline.jobs import Job
from offgridflow_pipeline.defs.billing import daily_billing_reconcile
from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.defs.sensors.billing import run_key
from offgridflow_pipeline.demo.stripe_counterpart import Failure
from offgridflow_pipeline.settings import load_settings
from offgridflow_pipeline.subscriptions.gateway import StripeGateway
from offgridflow_pipeline.telemetry.traces import TraceParent
from offgridflow_pipeline_tests.counterparts.postgres import migrated_database
from offgridflow_pipeline_tests.defs.subscribed import StripeDesk, configure, metadata_of, stand

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def own_database() -> Iterator[Database]:
    """Not the shared one: the inbox is one for all tenants."""
    with migrated_database() as opened:
        yield opened


@pytest.fixture
def unconfigured(own_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DATABASE_URL", own_database.admin_engine.url.render_as_string(hide_password=False))
    monkeypatch.setenv("OFFGRIDFLOW_DATA_DIR", str(tmp_path / "data"))
    load_settings.cache_clear()
    yield
    with own_database.admin_engine.begin() as connection:  # the next test has a Stripe of its own
        connection.exec_driver_sql("delete from ogf.external_events")
        connection.exec_driver_sql("delete from ogf.subscriptions")
    load_settings.cache_clear()


@pytest.fixture
def desk(own_database: Database, unconfigured: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[StripeDesk]:
    configure(monkeypatch)
    with dg.DagsterInstance.ephemeral() as instance:
        yield StripeDesk(monkeypatch, own_database, instance)


@pytest.fixture
def tenant(own_database: Database, request: pytest.FixtureRequest) -> str:
    name = sha256(request.node.name.encode()).hexdigest()
    return own_database.tenants.add(f"t-{name[:16]}", "Tenant of a test").slug


def test_events_become_one_run_that_carries_their_trace_and_brings_the_tenant_where_stripe_says(
    desk: StripeDesk, tenant: str
) -> None:
    desk.subscribe(tenant, "pro")
    desk.deliveries.pump()
    desk.write("update ogf.external_events set traceparent = :trace", trace=TRACE)
    oldest = desk.database.external_events.oldest_due()
    assert oldest is not None
    (request,) = desk.requests()
    assert request.run_key == f"stripe:{oldest.external_id}:0:0"
    assert request.tags == {"offgridflow/trigger": "stripe", "traceparent": TRACE}
    result = desk.run(**request.tags)
    assert result.success
    assert desk.standing(tenant) == ("pro", "active")
    found = metadata_of(result, "consume_events")
    assert (found["customers"], found["failed"], found["tenants_changed"]) == (1, 0, [tenant])
    assert found["events"] == sum(desk.states().get(state, 0) for state in ("done",))
    assert desk.requests() == []


def test_ticks_ask_for_a_run_once_and_wait_while_it_is_under_way(desk: StripeDesk, tenant: str) -> None:
    desk.subscribe(tenant)
    desk.deliveries.pump()
    first, again = desk.requests(), desk.requests()
    assert [r.run_key for r in first] == [r.run_key for r in again]
    run = desk.instance.create_run_for_job(_job(), status=dg.DagsterRunStatus.STARTED)
    skipped = desk.tick()
    assert isinstance(skipped, dg.SkipReason)
    assert "under way" in str(skipped.skip_message)
    desk.instance.delete_run(run.run_id)
    assert len(desk.requests()) == 1


def test_a_run_that_was_lost_is_asked_for_again_under_another_key(desk: StripeDesk, tenant: str) -> None:
    desk.subscribe(tenant)
    desk.deliveries.pump()
    (lost,) = desk.requests()
    desk.write("update ogf.external_events set received_at = received_at - interval '16 minutes'")
    (again,) = desk.requests()
    assert lost.run_key != again.run_key
    event = desk.database.external_events.oldest_due()
    assert event is not None
    assert run_key(event, event.received_at - timedelta(seconds=5)).endswith(":0")  # another machine's clock


def test_after_an_outage_of_stripe_the_next_run_is_asked_for_under_another_key(desk: StripeDesk, tenant: str) -> None:
    desk.subscribe(tenant)
    desk.deliveries.pump()
    (first,) = desk.requests()
    desk.world.unreachable = True
    assert desk.run().success
    desk.world.unreachable = False
    assert desk.requests() == []  # it waits
    shortest = OUTAGE_WAIT * (1 - JITTER)
    desk.write(
        "update ogf.external_events set next_attempt_at = now(), received_at = received_at - :wait", wait=shortest
    )
    (again,) = desk.requests()
    assert again.run_key != first.run_key
    assert desk.run().success
    assert desk.standing(tenant) == ("pro", "active")


def test_a_run_killed_in_the_middle_of_a_batch_loses_nothing_and_the_next_one_does_nothing_twice(
    desk: StripeDesk, own_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenants = [own_database.tenants.add(f"killed-{n}", "Tenant of a test").slug for n in range(3)]
    for slug in tenants:
        desk.subscribe(slug)
    desk.deliveries.pump()
    snapshot, fetched = StripeGateway.snapshot, []

    def dying(self: StripeGateway, customer_id: str) -> Any:
        fetched.append(customer_id)
        if len(fetched) == 2:
            raise KeyboardInterrupt
        return snapshot(self, customer_id)

    with monkeypatch.context() as killing:
        killing.setattr(StripeGateway, "snapshot", dying)
        assert not desk.run().success
    assert desk.states()["processing"] > 0
    assert sorted(desk.standing(slug)[0] for slug in tenants) == ["free", "free", "pro"]
    assert desk.database.external_events.oldest_due() is None  # until the lease of what it held ends
    desk.write("update ogf.external_events set lease_until = now() where state = 'processing'")
    oldest = desk.database.external_events.oldest_due()
    assert oldest is not None
    (request,) = desk.requests()
    assert f":{oldest.attempts}:" in str(request.run_key)
    assert desk.run().success
    assert [desk.standing(slug) for slug in tenants] == [("pro", "active")] * 3
    assert set(desk.states()) <= {"done", "ignored"}
    assert {slug: desk.actions(slug).count("billing:plan:changed") for slug in tenants} == dict.fromkeys(tenants, 1)


def test_an_event_that_always_fails_is_given_up_shown_and_replayed(desk: StripeDesk, tenant: str) -> None:
    customer = desk.subscribe(tenant)
    desk.deliveries.pump()
    (event, *_) = desk.database.external_events.newest(["pending"], 1)
    desk.write("delete from ogf.external_events where external_id <> :id", id=event.external_id)
    desk.write("update ogf.external_events set attempts = :n", n=MAXIMUM_ATTEMPTS - 1)
    desk.world.fail(Failure(400, path="/v1/customers/"))
    result = desk.run()
    assert result.success  # the others' events were consumed
    assert metadata_of(result, "consume_events")["dead"] == [event.external_id]
    verdict = evaluation(result, "no_event_given_up")
    assert not verdict.passed
    assert f"`{event.external_id}`, {event.event_type}: Stripe refuses" in str(verdict.metadata["findings"].value)
    assert "billing replay" in str(verdict.description)
    assert shown_verdict(desk) == "FAILED"
    assert desk.states() == {"dead": 1}
    shown = _cli("status")
    assert f"Dead: {event.external_id}" in shown.output
    assert "Stripe refuses" in shown.output
    assert f"{tenant:<24} free       active     from the start   {customer}" in shown.output
    assert _cli("replay", event.external_id).exit_code == 0
    assert evaluation(desk.run(), "no_event_given_up").passed
    assert shown_verdict(desk) == "SUCCEEDED"
    assert desk.standing(tenant) == ("pro", "active")
    assert "No event is due." in _cli("status", tenant).output
    assert "evt_none" in _cli("replay", "evt_none", code=1).output


def test_the_daily_run_names_what_was_given_up_until_it_is_replayed(desk: StripeDesk, tenant: str) -> None:
    desk.subscribe(tenant)
    desk.deliveries.pump()
    desk.write("update ogf.external_events set state = 'dead', settled_at = now(), last_error = 'KeyError'")
    result = desk.run("billing_reconcile")
    assert result.success
    verdict = evaluation(result, "no_event_given_up")
    assert (verdict.passed, verdict.metadata["given_up"].value) == (False, desk.states()["dead"])


def test_events_that_never_arrived_are_found_by_the_daily_run(desk: StripeDesk, tenant: str) -> None:
    desk.lose_events()
    desk.subscribe(tenant, "enterprise")
    assert desk.states() == {}
    result = desk.run("billing_reconcile")
    assert result.success
    assert desk.standing(tenant) == ("enterprise", "active")
    assert evaluation(result, "drift").passed
    assert evaluation(result, "no_event_given_up").passed
    (kept,) = desk.database.check_ledger.list(tenant, check_name="billing_snapshots.drift")
    assert kept.passed
    (materialized,) = result.asset_materializations_for_node("billing_snapshots")
    assert materialized.metadata["events_that_never_arrived"].value > 0


def test_a_planted_difference_is_found_with_both_states_and_a_replay_repairs_it(desk: StripeDesk, tenant: str) -> None:
    customer = desk.subscribe(tenant, "pro")
    desk.deliveries.pump()
    assert desk.run().success
    assert _cli("reconcile").output == "Billing drift = 0.\n"
    desk.write("update ogf.subscriptions set snapshot = null, fetched_at = null")
    stand(desk.database, tenant, "free")
    sentence = f"{tenant} ({customer}) is on free, active here, and on pro, active by Stripe."
    assert sentence in _cli("reconcile", code=1).output
    result = desk.run("billing_reconcile")
    assert result.success  # a check that finds something stops nothing
    found = evaluation(result, "drift")
    assert not found.passed
    assert sentence in str(found.metadata["findings"].value)
    assert [v.finding for v in desk.database.check_ledger.list(tenant) if not v.passed] == [sentence]
    (event, *_) = desk.database.external_events.newest(["done"], 1)
    assert _cli("replay", event.external_id).exit_code == 0
    assert desk.run().success
    assert desk.standing(tenant) == ("pro", "active")
    assert _cli("reconcile").exit_code == 0


def test_a_backfill_by_hand_puts_into_the_inbox_what_never_arrived_and_once(desk: StripeDesk, tenant: str) -> None:
    desk.lose_events()
    desk.subscribe(tenant)
    since = f"{datetime.now(UTC) - timedelta(days=2):%Y-%m-%d}"
    listed = len(desk.world.events)
    assert f"{listed} of them were new" in _cli("backfill", "--since", since).output
    assert " 0 of them were new" in _cli("backfill", "--since", since).output
    assert len(desk.requests()) == 1


def test_stripe_out_of_reach_is_said_in_a_line_and_nothing_is_lost(desk: StripeDesk) -> None:
    desk.world.unreachable = True
    for command in (["reconcile"], ["backfill", "--since", "2026-11-01"]):
        said = _cli(*command, code=1).output
        assert said.startswith("Error: Stripe cannot answer")
        assert "ask again" in said


def test_time_alone_asks_for_a_run_once_an_hour_and_only_where_there_are_customers(
    desk: StripeDesk, tenant: str
) -> None:
    assert desk.requests() == []
    desk.subscribe(tenant)  # and no event arrives
    (request,) = desk.requests()
    assert request.run_key == f"stripe:time:{desk.cursor}"
    assert desk.requests() == []
    desk.cursor = "2026-01-01T00"
    assert len(desk.requests()) == 1


def test_an_account_that_its_owner_closes_is_closed_by_the_next_tick(desk: StripeDesk, tenant: str) -> None:
    desk.subscribe(tenant)
    desk.tick()  # the hour is taken, and no event comes
    desk.database.subscriptions.request_offboarding(tenant, datetime.now(UTC))
    desk.tick()
    assert desk.database.subscriptions.standing(tenant).state == "offboarded"
    assert tenant not in desk.database.subscriptions.leaving()


def test_the_sensor_takes_the_steps_of_onboarding_which_no_request_asked_for(desk: StripeDesk, tenant: str) -> None:
    desk.subscribe(tenant)
    desk.deliveries.pump()
    assert desk.run(traceparent=TRACE).success
    assert desk.database.jobs.tenants() == []
    desk.connect(tenant)
    desk.tick()
    jobs = desk.database.jobs.list(tenant, limit=100)
    assert {(job.type, job.requested_by, job.traceparent) for job in jobs} == {("connector_sync", "system", None)}


def test_who_subscribes_with_a_connection_has_its_bills_read_in_the_trace_of_the_run(
    desk: StripeDesk, tenant: str
) -> None:
    desk.subscribe(tenant)
    desk.connect(tenant)
    desk.deliveries.pump()
    assert desk.run(traceparent=TRACE).success
    assert_in_the_trace(desk.database.jobs.list(tenant, limit=100))


def test_a_tenant_that_pays_again_has_its_days_read_in_the_trace_of_the_run(desk: StripeDesk, tenant: str) -> None:
    desk.subscribe(tenant)
    desk.connect(tenant)
    since = datetime.now(UTC) - timedelta(days=3)
    desk.database.subscriptions.onboard(tenant, "done")
    desk.database.subscriptions.change_standing(tenant, "pro", "restricted", since)
    desk.database.subscriptions.stop(tenant, since)
    desk.deliveries.pump()
    assert desk.run(traceparent=TRACE).success
    assert_in_the_trace(desk.database.jobs.list(tenant, limit=100))


def test_without_stripe_nothing_is_asked_for_and_everyone_says_why(unconfigured: None) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        said = []
        with dg.build_sensor_context(instance, resources={"platform": Platform()}) as context:
            from offgridflow_pipeline.defs.sensors.billing import stripe_inbox

            said.append(stripe_inbox(context))
        with dg.build_schedule_context(
            instance, scheduled_execution_time=datetime.now(UTC), resources={"platform": Platform()}
        ) as context:
            said += list(daily_billing_reconcile(context))
        for skipped in said:
            assert isinstance(skipped, dg.SkipReason)
            assert "STRIPE_SECRET_KEY" in str(skipped.skip_message)
        by_hand = _job().execute_in_process(instance=instance, raise_on_error=False)
        assert not by_hand.success
    assert "Set STRIPE_SECRET_KEY" in _cli("status").output
    for command in (["reconcile"], ["backfill", "--since", "2026-11-01"]):
        assert "Set STRIPE_SECRET_KEY" in _cli(*command, code=1).output


def test_the_daily_schedule_asks_for_one_run_a_day(desk: StripeDesk) -> None:
    at = datetime(2026, 11, 25, 5, 20, tzinfo=UTC)
    with dg.build_schedule_context(
        desk.instance, scheduled_execution_time=at, resources={"platform": Platform()}
    ) as context:
        (request,) = daily_billing_reconcile(context)
    assert isinstance(request, dg.RunRequest)
    assert request.run_key == "billing|2026-11-25"


def test_a_tenant_is_relinked_by_hand_and_stands_where_stripe_says(desk: StripeDesk, tenant: str) -> None:
    desk.database.subscriptions.link(tenant, "cus_of_another_account")
    mine = desk.world.call("POST", "/v1/customers", name="A tenant")["id"]
    desk.world.use_card(mine, "4242424242424242")
    desk.world.call("POST", "/v1/subscriptions", customer=mine, items=[{"price": "price_pro"}])
    said = _cli("relink", tenant, mine).output
    assert f"{tenant} was cus_of_another_account and is {mine} now." in said
    assert "were written at Stripe" in said
    assert f"{tenant:<24} pro        active" in said
    assert desk.standing(tenant) == ("pro", "active")
    assert "Error: " in (refused := _cli("relink", tenant, mine, code=1).output)
    assert "already" in refused
    assert "No tenant 'nobody'" in _cli("relink", "nobody", mine, code=1).output


def evaluation(result: dg.ExecuteInProcessResult, check: str) -> dg.AssetCheckEvaluation:
    """What the run says of a check."""
    (found,) = [one for one in result.get_asset_check_evaluations() if one.check_name == check]
    return found


def shown_verdict(desk: StripeDesk) -> str:
    """What Dagster shows of the inbox beside the asset: the newest verdict, whichever job came to it."""
    key = dg.AssetCheckKey(dg.AssetKey("billing_snapshots"), "no_event_given_up")
    (newest,) = desk.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    return newest.status.value


def assert_in_the_trace(jobs: list[Job]) -> None:
    assert jobs
    for job in jobs:
        trace = TraceParent.parse(job.traceparent or "")
        assert trace is not None
        assert f"{trace.trace_id:032x}" == TRACE.split("-")[1]
        assert f"{trace.span_id:016x}" != TRACE.split("-")[2]


def _job() -> dg.JobDefinition:
    from offgridflow_pipeline.definitions import defs

    return defs.resolve_job_def("billing_events")


def _cli(*arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["billing", *arguments])
    assert result.exit_code == code, result.output
    return result
