"""One realistic report for all tests of this room: inventories, profile and facts, built once."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from offgridflow_pipeline.inventory.inventory import ghg_inventory
from offgridflow_pipeline.reporting.fact import fact_set
from offgridflow_pipeline.reporting.facts import report_facts
from offgridflow_pipeline.reporting.profile import ReportProfile
from offgridflow_pipeline.reporting.trail import TrailAnchor
from offgridflow_pipeline.reporting.workbook.document import build_workbook
from offgridflow_pipeline.reporting.xbrl.instance import build_xbrl
from offgridflow_pipeline.reporting.xbrl.ixbrl import build_ixbrl
from offgridflow_pipeline_tests.inventory.ledgers import InProcess, Ledger, citation, realistic

#: A well-formed identifier: the last two digits are 98 - (the rest x 100 mod 97), ISO 7064.
LEI = "529900T8BM49AURSDO55"
#: The anchor of the audit log that the report states.
ANCHOR = TrailAnchor(date(2026, 11, 2), "a1" * 32, "b2" * 32, "s1", 1517, "c3" * 32)


def inventory_of(ledger: Ledger, month: str = "2026-10", tenant: str = "acme") -> pa.Table:
    totals, lines = ledger.expressions()
    return ghg_inventory(InProcess(), totals, lines, month=month, tenant=tenant, citations=citation)


def factor(number: int, **values: Any) -> dict[str, Any]:
    """A row of `cited_factors`."""
    row = {
        "factor_uid": f"uid-{number}", "factor_key": f"grid.location/{number:05}", "value": "0.279", "unit": "kg/kWh",
        "boundary": "direct", "gwp_basis": "AR5", "valid_from": date(2025, 1, 1), "valid_to": "",
        "known_from": date(2026, 1, 1), "publisher": "EPA", "title": "eGRID", "edition": "2023", "locator": "sheet 2",
        "licence": "public domain", "attribution": "",
    }  # fmt: skip
    return row | values


@pytest.fixture(scope="session")
def profile() -> ReportProfile:
    return ReportProfile("acme", "Acme Robotics GmbH", lei=LEI, run_id="run-1", factor_set_name="ofg-2026.11 1.0.0")


@pytest.fixture(scope="session")
def inventories() -> list[pa.Table]:
    """October, September and August 2026, latest first."""
    return [inventory_of(realistic(month), month) for month in ("2026-10", "2026-09", "2026-08")]


@pytest.fixture(scope="session")
def facts(inventories: list[pa.Table], profile: ReportProfile) -> pa.Table:
    return report_facts(inventories[0], profile, previous=inventories[1:], anchor=ANCHOR)


@pytest.fixture(scope="session")
def xbrl(facts: pa.Table, profile: ReportProfile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_xbrl(facts, profile, tmp_path_factory.mktemp("xbrl") / "report.xbrl")


@pytest.fixture(scope="session")
def ixbrl(facts: pa.Table, profile: ReportProfile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_ixbrl(facts, profile, tmp_path_factory.mktemp("ixbrl") / "report.xhtml")


@pytest.fixture(scope="session")
def cited(facts: pa.Table) -> list[dict[str, Any]]:
    """Two factors: one that the report states the share of, and one that may not be reprinted."""
    uid = next(fact.dims["factor"] for fact in fact_set(facts) if fact.metric == "factor_share")
    return [factor(0, factor_uid=uid, value="0.385"), factor(1, value="")]


@pytest.fixture(scope="session")
def workbook(facts: pa.Table, cited: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_workbook(facts, cited, tmp_path_factory.mktemp("workbook") / "report.xlsx")
