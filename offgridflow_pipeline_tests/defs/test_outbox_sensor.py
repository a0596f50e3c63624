"""The outbox sensor: a safety net that sends what is due, in the sidecar's role."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from pydantic import SecretStr

from offgridflow_pipeline.database import engine
from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.defs.sensors import outbox as module
from offgridflow_pipeline.notifications.outbox import enqueue
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline_tests.counterparts.smtp import smtp_server


def test_a_tick_sends_what_is_due_and_says_so(
    database: Database, new_tenant: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roles: list[str] = []

    def connect(_settings: Settings, *, role: str) -> Database:
        roles.append(role)
        return database.connected_as(role)

    tenant = new_tenant()
    ready = {"organisation": "Acme", "period": "2026-09", "report_id": "rep_1"}
    enqueue(database, tenant, "report_ready", to="sensor@example.org", vars=ready, dedupe_key="tick")
    with smtp_server(tmp_path) as server:
        settings = Settings(
            _env_file=None, environment="test", smtp_url=SecretStr(server.url), smtp_ca_bundle=server.ca_bundle
        )
        monkeypatch.setattr(module, "load_settings", lambda: settings)
        monkeypatch.setattr(engine, "connect", connect)
        first, second = (module.outbox.evaluate_tick(dg.build_sensor_context()).skip_message for _ in range(2))
        assert [received.recipients for received in server.received].count(["sensor@example.org"]) == 1
    assert (first or "").startswith("Mails sent")
    assert second == "No mail was due."
    assert set(roles) == {"ogf_api"}


def test_the_sensor_runs_from_the_start_and_every_half_minute() -> None:
    assert module.outbox.default_status is dg.DefaultSensorStatus.RUNNING
    assert module.outbox.minimum_interval_seconds == 30
