"""Checks of what was delivered: no day missing between others, every provider asked has answered in full."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from offgridflow_pipeline.connectors.feeds import EXTRACT_TABLES
from offgridflow_pipeline.defs.checks.verdict import lake_check, listed, rows_of
from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.lake import schemas

if TYPE_CHECKING:
    from offgridflow_pipeline.connectors.connections import Connection

#: Days around those of the run in which a connection must have billed for a day without rows to be a hole.
_AROUND = timedelta(days=35)
#: Providers bill a day this late: an empty day is none to tell of before.
_LATE = timedelta(days=4)


def _hole_faults(platform: Platform, tenant: str, table: schemas.Table, partitions: list[Any]) -> dict[Any, str]:
    """Days on which a connection billed nothing although it did before: a hole, or a bill that was emptied."""
    from offgridflow_pipeline.connectors.changes.completeness import missing_days
    from offgridflow_pipeline.connectors.changes.detection import DayRange

    around = DayRange(min(partitions) - _AROUND, max(partitions) + _AROUND)
    digests = platform.database.day_digests.read(tenant, table.name, around.days)
    billed: dict[str, list[Any]] = {}
    for (connection, day), (rows, _) in digests.items():
        if rows:
            billed.setdefault(connection, []).append(day)
    found: dict[Any, list[str]] = {}
    due = min(max(partitions), datetime.now(UTC).date() - _LATE)
    for connection, days in billed.items():
        missing = missing_days(digests, [connection], min(days), max(*days, due)).get(connection)
        for kind, ranges in (("never read", missing.unread), ("without rows", missing.empty)) if missing else ():
            for day in (day for days_ in ranges for day in days_.days if day in partitions):
                found.setdefault(day, []).append(f"{connection}: {kind}")
    return {day: "; ".join(reasons) for day, reasons in found.items()}


def _extract_check(name: str) -> dg.AssetChecksDefinition:
    description = "No day is without rows after a connection began to bill (completeness calendar)."
    return lake_check(name, "complete", description, severity="WARN")(_hole_faults)


def _silent(asked: "Iterable[Connection]", answered: set[str]) -> str:
    missing = sorted(c.id for c in asked if c.id not in answered)
    return f"no figure from {', '.join(missing)}: see `offgridflow connections list`" if missing else ""


def _answered(name: str, is_asked: "Callable[[Connection], bool]") -> dg.AssetChecksDefinition:
    @lake_check(name, "answered", "Every connection that states such figures has stated them in full.", severity="WARN")
    def answered(platform: Platform, tenant: str, table: schemas.Table, partitions: list[Any]) -> dict[Any, str]:
        asked = [c for c in platform.connections(tenant) if is_asked(c)]
        rows = rows_of(platform, table.name, tenant, partitions)
        complete = rows.is_complete if "is_complete" in table.column_names else rows.connection_id.notnull()
        grouped = rows.group_by([table.partition, "connection_id"]).aggregate(complete=complete.min())
        stated: dict[Any, dict[str, bool]] = {partition: {} for partition in partitions}
        for row in listed(platform, grouped):
            stated[row[table.partition]][row["connection_id"]] = row["complete"]
        found: dict[Any, str] = {}
        for partition, connections in stated.items():
            partly = [f"{c} was denied a part" for c, whole in sorted(connections.items()) if not whole]
            if problems := [p for p in (_silent(asked, set(connections)), *partly) if p]:
                found[partition] = "; ".join(problems)
        return found

    return answered


SOURCE_CHECKS = [
    *(_extract_check(name) for name in EXTRACT_TABLES.values()),
    _answered("control_totals", lambda c: c.is_feed and c.reconcile != "none" and c.role == "record"),
    _answered("provider_statements", lambda c: not c.is_feed),
]
