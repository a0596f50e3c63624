"""Check of a month: no report is made of a part of it."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Any

from offgridflow_pipeline.connectors.feeds import EXTRACT_TABLES, FEEDS
from offgridflow_pipeline.defs.checks.verdict import lake_check
from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.months import month_days


@lake_check(
    "ghg_inventory", "whole_month", "Every day of the month was read and counted, days on which nothing was billed too."
)
def whole_month(platform: Platform, tenant: str, table: schemas.Table, partitions: list[Any]) -> dict[Any, str]:
    """Months with days that lack; a tenant without a connection has none that could be read."""
    if not _has_feed(platform, tenant):
        return {}
    return {month: finding for month in partitions if (finding := _finding(platform, tenant, month))}


def _has_feed(platform: Platform, tenant: str) -> bool:
    rows = platform.database.connections.list(tenant, paused=False)
    return any(row.kind in FEEDS and row.role == "record" for row in rows)


def _finding(platform: Platform, tenant: str, month: str) -> str:
    today = datetime.now(UTC).date()
    past = [day for day in month_days(month) if platform.settings.history_start <= day < today]
    counted = set(platform.lake.partitions(tenant, "scope_totals"))
    without_totals = [day for day in past if day.isoformat() not in counted]
    billed = _billed(platform, tenant, without_totals)
    sentences = []
    if unread := [day for day in without_totals if day not in billed]:
        sentences.append(
            f"{month}: {listed_days(unread)} never read: sync the connections for these days, then ask again."
        )
    if stopped := [day for day in without_totals if billed.get(day)]:
        sentences.append(
            f"{month}: {listed_days(stopped)} read but not counted, as a step or check failed: mend what the run "
            "names, sync the connections for these days, then ask again."
        )
    return " ".join(sentences)


def _billed(platform: Platform, tenant: str, days: Sequence[date]) -> dict[date, int]:
    """Rows billed on each of the days that were read."""
    found: dict[date, int] = {}
    for name in EXTRACT_TABLES.values():
        for (_, day), (rows, _) in platform.database.day_digests.read(tenant, name, days).items():
            found[day] = found.get(day, 0) + rows
    return found


def listed_days(days: Iterable[date]) -> str:
    """Days of one month in words: ``day 3 was``, ``days 4 to 6, 9 were``."""
    from offgridflow_pipeline.connectors.changes.detection import ranges

    found = ranges(days)
    parts = [f"{r.first.day}" if r.first == r.last else f"{r.first.day} to {r.last.day}" for r in found]
    is_one = len(found) == 1 and found[0].first == found[0].last
    return f"day {parts[0]} was" if is_one else f"days {', '.join(parts)} were"
