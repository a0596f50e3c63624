"""The main job on generated bills: from deliveries to published, validated reports, and what breaks it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lxml import etree

from offgridflow_pipeline.connectors.connections import to_row
from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.pipeline.registers import Artefact
from offgridflow_pipeline.defs.assets.reports import DRAFTS
from offgridflow_pipeline.defs.run_failures import failure_of
from offgridflow_pipeline.demo.generator import DemoBills, generate
from offgridflow_pipeline.reporting.fact import FactSet, fact_set
from offgridflow_pipeline.reporting.workbook import document as workbook_document
from offgridflow_pipeline.reporting.xbrl import instance as xbrl_instance
from offgridflow_pipeline.settings import load_settings
from offgridflow_pipeline_tests.defs.platform_run import PlatformRun, summed

pytestmark = [pytest.mark.slow]
MONTH = "2026-10"
FIRST, LAST = date(2026, 10, 1), date(2026, 10, 31)


@pytest.fixture(scope="module")
def bills(tmp_path_factory: pytest.TempPathFactory) -> DemoBills:
    return generate(tmp_path_factory.mktemp("bills"), months=1)


def connect(database: Database, bills: DemoBills, copy: Path) -> None:
    """The companies' connections lead to this copy of their bills."""
    known = {t.slug for t in database.tenants.list()}
    for tenant in bills.tenants:
        if tenant.slug not in known:
            database.tenants.add(tenant.slug, tenant.display_name, lei=tenant.lei, currency=tenant.currency)
        for connection in tenant.connections:
            copied = str(copy / Path(connection.uri).relative_to(bills.root.resolve()))
            values = to_row(connection.model_copy(update={"uri": copied}))
            database.connections.add(tenant.slug, connection.id, **values, replace=True)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, database: Database, bills: DemoBills, tmp_path: Path) -> Iterator[PlatformRun]:
    """An empty lake, and bills that the test may change."""
    copy = tmp_path / "bills"
    shutil.copytree(bills.root, copy)
    connect(database, bills, copy)
    opened = PlatformRun(monkeypatch, database, tmp_path / "data")
    opened.add_tenants([t.slug for t in bills.tenants])
    yield opened
    opened.close()


@dataclass
class Months:
    """A lake that keeps the companies' whole months for all tests of this module: reading one takes long."""

    run: PlatformRun
    folder: Path
    read: set[str] = field(default_factory=set)
    reported: set[str] = field(default_factory=set)

    def require_read(self, tenant: str) -> None:
        """The month's bills have been read, by this call or an earlier one."""
        if tenant not in self.read:
            assert self.run.days(tenant, FIRST, LAST).success
            self.read.add(tenant)

    def require_reported(self, tenant: str) -> None:
        """The month has been reported, by this call or an earlier one."""
        self.require_read(tenant)
        if tenant not in self.reported:
            assert self.run.report(tenant, MONTH).success
            self.reported.add(tenant)


@pytest.fixture(scope="module")
def kept_months(database: Database, bills: DemoBills, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Months]:
    folder = tmp_path_factory.mktemp("months")
    with pytest.MonkeyPatch.context() as patch:
        opened = PlatformRun(patch, database, folder)
    opened.add_tenants([t.slug for t in bills.tenants])
    yield Months(opened, folder)
    opened.close()


@pytest.fixture
def months(
    kept_months: Months, monkeypatch: pytest.MonkeyPatch, database: Database, bills: DemoBills
) -> Iterator[Months]:
    connect(database, bills, bills.root)
    kept_months.run.set_environment(monkeypatch)
    yield kept_months
    load_settings.cache_clear()


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_month_becomes_published_reports_whose_cost_and_rows_equal_the_bill(
    months: Months, bills: DemoBills, database: Database, position: int
):
    tenant, run = bills.tenants[position], months.run
    before = database.publications.current(tenant.slug)
    assert run.days(tenant.slug, FIRST, LAST).success
    months.read.add(tenant.slug)
    reported = run.report(tenant.slug, MONTH)
    assert reported.success
    months.reported.add(tenant.slug)
    _requires_one_report(database, tenant.slug, reported, before)
    (control,) = tenant.controls
    total = summed(run.totals(tenant.slug))
    assert total["cost"] == control.billed_cost
    assert total["lines"] == control.rows
    published = {a.kind: a for a in database.report_register.list(tenant.slug, MONTH) if a.status == "published"}
    assert set(published) == set(DRAFTS)
    folder = months.folder / "reports" / tenant.slug / MONTH
    assert {p.suffix for p in folder.iterdir()} == {".pdf", ".xhtml", ".xbrl", ".xlsx", ".zip"}
    with zipfile.ZipFile(next(folder.glob("*.zip"))) as pack, pack.open("emission_lines.parquet") as ledger:
        assert pq.read_table(ledger).num_rows == control.rows


def test_a_report_that_is_asked_for_again_is_the_same_report_to_the_byte(
    months: Months, bills: DemoBills, database: Database
):
    tenant = bills.tenants[2].slug
    months.require_reported(tenant)
    first = [(a.kind, a.edition, a.sha256, a.status) for a in database.report_register.list(tenant, MONTH)]
    editions = [report.edition for report in database.reports.list(tenant, limit=10)]
    assert months.run.report(tenant, MONTH).success
    again = [(a.kind, a.edition, a.sha256, a.status) for a in database.report_register.list(tenant, MONTH)]
    assert again == first
    assert [report.edition for report in database.reports.list(tenant, limit=10)] == editions


def _requires_one_report(database: Database, tenant: str, run: dg.ExecuteInProcessResult, version_before: int) -> None:
    """The run published one report: its files, verdicts, data version, audit event and address in the portal."""
    report = database.reports.of_run(tenant, run.run_id)
    assert (report.state, report.prepared_by) == ("draft", f"run:{run.run_id}")
    files = {f.kind: f for f in database.reports.artefacts(tenant, report.report_id)}
    assert set(files) == set(DRAFTS)
    verdicts = {kind: (f.validation or {}).get("verdict") for kind, f in files.items()}
    assert verdicts == dict.fromkeys(DRAFTS) | {"report_ixbrl": "valid", "report_xbrl": "valid"}
    assert database.publications.current(tenant) == version_before + 2
    totals = database.publications.as_of(tenant, "totals", version_before + 1)
    assert set(totals.lake_versions) == {"scope_totals", "emission_lines"}
    published = database.publications.as_of(tenant, "report", version_before + 2)
    assert published.run_id == run.run_id
    assert published.lake_versions["report_facts"] >= 1
    bodies = [json.loads(e.body) for e in database.audit_log.newest(tenant, limit=9, action="report:published")]
    assert [b["target"] for b in bodies if b["actor"]["id"] == run.run_id] == [f"rep_{report.report_id}"]
    (materialization,) = run.asset_materializations_for_node("report_publication")
    assert str(materialization.metadata["portal"].value).endswith(f"/reports/rep_{report.report_id}")


def test_totals_do_not_depend_on_the_order_of_days_nor_on_how_often_they_run(run: PlatformRun, bills: DemoBills):
    tenant = bills.tenants[0].slug
    for day in [date(2026, 10, n) for n in (4, 2, 3, 2)]:
        assert run.days(tenant, day, day).success
    one_by_one = run.totals(tenant)
    assert len(one_by_one) == 3
    assert run.days(tenant, date(2026, 10, 2), date(2026, 10, 4)).success
    assert run.totals(tenant) == one_by_one
    by_account = run.totals(tenant, by=("SubAccountId",))
    assert summed(by_account) == summed(one_by_one) == summed(run.totals(tenant, "emission_lines"))


def test_a_damaged_delivery_leaves_the_old_days_and_the_other_tenant(
    run: PlatformRun, bills: DemoBills, database: Database
):
    damaged, other = bills.tenants[1].slug, bills.tenants[0].slug
    first, last = date(2026, 10, 1), date(2026, 10, 2)
    assert run.days(damaged, first, last).success
    before = run.totals(damaged)
    parts = [p for row in database.connections.list(damaged) for p in sorted(Path(row.uri).rglob("*.csv.gz"))]
    newest = max(parts)
    for part in parts:
        part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])
    failed = run.days(damaged, first, last)
    assert not failed.success
    message = str([e.message for e in failed.all_events if e.is_step_failure] + [
        e.step_failure_data.error.message for e in failed.all_events if e.is_step_failure and e.step_failure_data.error
    ])  # fmt: skip
    assert ".csv.gz" in message or newest.name in message
    assert run.totals(damaged) == before
    assert run.days(other, first, last).success


def test_a_planted_wrong_total_stops_the_run_before_publication(
    months: Months, bills: DemoBills, database: Database, monkeypatch: pytest.MonkeyPatch
):
    tenant = bills.tenants[1].slug
    months.require_reported(tenant)
    honest = xbrl_instance.written

    def forged(out: Path, content: bytes) -> Path:
        root = etree.fromstring(content)
        totals = [n for n in root.iter() if isinstance(n.tag, str) and n.tag.endswith("}TotalEmissionsLocationBased")]
        totals = totals or [
            n for n in root.iter()
            if isinstance(n.tag, str) and "Total" in n.tag and "Location" in n.tag and n.get("unitRef")
        ]  # fmt: skip
        totals[0].text = str(float(totals[0].text) + 1)
        return honest(out, etree.tostring(root))

    def overstated(table: pa.Table) -> FactSet:
        facts = fact_set(table)
        return FactSet(replace(f, value=f"{f.number + 1}") if f.metric == "total_location" else f for f in facts)

    monkeypatch.setattr(xbrl_instance, "written", forged)
    monkeypatch.setattr(workbook_document, "fact_set", overstated)
    already = _published(database, tenant)
    result = months.run.report(tenant, MONTH)
    assert not result.success
    evaluations = {(e.asset_key.to_user_string(), e.check_name): e.passed for e in result.get_asset_check_evaluations()}
    assert evaluations["report_xbrl", "valid"] is False
    assert evaluations["report_workbook", "equals_facts"] is False
    assert "report_publication" not in {e.step_key for e in result.all_events if e.is_step_success}
    assert _published(database, tenant) == already


def _published(database: Database, tenant: str) -> list[tuple[Artefact, str | None]]:
    """The month's published files with their verdicts; how long the validator took last is left out."""
    files = [a for a in database.report_register.list(tenant, MONTH) if a.status == "published"]
    return [(replace(a, validation=None), (a.validation or {}).get("verdict")) for a in files]


def test_a_report_of_a_part_of_a_month_is_refused_with_the_days_that_lack(
    run: PlatformRun, bills: DemoBills, database: Database
):
    tenant = bills.tenants[0].slug
    assert run.days(tenant, FIRST, date(2026, 10, 2)).success
    refused = run.report(tenant, MONTH)
    assert not refused.success
    assert [e.step_key for e in refused.all_events if e.is_step_success] == ["ghg_inventory"]
    failure = failure_of(run.instance, database, tenant, refused.run_id)
    assert failure.message.startswith("Check ghg_inventory.whole_month failed: 2026-10: days 3 to 31 were ")
    assert "sync the connections for these days" in failure.message
    assert failure.refused


def test_a_run_worker_killed_in_mid_run_leaves_whole_days_and_the_retry_is_right(run: PlatformRun, bills: DemoBills):
    tenant = bills.tenants[0].slug
    script = (
        "import sys, dagster as dg\n"
        "from offgridflow_pipeline.defs.launch import run_month\n"
        "from offgridflow_pipeline.defs.partitions import TENANT_PARTITIONS\n"
        "i = dg.DagsterInstance.ephemeral(); i.add_dynamic_partitions(TENANT_PARTITIONS, [sys.argv[1]])\n"
        "run_month(i, sys.argv[1], sys.argv[2])\n"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", script, tenant, MONTH], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    ledger = Path(os.environ["OFFGRIDFLOW_DATA_DIR"]) / "lake" / tenant / "emission_lines"
    deadline = time.monotonic() + 90
    while not list(ledger.glob("usage_date=*")) and worker.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    assert list(ledger.glob("usage_date=*")), "the worker was not yet writing the ledger when it was killed"
    committed = run.totals(tenant, "emission_lines") if list((ledger / "_delta_log").glob("*1.json")) else {}
    assert len(committed) in (0, 31)
    assert run.days(tenant, FIRST, LAST).success
    (control,) = bills.tenants[0].controls
    total = summed(run.totals(tenant, "emission_lines"))
    assert total["cost"] == control.billed_cost
    assert total["lines"] == control.rows


def test_a_tenant_without_connections_is_refused_instead_of_emptied(
    run: PlatformRun, bills: DemoBills, database: Database
):
    tenant = bills.tenants[0].slug
    day = date(2026, 10, 1)
    assert run.days(tenant, day, day).success
    before = run.totals(tenant)
    for connection in database.connections.list(tenant):
        database.connections.pause(tenant, connection.connection_id)
    assert not run.days(tenant, day, day).success
    assert run.totals(tenant) == before
