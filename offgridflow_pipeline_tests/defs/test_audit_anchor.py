"""The nightly care of the audit log: the anchor is made and kept, every chain is checked, a broken one fails the run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.defs.audit_anchor import audit_anchor, daily_audit_anchor
from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.identity.audit import Action, record
from offgridflow_pipeline.settings import load_settings
from offgridflow_pipeline_tests.counterparts.postgres import migrated_database


@pytest.fixture(scope="module")
def own_database() -> Iterator[Database]:
    """Not the shared one: other tests break chains there on purpose."""
    with migrated_database() as opened:
        yield opened


@pytest.fixture
def night(own_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("DATABASE_URL", own_database.admin_engine.url.render_as_string(hide_password=False))
    monkeypatch.setenv("OFFGRIDFLOW_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("OFFGRIDFLOW_AUDIT_ANCHOR_URI", str(tmp_path / "anchors"))
    load_settings.cache_clear()
    yield tmp_path / "anchors"
    load_settings.cache_clear()


def _run() -> dg.ExecuteInProcessResult:
    return audit_anchor.execute_in_process(resources={"platform": Platform()}, raise_on_error=False)


def test_a_night_anchors_checks_and_is_repeated_without_harm_until_a_chain_is_broken(
    own_database: Database, night: Path
) -> None:
    tenant = own_database.tenants.add("acme", "Acme", currency="EUR").slug
    record(own_database, tenant, Action.SIGN_IN, actor="user:u")
    assert [_run().success, _run().success] == [True, True]
    (kept,) = night.glob("*.json")
    (anchored,) = own_database.audit_log.anchors(tenant)
    assert json.loads(kept.read_bytes())["body"] == anchored.anchor.body
    assert _verifications(own_database) == [(2, 0), (2, 0)]

    with own_database.admin_engine.begin() as connection:
        connection.exec_driver_sql("set local session_replication_role = replica")
        connection.exec_driver_sql("update ogf.audit_events set body = replace(body, 'user', 'usex')")
    broken = _run()
    assert not broken.success
    (failure,) = [event for event in broken.all_events if event.is_step_failure]
    assert failure.step_key == "verify_audit_log"
    assert "acme, event 1: its body or hash was changed" in str(failure.event_specific_data)
    assert _verifications(own_database)[-1] == (2, 1)


def test_the_schedule_runs_after_midnight_and_outside_of_production_on_demand() -> None:
    assert daily_audit_anchor.cron_schedule == "5 0 * * *"
    assert daily_audit_anchor.default_status is dg.DefaultScheduleStatus.STOPPED


def _verifications(database: Database) -> list[tuple[int, int]]:
    with database.admin_engine.connect() as connection:
        rows = connection.execute(
            sa.text("select chains, broken_chains from ogf.audit_verifications order by verified_at")
        )
        return [(row[0], row[1]) for row in rows]
