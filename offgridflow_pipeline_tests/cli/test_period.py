"""`offgridflow period` and `offgridflow restatement`: what a person closes, reopens and decides."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from offgridflow_pipeline import settings as settings_module
from offgridflow_pipeline.cli import period
from offgridflow_pipeline.connectors.connections import connection, to_row
from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.pipeline.changes import DetectedChange
from offgridflow_pipeline_tests.counterparts.postgres import settings

Run = Callable[..., tuple[int, str]]
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
MONTH = "2026-05"
MAY = [date(2026, 5, 1) + timedelta(days=n) for n in range(31)]


@pytest.fixture
def run(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    chosen = settings(tmp_path, database.admin_engine.url)
    monkeypatch.setattr(settings_module, "load_settings", lambda: chosen)

    def call(app, *arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, arguments)
        return result.exit_code, result.output

    return call


@pytest.fixture
def tenant(new_tenant: Callable[[], str]) -> str:
    return new_tenant()


def _held_change(database: Database, tenant: str) -> str:
    change = DetectedChange(MAY[4], MAY[5], "new_version", "a" * 64, {"u": {"version": "a"}})
    database.source_changes.record(tenant, "aws-payer", [change], observed_at=NOON)
    (proposal,) = database.restatements.list(tenant)
    return str(proposal.restatement_id)


def test_a_month_is_closed_listed_and_reopened_by_name(run: Run, database: Database, tenant: str) -> None:
    assert run(period.period, "close", tenant, MONTH, "--by", "ada") == (0, f"Closed {MONTH} of {tenant}.\n")
    code, output = run(period.period, "list", tenant)
    assert code == 0
    assert "by ada" in output
    assert run(period.period, "reopen", tenant, MONTH, "--by", "grace")[0] == 0
    assert "by grace" in run(period.period, "list", tenant)[1]
    events = [json.loads(event.body) for event in database.audit_log.events(tenant, after=0, limit=10)]
    assert [(event["action"], event["target"], event["details"]) for event in events] == [
        ("periods:closed", f"period:{MONTH}", {"by": "ada"}),
        ("periods:reopened", f"period:{MONTH}", {"by": "grace"}),
    ]


def test_a_month_with_days_that_were_never_read_is_closed_on_purpose_only(
    run: Run, database: Database, tenant: str
) -> None:
    source = connection({"id": "aws-payer", "kind": "cur2", "uri": "s3://bills/exports"})
    database.connections.add(tenant, source.id, **to_row(source))
    read = [day for day in MAY if day.day not in (7, 8, 20)]
    database.day_digests.record(
        tenant, "aws_billing_extract", days=read, connections={source.id: "v"}, digests={}, run_id="r"
    )
    code, output = run(period.period, "close", tenant, MONTH)
    assert code == 1
    assert "aws-payer: never read: 2026-05-07 to 2026-05-08, 2026-05-20" in output
    assert database.period_closures.closed_months(tenant) == frozenset()
    assert run(period.period, "close", tenant, MONTH, "--incomplete")[0] == 0


@pytest.mark.parametrize(("month", "cure"), [("2199-01", "has not ended"), ("May", "not a month such as")])
def test_a_month_that_cannot_be_closed_is_refused_in_one_line(run: Run, tenant: str, month: str, cure: str) -> None:
    code, output = run(period.period, "close", tenant, month)
    assert code != 0
    assert cure in output
    assert "Traceback" not in output


def test_an_unknown_tenant_is_refused(run: Run) -> None:
    code, output = run(period.period, "list", "nobody")
    assert code == 1
    assert "offgridflow tenant add nobody" in output


def test_an_approved_restatement_waits_for_its_run(run: Run, database: Database, tenant: str) -> None:
    run(period.period, "close", tenant, MONTH)
    identity = _held_change(database, tenant)
    code, output = run(period.restatement, "list", tenant)
    assert code == 0
    assert identity in output
    assert "2026-05-05 to 2026-05-06" in output
    assert run(period.restatement, "approve", tenant, identity, "--by", "grace") == (0, f"Approved {identity}.\n")
    assert [str(c.restatement_id) for c in database.source_changes.list(tenant, ["pending"])] == [identity]
    assert "approved" in run(period.restatement, "list", tenant)[1]


def test_a_rejected_restatement_is_shown_on_demand_and_cannot_be_decided_again(
    run: Run, database: Database, tenant: str
) -> None:
    run(period.period, "close", tenant, MONTH)
    identity = _held_change(database, tenant)
    assert run(period.restatement, "reject", tenant, identity, "--by", "grace")[0] == 0
    assert identity not in run(period.restatement, "list", tenant)[1]
    assert "by grace" in run(period.restatement, "list", tenant, "--all")[1]
    code, output = run(period.restatement, "approve", tenant, identity)
    assert code == 1
    assert "No proposed restatement" in output
