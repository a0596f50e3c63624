"""The report's facts take the newest anchor of the tenant's audit log once, and keep it while nothing changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.definitions import defs
from offgridflow_pipeline.identity import anchors
from offgridflow_pipeline.identity.audit import Action, record
from offgridflow_pipeline.identity.audit_export import PrintedAnchor, export_lines, verify
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline.months import month_days
from offgridflow_pipeline_tests.defs.platform_run import PlatformRun
from offgridflow_pipeline_tests.identity.anchoring import RING, next_anchor
from offgridflow_pipeline_tests.inventory.ledgers import Ledger, money_line
from offgridflow_pipeline_tests.reporting.conftest import inventory_of

MONTH = "2026-10"


@pytest.fixture
def run(
    database: Database, new_tenant: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[PlatformRun, str]]:
    """A tenant whose month has its inventory."""
    opened = PlatformRun(monkeypatch, database, tmp_path / "data")
    tenant = new_tenant()
    opened.add_tenants([tenant])
    ledger = Ledger([money_line(1, "12.50", tenant_id=tenant)])
    tables = {"emission_lines": ledger.emission_lines(), "scope_totals": ledger.scope_totals()}
    for name, rows in tables.items():
        opened.lake.replace(tenant, name, month_days(MONTH), rows, run_id="earlier")
    opened.lake.replace(tenant, "ghg_inventory", [MONTH], inventory_of(ledger, MONTH, tenant), run_id="earlier")
    yield opened, tenant
    opened.close()


def test_a_report_keeps_the_anchor_it_was_built_at_and_the_export_proves_its_root(
    run: tuple[PlatformRun, str], database: Database
) -> None:
    opened, tenant = run
    for _ in range(3):
        record(database, tenant, Action.SIGN_IN, actor="user:u")
    made = next_anchor(database).anchor
    first = _facts(opened, tenant)
    stated = {row["metric"]: row["value"] for row in first.to_pylist()}
    assert stated["audit_anchor_date"] == made.anchor_date.isoformat()
    assert stated["audit_anchor_id"] == anchors.digest_of(made)
    assert stated["audit_anchor_event"] == "3"
    record(database, tenant, Action.SIGN_IN, actor="user:u")
    next_anchor(database)
    assert _facts(opened, tenant).equals(first)
    printed = PrintedAnchor(str(stated["audit_anchor_root"]), str(stated["audit_anchor_event_hash"]))
    assert verify(export_lines(database, tenant), RING.public, printed=printed).anchors == 2


def _facts(opened: PlatformRun, tenant: str) -> pa.Table:
    """The facts after a run that builds them."""
    result = defs.resolve_job_def("monthly_report").execute_in_process(
        instance=opened.instance,
        partition_key=f"{MONTH}-01|{tenant}",
        asset_selection=[dg.AssetKey("report_facts")],
    )
    assert result.success
    with Engine(256, 1) as engine:
        return engine.to_arrow(engine.table(opened.lake.slice(tenant, "report_facts", [MONTH])).order_by("sort_order"))
