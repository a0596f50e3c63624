"""One realistic report for all tests of this room: inventories, profile and facts, built once."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from offgridflow_pipeline.inventory.inventory import ghg_inventory
from offgridflow_pipeline.reporting.facts import report_facts
from offgridflow_pipeline.reporting.profile import ReportProfile
from offgridflow_pipeline.reporting.xbrl.instance import build_xbrl
from offgridflow_pipeline.reporting.xbrl.ixbrl import build_ixbrl
from offgridflow_pipeline_tests.inventory.ledgers import InProcess, Ledger, citation, realistic

#: A well-formed identifier: the last two digits are 98 - (the rest x 100 mod 97), ISO 7064.
LEI = "529900T8BM49AURSDO55"


def inventory_of(ledger: Ledger, month: str = "2026-10", tenant: str = "acme") -> pa.Table:
    totals, lines = ledger.expressions()
    return ghg_inventory(InProcess(), totals, lines, month=month, tenant=tenant, citations=citation)


@pytest.fixture(scope="session")
def profile() -> ReportProfile:
    return ReportProfile("acme", "Acme Robotics GmbH", lei=LEI, run_id="run-1", factor_set_name="ofg-2026.11 1.0.0")


@pytest.fixture(scope="session")
def inventories() -> list[pa.Table]:
    """October, September and August 2026, latest first."""
    return [inventory_of(realistic(month), month) for month in ("2026-10", "2026-09", "2026-08")]


@pytest.fixture(scope="session")
def facts(inventories: list[pa.Table], profile: ReportProfile) -> pa.Table:
    return report_facts(inventories[0], profile, previous=inventories[1:])


@pytest.fixture(scope="session")
def xbrl(facts: pa.Table, profile: ReportProfile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_xbrl(facts, profile, tmp_path_factory.mktemp("xbrl") / "report.xbrl")


@pytest.fixture(scope="session")
def ixbrl(facts: pa.Table, profile: ReportProfile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_ixbrl(facts, profile, tmp_path_factory.mktemp("ixbrl") / "report.xhtml")
