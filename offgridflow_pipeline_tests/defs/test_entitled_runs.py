"""Who may not work is asked for nothing and begins nothing, in every schedule, sensor and job; and reads why."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from hashlib import sha256

import dagster as dg
import pytest

from offgridflow_pipeline.connectors.connections import connection, to_row
from offgridflow_pipeline.database.money.subscriptions import Subscriptions
from offgridflow_pipeline.database.pipeline.changes import DetectedChange
from offgridflow_pipeline.definitions import defs
from offgridflow_pipeline.defs.partitions import TENANT_PARTITIONS
from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.defs.run_failures import failure_of
from offgridflow_pipeline.defs.schedules import nightly_window
from offgridflow_pipeline.defs.sensors.changes import changed_sources
from offgridflow_pipeline.defs.sensors.tenants import tenant_sync
from offgridflow_pipeline.defs.standings import require_entitled, without_barred
from offgridflow_pipeline.identity import api_keys
from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline.subscriptions.entitlements import UNLIMITED
from offgridflow_pipeline_tests.defs.job_desk import Desk
from offgridflow_pipeline_tests.defs.subscribed import configure, stand
from offgridflow_pipeline_tests.identity.people import new_person

TODAY = datetime.now(UTC).date()
STOPPED = ("restricted", "suspended", "offboarded")
SAYS = {"restricted": "is not paid", "suspended": "has ended", "offboarded": "is closed"}
#: A week of days that every plan reaches, in one month.
RECENT = {"first": f"{TODAY.replace(day=1)}", "last": f"{TODAY.replace(day=1)}"}


@pytest.fixture
def subscribed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    configure(monkeypatch)
    stand(desk.database, desk.tenant, "pro")
    return desk


@pytest.mark.parametrize("state", STOPPED)
@pytest.mark.parametrize(
    ("job_type", "payload"),
    [("connector_sync", RECENT), ("emissions_calculation", RECENT), ("report_generation", {"month": "2026-10"})],
)
def test_a_job_of_a_tenant_that_may_not_work_fails_at_once_with_the_reason(
    subscribed: Desk, state: str, job_type: str, payload: dict[str, str]
) -> None:
    stand(subscribed.database, subscribed.tenant, "pro", state)
    job = subscribed.ask(job_type, payload)
    assert subscribed.tick() == []
    found = subscribed.job(job)
    assert (found.status, found.attempts) == ("failed", 1)
    assert SAYS[state] in str(found.error)
    assert ("runs:failed", f"job_{job.job_id}") in subscribed.events()


def test_a_restricted_tenant_may_still_try_a_connection(subscribed: Desk) -> None:
    stand(subscribed.database, subscribed.tenant, "pro", "restricted")
    subscribed.ask("connector_test", {"connection_id": "aws-payer"})
    (request,) = subscribed.tick()
    assert request.job_name == "connection_test"


@pytest.mark.parametrize("state", ["trial", "active", "grace"])
def test_who_may_work_gets_the_run_that_was_asked_for(subscribed: Desk, state: str) -> None:
    stand(subscribed.database, subscribed.tenant, "pro", state)
    subscribed.ask("connector_sync", RECENT)
    assert len(subscribed.tick()) == 1


@pytest.mark.parametrize("job_type", ["connector_sync", "emissions_calculation"])
def test_days_beyond_the_history_of_the_plan_are_not_read_and_not_calculated(subscribed: Desk, job_type: str) -> None:
    stand(subscribed.database, subscribed.tenant, "free")
    day = TODAY - timedelta(days=91)
    job = subscribed.ask(job_type, {"first": f"{day}", "last": f"{day}"})
    assert subscribed.tick() == []
    assert "90 days of history" in str(subscribed.job(job).error)
    stand(subscribed.database, subscribed.tenant, "basic")
    subscribed.ask(job_type, {"first": f"{day}", "last": f"{day}"})
    assert len(subscribed.tick()) == 1


def test_days_that_were_within_the_history_when_they_were_asked_for_are_read_after_midnight(subscribed: Desk) -> None:
    stand(subscribed.database, subscribed.tenant, "free")
    day = TODAY - timedelta(days=91)
    job = subscribed.ask("connector_sync", {"first": f"{day}", "last": f"{day}"})
    subscribed.write("update ogf.jobs set created_at = created_at - interval '1 day' where job_id = :job_id", job)
    assert len(subscribed.tick()) == 1


@pytest.mark.parametrize(
    ("plan", "formats"),
    [("free", {"datapack"}), ("basic", {"datapack", "pdf", "workbook"}), ("pro", None), ("enterprise", None)],
)
def test_a_report_is_asked_for_in_the_formats_of_the_plan(
    subscribed: Desk, plan: str, formats: set[str] | None
) -> None:
    stand(subscribed.database, subscribed.tenant, plan)
    subscribed.ask("report_generation", {"month": "2026-10"})
    (request,) = subscribed.tick()
    if formats is None:
        assert request.asset_selection is None
        assert "offgridflow/artefacts" not in request.tags
        return
    names = {key.to_user_string() for key in request.asset_selection or ()}
    artefacts = {f"report_{name}" for name in formats}
    assert set(request.tags["offgridflow/artefacts"].split()) == artefacts
    assert names == {"ghg_inventory", "report_facts", *artefacts, "report_publication"}
    subset = defs.resolve_job_def("monthly_report").get_subset(asset_selection=set(request.asset_selection or ()))
    steps = set(subset.graph.node_dict)
    assert {"ghg_inventory_whole_month", "report_facts_equals_ledger"} <= steps
    assert not [step for step in steps if step.startswith(("report_ixbrl", "report_xbrl"))]


def test_changes_of_a_tenant_that_may_not_work_wait_until_it_may(subscribed: Desk) -> None:
    _detect(subscribed, TODAY)
    stand(subscribed.database, subscribed.tenant, "pro", "restricted")
    assert _changes(subscribed) == []
    stand(subscribed.database, subscribed.tenant, "pro")
    assert _changes(subscribed) == [f"{TODAY}"]


def test_changes_beyond_the_history_of_the_plan_wait_for_a_larger_one(subscribed: Desk) -> None:
    stand(subscribed.database, subscribed.tenant, "free")
    old = TODAY - timedelta(days=91)
    _detect(subscribed, TODAY)
    _detect(subscribed, old)
    assert _changes(subscribed) == [f"{TODAY}"]
    stand(subscribed.database, subscribed.tenant, "basic")
    assert _changes(subscribed) == [f"{old}"]


def test_the_night_leaves_out_who_may_not_work_and_says_so(subscribed: Desk) -> None:
    _connect(subscribed)
    assert len([run for run in _night(subscribed) if isinstance(run, dg.RunRequest)]) >= 1
    stand(subscribed.database, subscribed.tenant, "pro", "suspended")
    (skipped,) = _night(subscribed)
    assert isinstance(skipped, dg.SkipReason)
    assert subscribed.tenant in str(skipped.skip_message)
    assert "has ended" in str(skipped.skip_message)


def test_sources_of_who_may_not_work_are_not_asked(subscribed: Desk) -> None:
    _connect(subscribed)
    stand(subscribed.database, subscribed.tenant, "pro", "restricted")
    survey = defs.resolve_job_def("source_survey")
    config = {"ops": {"survey_sources": {"config": {"tenant": subscribed.tenant}}}}
    by_hand = survey.execute_in_process(instance=subscribed.instance, run_config=config, raise_on_error=False)
    assert not by_hand.success
    assert (
        f"{subscribed.tenant} is not surveyed."
        in failure_of(subscribed.instance, subscribed.database, subscribed.tenant, by_hand.run_id).message
    )
    (row,) = subscribed.database.connections.list(subscribed.tenant)
    assert row.last_error is None


def test_a_tenant_whose_account_is_closed_gets_no_partition_and_keeps_the_one_it_has(subscribed: Desk) -> None:
    stand(subscribed.database, subscribed.tenant, "pro", "offboarded")
    with dg.DagsterInstance.ephemeral() as empty:
        assert subscribed.tenant not in _added(empty)
        stand(subscribed.database, subscribed.tenant, "pro", "suspended")
        assert subscribed.tenant in _added(empty)
    stand(subscribed.database, subscribed.tenant, "pro", "offboarded")
    _added(subscribed.instance)
    assert subscribed.tenant in subscribed.instance.get_dynamic_partitions(TENANT_PARTITIONS)


def test_the_people_of_a_closed_account_are_told_to_do_nothing_there(subscribed: Desk) -> None:
    new_person(subscribed.api, subscribed.tenant, "owner")
    allowed = [Permission.EMISSIONS_READ]
    with subscribed.api.tenant(subscribed.tenant) as scope:
        api_keys.create(
            subscribed.api.within(scope), subscribed.tenant, "reader", allowed, creator="system",
            creator_permissions=allowed, expires_at=datetime.now(UTC) + timedelta(days=3),
        )  # fmt: skip
    for state, told in (("offboarded", 0), ("suspended", 1)):
        stand(subscribed.database, subscribed.tenant, "pro", state)
        assert defs.resolve_job_def("notices").execute_in_process(instance=subscribed.instance).success
        assert len(subscribed.mails()) == told


@pytest.mark.parametrize("job", ["daily_emissions", "daily_calculation", "monthly_report", "monthly_statements"])
def test_a_run_that_is_launched_by_hand_is_refused_before_its_first_step_and_not_retried(
    subscribed: Desk, job: str
) -> None:
    stand(subscribed.database, subscribed.tenant, "pro", "restricted")
    result = _by_hand(subscribed, job)
    assert not result.success
    assert not [event for event in result.all_events if event.is_step_start]
    run = subscribed.instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.tags["dagster/max_retries"] == "0"
    failure = failure_of(subscribed.instance, subscribed.database, subscribed.tenant, result.run_id)
    assert failure.refused
    assert failure.message.startswith(f"No run for {subscribed.tenant}. The subscription is not paid")


def test_a_run_over_several_tenants_is_refused_for_the_one_between_its_ends(subscribed: Desk) -> None:
    instance = subscribed.instance
    between = subscribed.tenant
    with dg.DagsterInstance.ephemeral() as several:
        ends = [subscribed.database.tenants.add(f"{end}-{between[2:]}", "An end").slug for end in ("a", "z")]
        several.add_dynamic_partitions(TENANT_PARTITIONS, [ends[0], between, ends[1]])
        tags = {
            "dagster/asset_partition_range_start": f"2026-10-01|{ends[0]}",
            "dagster/asset_partition_range_end": f"2026-10-01|{ends[1]}",
        }
        run = several.create_run_for_job(defs.resolve_job_def("source_survey"), tags=tags)
        require_entitled(Platform(), several, run)
        stand(subscribed.database, between, "pro", "restricted")
        with pytest.raises(PermissionError, match=between):
            require_entitled(Platform(), several, run)
    assert instance.get_dynamic_partitions(TENANT_PARTITIONS)


def test_a_job_whose_run_was_refused_ends_with_the_reason_and_is_not_tried_again(subscribed: Desk) -> None:
    job = subscribed.ask("report_generation", {"month": "2026-10"})
    (request,) = subscribed.tick()
    stand(subscribed.database, subscribed.tenant, "pro", "restricted")
    defs.resolve_job_def("monthly_report").execute_in_process(
        instance=subscribed.instance,
        tags=request.tags,
        partition_key=f"2026-10-01|{subscribed.tenant}",
        raise_on_error=False,
    )
    assert subscribed.tick() == []
    found = subscribed.job(job)
    assert found.status == "failed"
    assert "is not paid" in str(found.error)


def test_without_stripe_nobody_is_asked_and_everything_is_allowed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    stand(desk.database, desk.tenant, "free", "suspended")
    monkeypatch.setattr(Subscriptions, "standing", _never)
    _connect(desk)
    _detect(desk, TODAY)
    desk.ask("connector_sync", RECENT)
    assert len(desk.tick()) == 1
    assert _changes(desk) == [f"{TODAY}"]
    assert len(_night(desk)) >= 1
    assert without_barred(UNLIMITED, ["report_xbrl"]) is None
    with dg.DagsterInstance.ephemeral() as empty:
        assert desk.tenant in _added(empty)
    run = desk.instance.create_run_for_job(
        defs.resolve_job_def("source_survey"), tags={"dagster/partition": f"2026-10-01|{desk.tenant}"}
    )
    require_entitled(Platform(), desk.instance, run)


def _never(*_: object) -> None:
    raise AssertionError("standings are not read without Stripe")


def _connect(desk: Desk) -> None:
    wanted = connection({"id": "bills", "kind": "cur2", "uri": "/nowhere"})
    desk.database.connections.add(desk.tenant, wanted.id, **to_row(wanted))


def _detect(desk: Desk, day: date) -> None:
    change = DetectedChange(day, day, "first_delivery", sha256(f"{day}".encode()).hexdigest(), {})
    desk.database.source_changes.record(desk.tenant, "bills", [change], observed_at=datetime.now(UTC))


def _changes(desk: Desk) -> list[str]:
    """First days of the runs that the sensor asks for."""
    with dg.build_sensor_context(desk.instance, resources={"platform": Platform()}) as context:
        result = changed_sources(context)
    requests = result.run_requests or [] if isinstance(result, dg.SensorResult) else []
    mine = [r for r in requests if r.tags["offgridflow/tenant"] == desk.tenant]
    return [r.tags["dagster/asset_partition_range_start"].split("|")[0] for r in mine]


def _night(desk: Desk) -> list[dg.RunRequest | dg.SkipReason]:
    with dg.build_schedule_context(
        desk.instance,
        scheduled_execution_time=datetime.combine(TODAY, datetime.min.time(), UTC),
        resources={"platform": Platform()},
    ) as context:
        found = list(nightly_window(context))
    return [r for r in found if isinstance(r, dg.SkipReason) or r.tags["offgridflow/tenant"] == desk.tenant]


def _added(instance: dg.DagsterInstance) -> list[str]:
    with dg.build_sensor_context(instance) as context:
        result = tenant_sync(context)
    if not isinstance(result, dg.SensorResult):
        return []
    return [key for request in result.dynamic_partitions_requests or [] for key in request.partition_keys]


def _by_hand(desk: Desk, job: str) -> dg.ExecuteInProcessResult:
    key = f"2026-10-01|{desk.tenant}"
    if job.startswith("monthly"):
        return defs.resolve_job_def(job).execute_in_process(
            instance=desk.instance, partition_key=key, raise_on_error=False
        )
    ends = {f"dagster/asset_partition_range_{end}": key for end in ("start", "end")}
    return defs.resolve_job_def(job).execute_in_process(instance=desk.instance, tags=ends, raise_on_error=False)
