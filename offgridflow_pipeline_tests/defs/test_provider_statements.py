"""Carbon statements of a provider through their asset: every version kept, totals held against their parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest

from offgridflow_pipeline.connectors.connections import to_row
from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.definitions import defs
from offgridflow_pipeline.demo.generator import generate
from offgridflow_pipeline.inventory import statements
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline_tests.defs.platform_run import PlatformRun

pytestmark = [pytest.mark.slow]
TENANT, MONTH = "stated-carbon", "2026-10"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, database: Database, tmp_path: Path) -> Iterator[PlatformRun]:
    if TENANT not in {t.slug for t in database.tenants.list()}:
        database.tenants.add(TENANT, "Has a statement", currency="USD")
    (statement,) = [c for c in generate(tmp_path / "bills", months=1).tenants[0].connections if not c.is_feed]
    database.connections.add(TENANT, "carbon", **to_row(statement), replace=True)
    opened = PlatformRun(monkeypatch, database, tmp_path / "data")
    opened.add_tenants([TENANT])
    yield opened
    opened.close()


def materialise(run: PlatformRun) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def("monthly_statements").execute_in_process(
        instance=run.instance, raise_on_error=False, partition_key=f"{MONTH}-01|{TENANT}"
    )


def kept(run: PlatformRun) -> pa.Table:
    with Engine(memory_mb=256, threads=1) as engine:
        return engine.to_arrow(engine.table(run.lake.slice(TENANT, "provider_statements")))


def verdicts(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {e.check_name: e.passed for e in result.get_asset_check_evaluations()}


def test_a_statement_is_kept_once_however_often_it_is_read(run: PlatformRun) -> None:
    first = materialise(run)
    assert first.success
    assert verdicts(first) == {"answered": True, "adds_up": True}
    rows = kept(run)
    assert rows.num_rows > 100
    assert set(rows["month"].to_pylist()) == {MONTH}
    assert materialise(run).success
    assert kept(run).num_rows == rows.num_rows


def test_a_total_that_is_not_the_sum_of_its_scopes_is_told_with_both_figures(
    run: PlatformRun, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = statements.appended

    def without_scope_3(old: pa.Table, new: pa.Table) -> pa.Table:
        rows = honest(old, new).to_pylist()
        return pa.Table.from_pylist([row for row in rows if row["scope"] != "3"], schema=old.schema)

    monkeypatch.setattr(statements, "appended", without_scope_3)
    result = materialise(run)
    assert result.success
    assert verdicts(result)["adds_up"] is False
    findings = database.check_ledger.list(TENANT, check_name="provider_statements.adds_up")
    (finding,) = {f.finding for f in findings if not f.passed}
    assert "carbon, location: states" in finding
    assert "its scopes add up to" in finding


def test_a_statement_that_is_gone_keeps_what_was_read_and_says_so(
    run: PlatformRun, database: Database, tmp_path: Path
) -> None:
    assert materialise(run).success
    before = kept(run).num_rows
    database.connections.add(
        TENANT, "carbon", provider="local", kind="aws_carbon_export", uri=str(tmp_path / "gone"), replace=True
    )
    assert materialise(run).success
    assert kept(run).num_rows == before
    assert "gone" in str(database.connections.get(TENANT, "carbon").last_error)
