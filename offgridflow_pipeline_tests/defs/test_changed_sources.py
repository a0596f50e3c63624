"""From a later delivery to the run that reads its days: survey, changes, requests, and what becomes of the runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
import sqlalchemy as sa

from offgridflow_pipeline.connectors.connections import connection, to_row
from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.tenants import Tenants
from offgridflow_pipeline.definitions import defs
from offgridflow_pipeline.defs.closed_periods import refuse_closed
from offgridflow_pipeline.defs.partitions import TENANT_PARTITIONS
from offgridflow_pipeline.defs.range_runs import CHANGES_TAG, RESTATEMENT_TAG
from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.defs.schedules import nightly_window
from offgridflow_pipeline.defs.sensors.changes import changed_sources, outcome_of
from offgridflow_pipeline.demo.exports import DataExport, DeliveredAt, write_data_export
from offgridflow_pipeline.settings import load_settings
from offgridflow_pipeline_tests.connectors.bills import cur_row, write_bill, write_cur_delivery

OCTOBER = ("2026-10-01", "2026-10-31")
EXPORT = DataExport("cur2", "COST_AND_USAGE_REPORT", "bills")


class Desk:
    """One tenant with its connections, a Dagster instance, and the runs that were asked for."""

    def __init__(self, database: Database, instance: dg.DagsterInstance, tenant: str, root: Path) -> None:
        self.database, self.instance, self.tenant, self.root = database, instance, tenant, root

    def connect(self, name: str, kind: str = "cur2", uri: str = "") -> Path:
        folder = self.root / "bills" / name
        wanted = connection({"id": name, "kind": kind, "uri": uri or str(folder)})
        self.database.connections.add(self.tenant, wanted.id, **to_row(wanted))
        return folder

    def deliver(self, folder: Path, month: str, day_of_next_month: int, costs: dict[int, str] | None = None) -> None:
        """A whole month of CUR 2.0, a row a day at the cost of 1, but for the days in `costs`."""
        first = date.fromisoformat(f"{month}-01")
        days = [first + timedelta(days=n) for n in range(31) if (first + timedelta(days=n)).month == first.month]
        rows = [
            {
                "identity_time_interval": f"{day}T00:00:00Z/{day + timedelta(days=1)}T00:00:00Z",
                "bill_payer_account_id": "000011112222",
                "line_item_usage_account_id": "000011112222",
                "line_item_line_item_type": "Usage",
                "line_item_unblended_cost": (costs or {}).get(day.day, "1"),
            }
            for day in days
        ]
        written = datetime(2026, 11, day_of_next_month, 6, tzinfo=UTC)
        write_data_export(folder, EXPORT, pa.Table.from_pylist(rows), DeliveredAt(month, written))

    def survey(self) -> dg.ExecuteInProcessResult:
        return defs.resolve_job_def("source_survey").execute_in_process(
            instance=self.instance,
            raise_on_error=False,
            run_config={"ops": {"survey_sources": {"config": {"tenant": self.tenant}}}},
        )

    def tick(self) -> list[dg.RunRequest]:
        """Requests of this tenant at one tick of the sensor."""
        with dg.build_sensor_context(self.instance, resources={"platform": Platform()}) as context:
            result = changed_sources(context)
        requests = result.run_requests if isinstance(result, dg.SensorResult) else []
        return [r for r in requests or [] if r.tags["offgridflow/tenant"] == self.tenant]

    def ended(self, request: dg.RunRequest, status: dg.DagsterRunStatus, **tags: str) -> str:
        """Record a run that answers the request and ended so."""
        job = defs.resolve_job_def("source_survey")  # any job: only status and tags are looked at
        run = self.instance.create_run_for_job(job, tags={**request.tags, **tags}, status=status)
        return run.run_id

    def succeed(self) -> list[tuple[str, str]]:
        """Tick, let every requested run succeed, settle; returns the ranges."""
        requests = self.tick()
        for request in requests:
            self.ended(request, dg.DagsterRunStatus.SUCCESS)
        assert self.tick() == []
        return [_range(request) for request in requests]


def _range(request: dg.RunRequest) -> tuple[str, str]:
    ends = (request.tags[f"dagster/asset_partition_range_{end}"] for end in ("start", "end"))
    first, last = (key.split("|")[0] for key in ends)
    return first, last


@pytest.fixture
def desk(
    database: Database, new_tenant: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    monkeypatch.setenv("DATABASE_URL", database.admin_engine.url.render_as_string(hide_password=False))
    monkeypatch.setenv("OFFGRIDFLOW_DATA_DIR", str(tmp_path / "data"))
    load_settings.cache_clear()
    tenant = new_tenant()
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        instance.add_dynamic_partitions(TENANT_PARTITIONS, [tenant])
        yield Desk(database, instance, tenant, tmp_path)
    load_settings.cache_clear()


def test_the_first_survey_asks_for_every_month_that_was_delivered(desk: Desk) -> None:
    folder = desk.connect("aws")
    for month in ("2026-09", "2026-10"):
        desk.deliver(folder, month, 3)
    assert desk.survey().success
    assert desk.succeed() == [("2026-09-01", "2026-09-30"), OCTOBER]


def test_a_later_delivery_that_restates_three_days_asks_for_its_month_alone_and_once(desk: Desk) -> None:
    folder = desk.connect("aws")
    for month in ("2026-09", "2026-10"):
        desk.deliver(folder, month, 3)
    desk.survey()
    desk.succeed()
    desk.survey()
    assert desk.tick() == []
    desk.deliver(folder, "2026-10", 9, costs={5: "2", 6: "2", 7: "2"})
    desk.survey()
    desk.survey()
    (request,) = desk.tick()
    assert _range(request) == OCTOBER
    assert request.tags["offgridflow/trigger"] == "late_data"
    assert request.tags["offgridflow/tenant"] == desk.tenant
    assert desk.tick() == []


def test_a_dropped_file_of_three_days_asks_for_these_days(desk: Desk) -> None:
    folder = desk.connect("drop", "cur")
    rows = [cur_row(identity__TimeInterval=f"2026-10-0{n}T00:00:00Z/2026-10-0{n + 1}T00:00:00Z") for n in (5, 6, 7)]
    write_bill(folder / "bill.csv.gz", rows)
    desk.survey()
    assert desk.succeed() == [("2026-10-05", "2026-10-07")]


def test_the_state_is_what_was_surveyed_and_is_kept_after_the_run_only(desk: Desk) -> None:
    folder = desk.connect("aws")
    desk.deliver(folder, "2026-10", 3)
    desk.survey()
    (request,) = desk.tick()
    assert desk.database.feed_states.read(desk.tenant, "aws") == {}
    desk.deliver(folder, "2026-10", 9, costs={5: "2"})  # while the run is under way
    desk.ended(request, dg.DagsterRunStatus.SUCCESS)
    desk.tick()
    (state,) = desk.database.feed_states.read(desk.tenant, "aws").values()
    assert "20261103T060000Z" in json.dumps(state)
    desk.survey()
    assert [_range(r) for r in desk.tick()] == [OCTOBER]


def test_a_failed_run_is_asked_for_again_under_another_key_until_it_is_given_up(desk: Desk) -> None:
    desk.deliver(desk.connect("aws"), "2026-10", 3)
    desk.survey()
    keys = []
    while requests := desk.tick():
        keys += [r.run_key for r in requests]
        desk.ended(requests[0], dg.DagsterRunStatus.FAILURE)
    assert len(keys) == len(set(keys)) == 3
    (change,) = desk.database.source_changes.list(desk.tenant, ["failed"])
    assert "ended as FAILURE" in change.error


def test_a_request_that_was_never_launched_is_made_again(desk: Desk) -> None:
    desk.deliver(desk.connect("aws"), "2026-10", 3)
    desk.survey()
    (lost,) = desk.tick()
    assert desk.tick() == []
    with desk.database.admin_engine.begin() as db:
        db.execute(
            sa.text("update ogf.source_changes set requested_at = requested_at - interval '1 hour' where run_key = :k"),
            {"k": lost.run_key},
        )
    (again,) = desk.tick()
    assert _range(again) == _range(lost)


def test_a_connection_that_cannot_be_asked_is_marked_and_keeps_no_other_waiting(desk: Desk) -> None:
    desk.connect("a-broken", uri=str(desk.root / "nowhere"))
    desk.deliver(desk.connect("b-good"), "2026-10", 3)
    result = desk.survey()
    assert result.success
    broken = desk.database.connections.get(desk.tenant, "a-broken")
    assert broken.status == "failing"
    assert "does not exist" in str(broken.last_error)
    assert desk.database.connections.get(desk.tenant, "b-good").last_success_at is not None
    assert [_range(r) for r in desk.tick()] == [OCTOBER]


def test_an_unexpected_fault_of_one_source_fails_the_survey_after_all_others_were_asked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.connect("a-strange")
    desk.deliver(desk.connect("b-good"), "2026-10", 3)
    honest = Platform.source

    def source(self: Platform, tenant: str, wanted: Any) -> Any:
        if wanted.id == "a-strange":
            raise ZeroDivisionError("a library broke")
        return honest(self, tenant, wanted)

    monkeypatch.setattr(Platform, "source", source)
    assert not desk.survey().success
    assert desk.database.connections.get(desk.tenant, "a-strange").status == "failing"
    assert [_range(r) for r in desk.tick()] == [OCTOBER]


def test_paused_connections_and_those_that_only_reconcile_are_not_surveyed(desk: Desk) -> None:
    desk.deliver(desk.connect("aws"), "2026-10", 3)
    desk.database.connections.pause(desk.tenant, "aws")
    other = connection({"id": "check", "kind": "cur2", "uri": str(desk.root / "bills/aws"), "role": "reconciliation"})
    desk.database.connections.add(desk.tenant, other.id, **to_row(other))
    assert desk.survey().success
    assert desk.tick() == []


def test_a_later_delivery_of_a_closed_month_waits_for_its_approval_and_then_runs_with_it(desk: Desk) -> None:
    folder = desk.connect("aws")
    desk.deliver(folder, "2026-09", 3)
    desk.survey()
    desk.succeed()
    desk.database.period_closures.close(desk.tenant, "2026-09", by="ada", today=date(2026, 11, 20))
    desk.deliver(folder, "2026-09", 9, costs={5: "2"})
    desk.survey()
    assert desk.tick() == []
    (proposal,) = desk.database.restatements.list(desk.tenant)
    assert (proposal.month, proposal.status) == ("2026-09", "proposed")
    day = date(2026, 9, 5)
    assert "is closed" in refuse_closed(desk.database, desk.tenant, [day], {})[day]

    desk.database.restatements.approve(desk.tenant, proposal.restatement_id, by="grace")
    (request,) = desk.tick()
    assert request.tags[RESTATEMENT_TAG] == str(proposal.restatement_id)
    assert request.tags["offgridflow/trigger"] == "restatement"
    assert refuse_closed(desk.database, desk.tenant, [day], request.tags) == {}

    run_id = desk.ended(request, dg.DagsterRunStatus.SUCCESS)
    desk.tick()
    applied = desk.database.restatements.find(desk.tenant, proposal.restatement_id)
    assert (applied.status, applied.run_id) == ("applied", run_id)
    assert day in refuse_closed(desk.database, desk.tenant, [day], request.tags)
    desk.survey()
    assert desk.tick() == []


def test_an_approval_lets_in_its_own_days_of_its_own_tenant_and_nothing_else(
    desk: Desk, new_tenant: Callable[[], str]
) -> None:
    stranger = new_tenant()
    folder = desk.connect("drop", "cur")
    write_bill(folder / "bill.csv", [cur_row()])  # 5 October
    for tenant in (desk.tenant, stranger):
        desk.database.period_closures.close(tenant, "2026-10", by="ada", today=date(2026, 11, 20))
    desk.survey()
    (proposal,) = desk.database.restatements.list(desk.tenant)
    days = [date(2026, 10, 4), date(2026, 10, 5), date(2026, 11, 1)]
    tags = {RESTATEMENT_TAG: str(proposal.restatement_id)}
    assert set(refuse_closed(desk.database, desk.tenant, days, tags)) == set(days[:2])
    desk.database.restatements.approve(desk.tenant, proposal.restatement_id, by="grace")
    assert set(refuse_closed(desk.database, desk.tenant, days, tags)) == {days[0]}
    assert set(refuse_closed(desk.database, stranger, days, tags)) == set(days[:2])
    assert set(refuse_closed(desk.database, desk.tenant, days, {RESTATEMENT_TAG: "no id"})) == set(days[:2])


def test_a_tenant_whose_partition_is_not_there_yet_waits_for_it(desk: Desk) -> None:
    desk.deliver(desk.connect("aws"), "2026-10", 3)
    desk.survey()
    desk.instance.delete_dynamic_partition(TENANT_PARTITIONS, desk.tenant)
    assert desk.tick() == []
    desk.instance.add_dynamic_partitions(TENANT_PARTITIONS, [desk.tenant])
    assert [_range(r) for r in desk.tick()] == [OCTOBER]


def test_a_crashed_run_that_dagster_will_retry_is_waited_for(desk: Desk) -> None:
    desk.deliver(desk.connect("aws"), "2026-10", 3)
    desk.survey()
    (request,) = desk.tick()
    desk.ended(request, dg.DagsterRunStatus.FAILURE, **{"dagster/will_retry": "true"})
    assert desk.tick() == []
    assert [c.status for c in desk.database.source_changes.list(desk.tenant)] == ["requested"]
    desk.ended(request, dg.DagsterRunStatus.SUCCESS)
    desk.tick()
    assert [c.status for c in desk.database.source_changes.list(desk.tenant, ["done"])] == ["done"]


def test_a_run_that_is_still_going_keeps_its_request_open(desk: Desk) -> None:
    desk.deliver(desk.connect("aws"), "2026-10", 3)
    desk.survey()
    (request,) = desk.tick()
    desk.ended(request, dg.DagsterRunStatus.FAILURE)
    desk.ended(request, dg.DagsterRunStatus.STARTED)
    records = desk.instance.get_run_records(dg.RunsFilter(tags={CHANGES_TAG: request.run_key}))
    assert outcome_of(records, datetime.now(UTC), datetime.now(UTC)).verdict == "open"


def test_the_nightly_window_skips_tenants_without_a_feed(desk: Desk) -> None:
    def requests() -> list[dg.RunRequest]:
        with dg.build_schedule_context(
            desk.instance,
            scheduled_execution_time=datetime(2026, 11, 20, 3, 30, tzinfo=UTC),
            resources={"platform": Platform()},
        ) as context:
            return [r for r in nightly_window(context) if r.tags["offgridflow/tenant"] == desk.tenant]

    assert requests() == []
    desk.connect("aws")
    (request,) = requests()
    assert _range(request) == ("2026-11-17", "2026-11-19")


def test_the_sensor_evaluates_in_the_loaded_repository(desk: Desk) -> None:
    desk.deliver(desk.connect("aws"), "2026-10", 3)
    desk.survey()
    sensor = defs.resolve_sensor_def("changed_sources")
    with dg.build_sensor_context(
        desk.instance,
        repository_def=defs.get_repository_def(),
        sensor_name="changed_sources",
        resources={"platform": Platform()},
    ) as context:
        tick = sensor.evaluate_tick(context)
    (request,) = [r for r in tick.run_requests if r.tags["offgridflow/tenant"] == desk.tenant]
    assert _range(request) == OCTOBER
    assert request.run_key == request.tags[CHANGES_TAG]


def test_a_survey_without_a_tenant_asks_all_of_them(
    desk: Desk, new_tenant: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.deliver(desk.connect("aws"), "2026-10", 3)
    other = Desk(desk.database, desk.instance, new_tenant(), desk.root)
    other.deliver(other.connect("aws-other"), "2026-09", 3)
    mine = [desk.database.tenants.get(slug) for slug in (desk.tenant, other.tenant)]
    monkeypatch.setattr(Tenants, "list", lambda _, *, inactive=False: mine)
    assert defs.resolve_job_def("source_survey").execute_in_process(instance=desk.instance).success
    asked = [desk.database.source_changes.list(slug) for slug in (desk.tenant, other.tenant)]
    assert [[c.first_day for c in changes] for changes in asked] == [[date(2026, 10, 1)], [date(2026, 9, 1)]]


def test_a_removed_delivery_folder_is_a_failing_connection_and_no_change(desk: Desk) -> None:
    folder = desk.connect("aws", "cur")
    write_cur_delivery(folder, [[cur_row()]])
    desk.survey()
    desk.succeed()
    shutil.rmtree(folder)
    desk.survey()
    assert desk.tick() == []
    assert desk.database.connections.get(desk.tenant, "aws").status == "failing"


def _bill(folder: Path, assembly: str, costs: dict[int, str]) -> None:
    days = [date(2026, 10, n) for n in range(1, 32)]
    rows = [
        cur_row(
            identity__TimeInterval=f"{day}T00:00:00Z/{day + timedelta(days=1)}T00:00:00Z",
            lineItem__UnblendedCost=costs.get(day.day, "1"),
        )
        for day in days
    ]
    write_cur_delivery(folder, [rows], assembly=assembly)


@pytest.mark.slow
def test_a_restated_bill_is_read_by_the_run_asked_for_and_only_its_three_days_are_written(desk: Desk) -> None:
    def run() -> dict[str, int]:
        """Partitions of the extract -> whether the run changed their rows."""
        (request,) = desk.tick()
        daily = defs.resolve_job_def("daily_emissions")
        extract = daily.get_subset(asset_selection={dg.AssetKey("aws_billing_extract")})
        result = extract.execute_in_process(instance=desk.instance, raise_on_error=False, tags=request.tags)
        assert result.success
        written = result.asset_materializations_for_node("aws_billing_extract")
        return {str(m.partition): int(m.metadata["rows_changed"].value) for m in written}

    folder = desk.connect("aws", "cur")
    _bill(folder, "a1", {})
    desk.survey()
    assert sum(run().values()) == 31
    _bill(folder, "a2", {5: "2", 6: "2", 7: "2"})
    desk.survey()
    changed = run()
    assert len(changed) == 31
    assert sorted(key for key, value in changed.items() if value) == [f"2026-10-0{n}|{desk.tenant}" for n in (5, 6, 7)]
    assert desk.tick() == []
    (state,) = desk.database.feed_states.read(desk.tenant, "aws").values()
    assert state["version"] == "a2"
    desk.survey()
    assert desk.tick() == []


def _materialise(desk: Desk, tags: dict[str, str], *assets: str) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def("daily_emissions").execute_in_process(
        instance=desk.instance,
        raise_on_error=False,
        asset_selection=[dg.AssetKey(name) for name in assets],
        tags=tags,
    )


def _ledger_costs(desk: Desk, table: str, column: str) -> set[str]:
    from offgridflow_pipeline.lake.engine import Engine
    from offgridflow_pipeline.lake.tables import Lake

    lake = Lake(load_settings().lake_root, {})
    with Engine(memory_mb=256, threads=1) as engine:
        rows = engine.to_arrow(engine.table(lake.slice(desk.tenant, table)).select("connection_id", cost=column))
    return {f"{row['connection_id']} {row['cost']}" for row in rows.to_pylist()}


@pytest.mark.slow
def test_an_approval_for_one_connection_lets_in_no_rows_of_another(desk: Desk) -> None:
    folders = [desk.connect(name, "cur") for name in ("one", "two")]
    for folder in folders:
        _bill(folder, "a1", {})
    desk.survey()
    (request,) = desk.tick()
    assert _materialise(desk, request.tags, "aws_billing_extract").success
    desk.tick()
    desk.database.period_closures.close(desk.tenant, "2026-10", by="ada", today=date(2026, 11, 20))
    for folder in folders:
        _bill(folder, "a2", dict.fromkeys(range(1, 32), "7"))
    desk.survey()
    proposals = {r.connection_id: r.restatement_id for r in desk.database.restatements.list(desk.tenant)}
    assert set(proposals) == {"one", "two"}
    desk.database.restatements.reject(desk.tenant, proposals["two"], by="grace")
    desk.database.restatements.approve(desk.tenant, proposals["one"], by="grace")
    (request,) = desk.tick()
    assert _materialise(desk, request.tags, "aws_billing_extract").success
    assert _ledger_costs(desk, "aws_billing_extract", "line_item_unblended_cost") == {"one 7", "two 1"}


@pytest.mark.slow
def test_lines_of_a_closed_month_are_not_computed_again(desk: Desk) -> None:
    _bill(desk.connect("aws", "cur"), "a1", {})
    desk.survey()
    (request,) = desk.tick()
    tags = request.tags
    assert _materialise(desk, tags, "aws_billing_extract").success
    assert _materialise(desk, tags, "usage_lines").success
    desk.database.period_closures.close(desk.tenant, "2026-10", by="ada", today=date(2026, 11, 20))
    for asset in ("usage_lines", "emission_lines"):
        result = _materialise(desk, tags, asset)
        assert not result.success
        (failure,) = [e for e in result.all_events if e.is_step_failure]
        assert "2026-10 of" in str(failure.event_specific_data)


@pytest.mark.slow
def test_days_are_not_emptied_when_only_statements_are_left_to_be_read(desk: Desk) -> None:
    _bill(desk.connect("aws", "cur"), "a1", {})
    desk.survey()
    (request,) = desk.tick()
    assert _materialise(desk, request.tags, "aws_billing_extract").success
    desk.database.connections.remove(desk.tenant, "aws")
    desk.connect("carbon", "aws_carbon_export")
    result = _materialise(desk, request.tags, "aws_billing_extract")
    assert not result.success
    assert _ledger_costs(desk, "aws_billing_extract", "line_item_unblended_cost") == {"aws 1"}


def test_a_secret_in_a_damaged_file_is_in_no_log_of_the_survey(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    canary = "AKIAIOSFODNN7EXAMPLE"
    write_bill(desk.connect("drop", "cur") / "bill.csv", [cur_row(identity__TimeInterval=canary)])
    assert desk.survey().success
    assert "bill.csv" in str(desk.database.connections.get(desk.tenant, "drop").last_error)
    told = capfd.readouterr()
    assert "bill.csv" in told.err
    assert canary not in told.out + told.err


@pytest.mark.slow
def test_a_run_that_dies_between_the_lake_and_its_records_is_made_good_by_the_next(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from offgridflow_pipeline.defs.assets import extracts

    _bill(desk.connect("aws", "cur"), "a1", {})
    desk.survey()
    (request,) = desk.tick()

    def killed(*_: object) -> None:
        raise dg.Failure("killed", allow_retries=False)

    with monkeypatch.context() as patch:
        patch.setattr(extracts, "_record", killed)
        assert not _materialise(desk, request.tags, "aws_billing_extract").success
    assert _ledger_costs(desk, "aws_billing_extract", "line_item_unblended_cost") == {"aws 1"}
    assert desk.database.feed_states.read(desk.tenant, "aws") == {}
    assert _materialise(desk, request.tags, "aws_billing_extract").success
    assert len(desk.database.feed_states.read(desk.tenant, "aws")) == 1
    days = [date(2026, 10, n) for n in range(1, 32)]
    digests = desk.database.day_digests.read(desk.tenant, "aws_billing_extract", days)
    assert [count for count, _ in digests.values()] == [1] * 31
