"""From a run to the end of its job: told once, tried again, or given up; a tick between any two steps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from offgridflow_pipeline.connectors.connections import connection, to_row
from offgridflow_pipeline.defs.assets.reports import preparer
from offgridflow_pipeline.defs.connection_test import connection_test
from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.lake.tables import LakeReadError
from offgridflow_pipeline_tests.defs.job_desk import DAYS, STATUS, Desk


def test_a_finished_report_is_told_once_however_often_the_sensor_ticks(desk: Desk) -> None:
    job = desk.ask()
    run = desk.started(job)
    desk.tick()
    assert (desk.job(job).status, desk.job(job).run_id) == ("running", run.run_id)
    report = desk.publish(run)
    desk.tick()
    desk.end(run, "success")
    desk.tick()
    desk.tick()
    ended = desk.job(job)
    assert (ended.status, ended.progress, ended.error) == ("completed", 100, None)
    assert ended.result == {
        "run_id": run.run_id,
        "report_id": report,
        "edition": 1,
        "artefacts": [{"kind": "report_pdf", "name": "r.pdf", "sha256": "a" * 64, "size_bytes": 1}],
    }
    assert desk.events() == [("runs:completed", f"job_{job.job_id}")]
    (mail,) = desk.mails()
    assert (mail.template, mail.locale, mail.dedupe_key) == ("report_ready", "de", f"job:{job.job_id}")
    assert mail.to_addr == f"{desk.person.hex}@example.org"
    assert mail.vars == {"organisation": "Tenant of a test", "period": "2026-10", "report_id": report}


def test_nothing_is_told_when_the_transaction_of_the_end_fails(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    job = desk.ask()
    run = desk.started(job)
    desk.publish(run)
    desk.end(run, "success")
    with monkeypatch.context() as broken:
        broken.setattr("offgridflow_pipeline.defs.job_settlement.enqueue", _killed)
        desk.tick()
    assert desk.job(job).status == "launched"
    assert (desk.events(), desk.mails()) == ([], [])
    desk.tick()
    assert desk.job(job).status == "completed"
    assert (len(desk.events()), len(desk.mails())) == (1, 1)


@pytest.mark.parametrize(
    ("actor", "expected"), [("user:1", "user:1"), ("key:abc", "key:abc"), ("system", "run:r"), ("", "run:r")]
)
def test_a_report_is_prepared_by_who_asked_for_it_or_by_its_run(actor: str, expected: str) -> None:
    assert preparer({"offgridflow/actor": actor}, "r") == expected


def test_a_key_is_sent_no_mail(desk: Desk) -> None:
    job = desk.ask(by="key:abcdefghij")
    run = desk.started(job)
    desk.publish(run)
    desk.end(run, "success")
    desk.tick()
    assert desk.job(job).status == "completed"
    assert desk.mails() == []


def test_a_run_that_was_killed_is_attempted_again_after_its_wait_and_then_given_up(desk: Desk) -> None:
    job = desk.ask()
    waits = []
    for attempt in (1, 2, 3):
        run = desk.started(job)
        assert run.tags["offgridflow/attempt"] == str(attempt)
        desk.end(run, "failure")
        desk.tick()
        waits.append(desk.job(job).scheduled_at - datetime.now(UTC))
        assert desk.tick() == []
        desk.due(job)
    assert desk.job(job).status == "failed"
    assert timedelta(seconds=40) < waits[0] < timedelta(seconds=75)
    assert timedelta(minutes=3) < waits[1] < timedelta(minutes=5)
    assert "ended before it was done" in str(desk.job(job).error)
    assert desk.events() == [("runs:failed", f"job_{job.job_id}")]
    assert [(mail.template, mail.vars["period"]) for mail in desk.mails()] == [("report_failed", "2026-10")]


def test_an_automatic_retry_of_dagster_is_waited_for(desk: Desk) -> None:
    job = desk.ask()
    (request,) = desk.tick()
    crashed = desk.launch(request, STATUS.STARTED)
    desk.instance.add_run_tags(crashed.run_id, {"dagster/will_retry": "true"})
    desk.end(crashed, "failure")
    assert desk.tick() == []
    assert desk.job(job).attempts == 1
    retried = desk.launch(request, STATUS.STARTED, **{"dagster/parent_run_id": crashed.run_id})
    desk.tick()
    assert desk.job(job).run_id == retried.run_id
    desk.publish(retried)
    desk.end(retried, "success")
    desk.tick()
    assert desk.job(job).result["run_id"] == retried.run_id


def test_a_run_killed_after_its_publication_is_not_run_again(desk: Desk) -> None:
    job = desk.ask()
    run = desk.started(job)
    report = desk.publish(run)
    desk.end(run, "failure")
    desk.tick()
    assert (desk.job(job).status, desk.job(job).result["report_id"]) == ("completed", report)
    assert len(desk.mails()) == 1


def test_a_report_that_came_out_the_same_names_the_edition_that_is_there(desk: Desk) -> None:
    first, second = desk.ask(), desk.ask()
    runs = [desk.launch(request, STATUS.STARTED) for request in desk.tick()]
    reports = {desk.publish(run) for run in runs}
    for run in runs:
        desk.end(run, "success")
    desk.tick()
    assert {desk.job(job).result["report_id"] for job in (first, second)} == reports
    assert len(reports) == 1


def test_a_failed_check_is_named_and_the_same_request_is_not_tried_again(desk: Desk) -> None:
    job = desk.ask()
    run = desk.started(job)
    desk.database.check_ledger.record(
        run_id=run.run_id, check_name="report_xbrl.valid", partition_keys=[f"2026-10-01|{desk.tenant}"],
        failing={f"2026-10-01|{desk.tenant}": "invalid: the total does not add up"},
    )  # fmt: skip
    desk.end(run, "failure")
    desk.tick()
    assert desk.job(job).status == "failed"
    assert desk.job(job).error == "Check report_xbrl.valid failed: invalid: the total does not add up"


@pytest.mark.parametrize(
    ("raised", "told", "final"),
    [
        (dg.Failure("row 7, column cost: no number", allow_retries=False), "row 7, column cost: no number", True),
        (dg.Failure("refused with AKIAIOSFODNN7EXAMPLE in it", allow_retries=False), "refused with", True),
        (ValueError("postgresql://u:hunter2@host/db"), "failed unexpectedly", False),
    ],
)
def test_the_error_says_what_a_person_can_use_and_no_secret(
    desk: Desk, raised: Exception, told: str, final: bool
) -> None:
    job = desk.ask()
    (request,) = desk.tick()

    @dg.op
    def step() -> None:
        raise raised

    @dg.job
    def broken() -> None:
        step()

    broken.execute_in_process(instance=desk.instance, raise_on_error=False, tags=request.tags)
    desk.tick()
    ended = desk.job(job)
    assert told in str(ended.error)
    assert "hunter2" not in str(ended.error)
    assert "AKIAIOSFODNN7EXAMPLE" not in str(ended.error)
    assert ended.status == ("failed" if final else "pending")


def test_an_error_of_our_own_names_its_cure(desk: Desk) -> None:
    job = desk.ask()
    (request,) = desk.tick()

    @dg.op
    def step() -> None:
        try:
            {}["inner"]
        except KeyError as error:
            raise LakeReadError("scope_totals has no version 7: run the days first") from error

    @dg.job
    def broken() -> None:
        step()

    broken.execute_in_process(instance=desk.instance, raise_on_error=False, tags=request.tags)
    desk.tick()
    assert desk.job(job).error == "step: scope_totals has no version 7: run the days first"


def test_a_sync_that_was_refused_is_tried_again_and_its_person_told_in_the_end(desk: Desk) -> None:
    job = desk.ask("connector_sync", {**DAYS, "connection_id": "aws-payer"})
    desk.write("update ogf.jobs set max_attempts = 1 where job_id = :job_id", job)
    (request,) = desk.tick()

    @dg.op
    def step() -> None:
        raise dg.Failure("the bucket is away", allow_retries=False)

    @dg.job
    def broken() -> None:
        step()

    broken.execute_in_process(instance=desk.instance, raise_on_error=False, tags=request.tags)
    desk.tick()
    assert desk.job(job).status == "failed"
    (mail,) = desk.mails()
    assert (mail.template, mail.vars["connection"]) == ("sync_failing", "aws-payer")
    assert mail.vars["error"] == "step: the bucket is away"


def test_a_test_of_a_connection_tells_which_step_fails(desk: Desk, tmp_path: Path) -> None:
    wanted = connection({"id": "drop", "kind": "cur", "uri": str(tmp_path / "nowhere")})
    desk.database.connections.add(desk.tenant, "drop", **to_row(wanted))
    job = desk.ask("connector_test", {"connection_id": "drop"})
    (request,) = desk.tick()
    assert request.job_name == connection_test.name
    with_platform = dg.Definitions(jobs=[connection_test], resources={"platform": Platform()})
    with_platform.resolve_job_def(connection_test.name).execute_in_process(
        instance=desk.instance, run_config=request.run_config, tags=request.tags
    )
    desk.tick()
    ended = desk.job(job)
    assert (ended.status, ended.result["ok"]) == ("completed", False)
    (finding,) = ended.result["findings"]
    assert (finding["step"], finding["ok"]) == ("listing", False)
    assert "does not exist" in finding["text"]


def test_progress_is_the_share_of_steps_that_have_ended(desk: Desk) -> None:
    job = desk.ask()
    (request,) = desk.tick()
    seen: list[int] = []

    @dg.op
    def first() -> int:
        return 1

    @dg.op
    def second(value: int) -> None:
        desk.tick()
        seen.append(desk.job(job).progress)

    @dg.job
    def two_steps() -> None:
        second(first())

    result = two_steps.execute_in_process(instance=desk.instance, tags=request.tags)
    assert seen == [50]
    desk.tick()
    assert (desk.job(job).status, desk.job(job).progress) == ("completed", 100)
    assert desk.job(job).run_id == result.run_id


def _killed(*_: Any, **__: Any) -> None:
    raise ConnectionError("the database went away")
