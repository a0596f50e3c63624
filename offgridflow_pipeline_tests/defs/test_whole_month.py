"""No report of a part of a month: days that were never read, and days that were read and not counted, are named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.defs.checks.months import _finding, _has_feed, listed_days
from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.months import month_days
from offgridflow_pipeline.settings import load_settings

MONTH = "2026-10"
DAYS = month_days(MONTH)


class Month:
    """A tenant of which some days were read and some have totals."""

    def __init__(self, database: Database, tenant: str) -> None:
        self.database, self.tenant = database, tenant
        self.counted: list[date] = []

    def read(self, days: Sequence[date], *, billed: bool) -> None:
        digests = {("aws", day): (1, "a" * 64) for day in days} if billed else {}
        self.database.day_digests.record(
            self.tenant, schemas.AWS_BILLING_EXTRACT.name, days=days, connections={"aws": ""}, digests=digests,
            run_id="r",
        )  # fmt: skip

    def finding(self, month: str = MONTH) -> str:
        lake = SimpleNamespace(partitions=lambda tenant, dataset: [day.isoformat() for day in self.counted])
        platform = SimpleNamespace(database=self.database, lake=lake, settings=load_settings())
        return _finding(platform, self.tenant, month)  # type: ignore[arg-type]


@pytest.fixture
def month(database: Database, new_tenant: Callable[[], str]) -> Month:
    return Month(database, new_tenant())


def test_a_month_of_which_every_day_has_totals_is_whole(month: Month) -> None:
    month.counted = DAYS
    assert month.finding() == ""


def test_a_day_that_was_read_and_billed_nothing_is_no_gap(month: Month) -> None:
    month.counted = DAYS[:20]
    month.read(DAYS[20:], billed=False)
    assert month.finding() == ""


def test_days_that_were_never_read_are_named_with_the_cure(month: Month) -> None:
    month.counted = [day for day in DAYS if day.day not in (4, 5, 6, 31)]
    assert month.finding() == (
        "2026-10: days 4 to 6, 31 were never read: sync the connections for these days, then ask again."
    )


def test_a_day_that_was_read_and_stopped_before_its_totals_is_named_apart(month: Month) -> None:
    month.counted = DAYS[:29]
    month.read(DAYS[30:], billed=True)
    assert month.finding() == (
        "2026-10: day 30 was never read: sync the connections for these days, then ask again. "
        "2026-10: day 31 was read but not counted, as a step or check failed: mend what the run names, sync the "
        "connections for these days, then ask again."
    )


def test_days_to_come_and_days_before_the_history_do_not_lack(month: Month) -> None:
    today = datetime.now(UTC).date()
    month.counted = [today.replace(day=1) + timedelta(days=n) for n in range(today.day - 1)]
    assert month.finding(f"{today:%Y-%m}") == ""
    before = load_settings().history_start - timedelta(days=1)
    assert month.finding(f"{before:%Y-%m}") == ""


def test_only_a_tenant_with_a_bill_to_read_can_miss_days(database: Database, new_tenant: Callable[[], str]) -> None:
    tenant = new_tenant()
    asked = SimpleNamespace(database=database)
    assert not _has_feed(asked, tenant)  # type: ignore[arg-type]
    database.connections.add(tenant, "bill", provider="aws", kind="cur2", uri="s3://bucket/key")
    assert _has_feed(asked, tenant)  # type: ignore[arg-type]
    database.connections.pause(tenant, "bill")
    assert not _has_feed(asked, tenant)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ([date(2026, 10, 3)], "day 3 was"),
        ([date(2026, 10, 3), date(2026, 10, 4)], "days 3 to 4 were"),
        ([date(2026, 10, 9), date(2026, 10, 1), date(2026, 10, 2)], "days 1 to 2, 9 were"),
    ],
)
def test_days_are_told_in_ranges(days: list[date], expected: str) -> None:
    assert listed_days(days) == expected
