"""Reports in the formats of the plan: what it has not is not made, the rest is published, earlier files stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pikepdf
import pypdfium2
import pytest

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.pipeline.reports import Report
from offgridflow_pipeline.definitions import defs
from offgridflow_pipeline.defs.assets.reports import DRAFTS
from offgridflow_pipeline.defs.jobs import MONTHLY_ASSETS
from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.defs.run_failures import failure_of
from offgridflow_pipeline.defs.standings import artefact_tags, without_barred
from offgridflow_pipeline.months import month_days
from offgridflow_pipeline_tests.defs.platform_run import PlatformRun
from offgridflow_pipeline_tests.defs.subscribed import configure, stand
from offgridflow_pipeline_tests.inventory.ledgers import Ledger, money_line

MONTH = "2026-10"


@pytest.fixture
def run(
    database: Database, new_tenant: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[PlatformRun, str]]:
    """A tenant whose month was calculated, on the plan `basic`."""
    opened = PlatformRun(monkeypatch, database, tmp_path / "data")
    configure(monkeypatch)
    tenant = new_tenant()
    opened.add_tenants([tenant])
    ledger = Ledger([money_line(1, "12.50", tenant_id=tenant)])  # a bill of taxes alone cites no factor
    tables = {"emission_lines": ledger.emission_lines(), "scope_totals": ledger.scope_totals()}
    for name, rows in tables.items():
        opened.lake.replace(tenant, name, month_days(MONTH), rows, run_id="earlier")
    stand(database, tenant, "basic")
    yield opened, tenant
    opened.close()


def test_a_plan_without_xbrl_has_its_report_without_it_and_keeps_what_was_published_before(
    run: tuple[PlatformRun, str], database: Database, tmp_path: Path
) -> None:
    dagster, tenant = run
    before = _published_with_every_format(database, tenant)
    standing = Platform().standing(tenant)
    stand(database, tenant, "pro")  # paid for more while the run waited: it makes what it was to make
    result = defs.resolve_job_def("monthly_report").execute_in_process(
        instance=dagster.instance,
        raise_on_error=False,
        partition_key=f"{MONTH}-01|{tenant}",
        asset_selection=without_barred(standing, MONTHLY_ASSETS),
        tags=artefact_tags(standing),
    )
    assert result.success
    materialized = {event.asset_key.to_user_string() for event in result.get_asset_materialization_events()}
    made = {"report_pdf", "report_workbook", "report_datapack"}
    assert materialized == {"ghg_inventory", "report_facts", *made, "report_publication"}
    report = database.reports.of_run(tenant, result.run_id)
    assert report is not None
    files = {a.kind: a.file_name for a in database.reports.artefacts(tenant, report.report_id)}
    assert set(files) == made
    assert {a.kind for a in database.reports.artefacts(tenant, before.report_id)} == set(DRAFTS)
    path = tmp_path / "data" / "reports" / tenant / MONTH / files["report_pdf"]
    with pikepdf.open(path) as pdf:
        assert [Path(name).suffix for name in pdf.attachments] == [".csv"]
    text = "".join(page.get_textpage().get_text_range() for page in pypdfium2.PdfDocument(path))
    assert "Its facts as CSV are attached to this file." in text
    assert "Inline XBRL" not in text


def test_a_format_that_the_plan_has_not_is_refused_when_it_is_launched_by_hand(
    run: tuple[PlatformRun, str], database: Database
) -> None:
    dagster, tenant = run
    result = dagster.report(tenant, MONTH)
    assert not result.success
    failed = {event.step_key for event in result.all_events if event.is_step_failure}
    assert failed == {"report_ixbrl", "report_xbrl"}
    message = failure_of(dagster.instance, database, tenant, result.run_id).message
    assert f"for {tenant}. The basic plan allows reports as datapack, pdf, workbook" in message
    assert database.reports.list(tenant, limit=10) == []


def _published_with_every_format(database: Database, tenant: str) -> Report:
    """A report as the tenant had it on a larger plan."""
    with database.tenant(tenant) as scope:
        bound = database.within(scope)
        for number, kind in enumerate(DRAFTS):
            bound.report_register.record(
                tenant=tenant, period=MONTH, kind=kind, file_name=f"{kind}.bin", sha256=f"{number}" * 64,
                size_bytes=1, media_type="application/pdf", run_id="earlier",
            )  # fmt: skip
        editions = bound.report_register.publish(tenant, MONTH, list(DRAFTS), run_id="earlier")
        report, _ = bound.reports.publish(tenant, MONTH, editions, run_id="earlier", prepared_by="run:earlier")
    return report
