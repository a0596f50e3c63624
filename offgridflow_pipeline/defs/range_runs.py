"""Which range runs of the daily job are asked for: from changes of sources, and for the nightly window.

Pure planning: rows in, runs out. Launching is in `schedules` and `sensors.changes`. A run is one tenant and days of
one month, so that a closed month never stops the days of an open one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from offgridflow_pipeline.connectors.changes.detection import DayRange, ranges
from offgridflow_pipeline.defs.partitions import day_key
from offgridflow_pipeline.defs.run_coordinator import TENANT_TAG

if TYPE_CHECKING:
    from offgridflow_pipeline.database.pipeline.changes import SourceChange

TRIGGER_TAG = "offgridflow/trigger"
#: The run's changes: its run key, which retries of the run keep.
CHANGES_TAG = "offgridflow/changes"
#: The approved restatement that lets the run into its closed month.
RESTATEMENT_TAG = "offgridflow/restatement"

#: Days before today that are read again without a sign of change: every night, and on Sundays.
NIGHTLY_DAYS = 3
WEEKLY_DAYS = 35
_SUNDAY = 6


@dataclass(frozen=True, slots=True)
class RangeRun:
    """One run of the daily job: a tenant, its days, why, and the changes it will have read."""

    tenant: str
    days: DayRange
    trigger: str
    run_key: str
    change_ids: tuple[UUID, ...] = ()
    restatement_id: UUID | None = None

    @property
    def tags(self) -> dict[str, str]:
        """Run tags: the partition range of Dagster, and ours."""
        found = {
            "dagster/asset_partition_range_start": day_key(self.days.first, self.tenant),
            "dagster/asset_partition_range_end": day_key(self.days.last, self.tenant),
            TENANT_TAG: self.tenant,
            TRIGGER_TAG: self.trigger,
        }
        if self.change_ids:
            found[CHANGES_TAG] = self.run_key
        if self.restatement_id is not None:
            found[RESTATEMENT_TAG] = str(self.restatement_id)
        return found


def change_runs(tenant: str, changes: Sequence[SourceChange]) -> list[RangeRun]:
    """Runs that read every changed day once; changes of a restatement have runs of their own.

    The key is made of the changes and their attempts: Dagster launches a key once, and a new attempt needs a new one.
    """
    planned: list[RangeRun] = []
    for restatement in sorted({c.restatement_id for c in changes}, key=str):
        mine = [c for c in changes if c.restatement_id == restatement]
        for days in ranges({day for c in mine for day in DayRange(c.first_day, c.last_day).days}):
            inside = [c for c in mine if days.first <= c.first_day and c.last_day <= days.last]
            planned.append(
                RangeRun(
                    tenant,
                    days,
                    "late_data" if restatement is None else "restatement",
                    _run_key(inside),
                    tuple(sorted((c.change_id for c in inside), key=str)),
                    restatement,
                )
            )
    return planned


def window_runs(tenant: str, today: date, *, closed_months: Collection[str], history_start: date) -> list[RangeRun]:
    """Runs over the days before today that providers still restate without a sign, months that are closed left out."""
    length = WEEKLY_DAYS if today.weekday() == _SUNDAY else NIGHTLY_DAYS
    window = [today - timedelta(days=n) for n in range(1, length + 1)]
    due = [day for day in window if day >= history_start and f"{day:%Y-%m}" not in closed_months]
    return [RangeRun(tenant, days, "nightly", f"nightly|{today}|{tenant}|{days.first}") for days in ranges(due)]


def _run_key(changes: Sequence[SourceChange]) -> str:
    text = "\n".join(sorted(f"{c.change_id} {c.attempts}" for c in changes))
    return f"changes:{hashlib.sha256(text.encode()).hexdigest()[:32]}"
