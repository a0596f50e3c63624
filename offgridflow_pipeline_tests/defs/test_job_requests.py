"""From a request to its run: which one, again after a loss, cancelled, or refused; a tick between any two steps."""

from __future__ import annotations

from datetime import date
from typing import Any

import dagster as dg
import pytest

from offgridflow_pipeline.database.pipeline.jobs import Job
from offgridflow_pipeline.definitions import defs
from offgridflow_pipeline.defs.closed_periods import require_open
from offgridflow_pipeline.defs.jobs import CALCULATED_ASSETS
from offgridflow_pipeline.defs.partitions import TENANT_PARTITIONS
from offgridflow_pipeline_tests.defs.job_desk import DAYS, STATUS, TRACE, Desk


def test_a_report_is_asked_of_the_monthly_job_with_everything_that_names_its_origin(desk: Desk) -> None:
    job = desk.ask()
    (request,) = desk.tick()
    assert (request.job_name, request.partition_key) == ("monthly_report", f"2026-10-01|{desk.tenant}")
    assert request.run_key == f"job:{job.job_id}:1"
    assert request.tags == {
        "offgridflow/job": str(job.job_id),
        "offgridflow/attempt": "1",
        "offgridflow/actor": f"user:{desk.person}",
        "offgridflow/trigger": "request",
        "offgridflow/tenant": desk.tenant,
        "dagster/priority": "10",
        "traceparent": TRACE,
    }


def test_a_sync_and_a_calculation_are_range_runs_and_the_second_reads_no_bill(desk: Desk) -> None:
    desk.ask("connector_sync", {**DAYS, "connection_id": "aws-payer"})
    desk.ask("emissions_calculation", DAYS)
    sync, calculation = sorted(desk.tick(), key=lambda request: str(request.job_name), reverse=True)
    assert (sync.job_name, calculation.job_name) == ("daily_emissions", "daily_calculation")
    assert sync.tags["offgridflow/connection"] == "aws-payer"
    for request in (sync, calculation):
        assert request.tags["dagster/asset_partition_range_start"] == f"2026-10-03|{desk.tenant}"
        assert request.tags["dagster/asset_partition_range_end"] == f"2026-10-05|{desk.tenant}"
    steps = defs.resolve_job_def("daily_calculation").asset_layer.executable_asset_keys
    assert {key.to_user_string() for key in steps} == set(CALCULATED_ASSETS)


def test_a_request_that_dagster_never_got_is_made_again_under_the_same_key(desk: Desk) -> None:
    job = desk.ask()
    (killed,) = desk.tick()  # and nothing was launched
    (again,) = desk.tick()
    assert again.run_key == killed.run_key
    assert desk.job(job).attempts == 1
    desk.launch(again, STATUS.STARTING)
    assert desk.tick() == []


def test_a_run_that_was_made_and_never_queued_is_asked_for_again(desk: Desk) -> None:
    job = desk.ask()
    (request,) = desk.tick()
    run = desk.launch(request, STATUS.NOT_STARTED)
    (again,) = desk.tick()
    assert desk.launch(again, STATUS.NOT_STARTED).run_id == run.run_id
    assert desk.job(job).status == "launched"


def test_a_request_that_became_no_run_for_a_quarter_of_an_hour_counts_as_an_attempt(desk: Desk) -> None:
    job = desk.ask()
    desk.tick()
    desk.later(job, minutes=16)
    assert desk.tick() == []
    found = desk.job(job)
    assert (found.status, found.error) == ("pending", "No run answered the request.")


def test_a_run_that_is_gone_is_attempted_again(desk: Desk) -> None:
    job = desk.ask()
    run = desk.started(job)
    desk.tick()
    desk.instance.delete_run(run.run_id)
    assert desk.tick() == []
    assert desk.job(job).status == "pending"
    desk.due(job)
    (request,) = desk.tick()
    assert request.run_key == f"job:{job.job_id}:2"


def test_cancelling_a_run_that_was_never_queued_ends_it_and_then_the_job(desk: Desk) -> None:
    job = desk.ask()
    (request,) = desk.tick()
    run = desk.launch(request, STATUS.NOT_STARTED)
    assert desk.api.jobs.cancel(desk.tenant, job.job_id).status == "cancelling"
    desk.tick()
    assert desk.instance.get_run_by_id(run.run_id).status is STATUS.CANCELED
    desk.tick()
    desk.tick()
    assert desk.job(job).status == "cancelled"
    assert desk.events() == [("runs:cancelled", f"job_{job.job_id}")]
    assert desk.mails() == []


def test_cancelling_a_running_run_asks_its_launcher_until_it_has_ended(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = desk.ask()
    run = desk.started(job)
    desk.tick()
    desk.api.jobs.cancel(desk.tenant, job.job_id)
    asked: list[str] = []
    monkeypatch.setattr(type(desk.instance.run_launcher), "terminate", lambda _, run_id: asked.append(run_id))
    desk.tick()
    assert (asked, desk.job(job).status) == ([run.run_id], "cancelling")
    desk.end(run, "canceled")
    desk.tick()
    assert desk.job(job).status == "cancelled"


def test_a_job_cancelled_between_request_and_run_waits_for_the_run_and_stops_it(desk: Desk) -> None:
    job = desk.ask()
    (request,) = desk.tick()
    desk.api.jobs.cancel(desk.tenant, job.job_id)
    assert desk.tick() == []
    assert desk.job(job).status == "cancelling"
    run = desk.launch(request, STATUS.NOT_STARTED)  # by the tick that was under way
    desk.tick()
    assert desk.instance.get_run_by_id(run.run_id).status is STATUS.CANCELED
    desk.tick()
    assert desk.job(job).status == "cancelled"


def test_a_job_cancelled_before_any_run_ends_when_none_can_come_any_more(desk: Desk) -> None:
    job = desk.ask()
    desk.tick()
    desk.api.jobs.cancel(desk.tenant, job.job_id)
    desk.later(job, minutes=1)
    assert desk.tick() == []
    assert desk.job(job).status == "cancelled"


def test_a_run_that_was_done_before_it_could_be_cancelled_counts_as_done(desk: Desk) -> None:
    job = desk.ask()
    run = desk.started(job)
    desk.publish(run)
    desk.api.jobs.cancel(desk.tenant, job.job_id)
    desk.end(run, "success")
    desk.tick()
    assert desk.job(job).status == "completed"


def test_a_run_that_an_operator_cancels_cancels_the_job(desk: Desk) -> None:
    job = desk.ask()
    run = desk.started(job)
    desk.end(run, "canceled")
    desk.tick()
    assert (desk.job(job).status, desk.job(job).error) == ("cancelled", "An operator cancelled the run.")


def test_a_month_that_was_closed_after_the_request_is_not_touched_and_the_job_says_so(desk: Desk) -> None:
    sync = desk.ask("connector_sync", DAYS)
    report = desk.ask()
    desk.database.period_closures.close(desk.tenant, "2026-10", by="ada", today=date(2026, 11, 20))
    (request,) = desk.tick()  # a closed month may be reported
    assert request.tags["offgridflow/job"] == str(report.job_id)
    assert desk.job(sync).status == "failed"
    assert "2026-10 is closed" in str(desk.job(sync).error)
    assert [mail.template for mail in desk.mails()] == ["sync_failing"]


def test_a_month_closed_while_the_run_is_queued_is_refused_by_the_assets_too(desk: Desk) -> None:
    desk.ask("emissions_calculation", DAYS)
    (request,) = desk.tick()
    desk.database.period_closures.close(desk.tenant, "2026-10", by="ada", today=date(2026, 11, 20))
    with pytest.raises(dg.Failure, match="2026-10 of .* is closed"):
        require_open(desk.database, [f"2026-10-03|{desk.tenant}"], request.tags)


@pytest.mark.parametrize(
    ("job_type", "payload", "told"),
    [
        ("report_generation", {"month": "2031-01"}, "has not ended"),
        ("report_generation", {"month": "2026-13"}, "month:"),
        ("report_generation", {"month": "2026-10", "tenant": "other"}, "tenant:"),
        ("report_generation", {"month": "2019-10"}, "lies before"),
        ("connector_sync", {"first": "2026-10-30", "last": "2026-11-02"}, "several months"),
        ("connector_sync", {"first": "2026-10-05", "last": "2026-10-03"}, "before first"),
        ("emissions_calculation", {"first": "2031-10-05", "last": "2031-10-06"}, "in the future"),
        ("connector_sync", {**DAYS, "connection_id": "../x"}, "connection_id:"),
    ],
)
def test_a_payload_that_names_no_partition_fails_alone_and_stops_no_other_request(
    desk: Desk, job_type: str, payload: dict[str, str], told: str
) -> None:
    wrong = desk.ask(job_type, payload)
    right = desk.ask()
    (request,) = desk.tick()
    assert request.tags["offgridflow/job"] == str(right.job_id)
    assert desk.job(wrong).status == "failed"
    assert told in str(desk.job(wrong).error)


def test_a_tenant_whose_partition_is_not_there_yet_waits(desk: Desk) -> None:
    desk.instance.delete_dynamic_partition(TENANT_PARTITIONS, desk.tenant)
    job = desk.ask()
    assert desk.tick() == []
    assert desk.job(job).status == "pending"
    desk.instance.add_dynamic_partitions(TENANT_PARTITIONS, [desk.tenant])
    assert len(desk.tick()) == 1


def test_the_fault_of_one_job_keeps_no_other_waiting(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from offgridflow_pipeline.defs.sensors import jobs as sensor

    broken, sound = desk.ask(), desk.ask()
    honest = sensor.run_request

    def run_request(tenant: str, job: Job, **how: Any) -> dg.RunRequest:
        if job.job_id == broken.job_id:
            raise ZeroDivisionError
        return honest(tenant, job, **how)

    monkeypatch.setattr(sensor, "run_request", run_request)
    (request,) = desk.tick()
    assert request.tags["offgridflow/job"] == str(sound.job_id)
    run = desk.launch(request, STATUS.STARTED)
    desk.end(run, "success")
    desk.tick()
    assert desk.job(sound).status == "completed"
