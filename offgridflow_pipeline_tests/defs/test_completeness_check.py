"""The check of days without rows: holes, and bills that were emptied, but not days that are not billed yet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.defs.checks.sources import _hole_faults
from offgridflow_pipeline.lake import schemas

TABLE = schemas.AWS_BILLING_EXTRACT


def _faults(database: Database, tenant: str, billed: list[date], read: list[date]) -> dict[date, str]:
    digests = {("aws", day): (1, "a" * 64) for day in billed}
    database.day_digests.record(tenant, TABLE.name, days=read, connections={"aws": ""}, digests=digests, run_id="r")
    return _hole_faults(SimpleNamespace(database=database), tenant, TABLE, read)  # type: ignore[arg-type]


def test_a_month_that_was_emptied_is_told_after_one_that_was_billed(
    database: Database, new_tenant: Callable[[], str]
) -> None:
    september = [date(2026, 9, n) for n in range(1, 31)]
    october = [date(2026, 10, n) for n in range(1, 32)]
    tenant = new_tenant()
    assert _faults(database, tenant, september, september) == {}
    assert _faults(database, tenant, october, october) == {}
    assert _faults(database, tenant, [], october) == dict.fromkeys(october, "aws: without rows")


def test_a_hole_is_told_and_the_days_that_are_not_billed_yet_are_not(
    database: Database, new_tenant: Callable[[], str]
) -> None:
    today = datetime.now(UTC).date()
    days = [today - timedelta(days=n) for n in range(10, -1, -1)]
    billed = [day for day in days[:8] if day != days[3]]
    assert _faults(database, new_tenant(), billed, days) == {days[3]: "aws: without rows"}
