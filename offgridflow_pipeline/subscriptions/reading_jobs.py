"""Jobs that read bills for a subscription: the months of its history that are to be read, newest first."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import TYPE_CHECKING

from offgridflow_pipeline.job_requests import ConnectorSync
from offgridflow_pipeline.months import first_day, shifted

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.settings import Settings
    from offgridflow_pipeline.subscriptions.plans import Plan

#: What is read at once, the running month included; older months are asked for by hand.
MONTHS = 13
REQUESTED_BY = "system"


def ask_for_bills(
    bound: Database,
    settings: Settings,
    tenant: str,
    plan: Plan,
    today: date,
    *,
    since: date | None = None,
    traceparent: str | None = None,
) -> int:
    """Ask for the bills since that day (None: all of the history) up to yesterday; returns how many jobs were added.

    As far back as the plan and the start of history allow, not of closed months, and of no tenant without connections.
    """
    if not bound.connections.list(tenant, paused=False):
        return 0
    closed = bound.period_closures.closed_months(tenant)
    first = earliest_day(settings, plan, today)
    months = [
        (begin, end)
        for begin, end in month_ranges(max(first, since or first), today - timedelta(days=1))
        if f"{begin:%Y-%m}" not in closed
    ]
    for begin, end in months:
        bound.jobs.add(
            tenant,
            job_type="connector_sync",
            payload=ConnectorSync(first=begin, last=end).document(),
            requested_by=REQUESTED_BY,
            traceparent=traceparent,
        )
    return len(months)


def earliest_day(settings: Settings, plan: Plan, today: date) -> date:
    """The first day that is read by itself."""
    return max(plan.earliest_day(settings.history_start, today), first_day(shifted(f"{today:%Y-%m}", 1 - MONTHS)))


def month_ranges(first: date, last: date) -> Iterator[tuple[date, date]]:
    """First and last day of each month between the days, newest first; none when `first` is after `last`."""
    end = last
    while first <= end:
        begin = max(first, end.replace(day=1))
        yield begin, end
        end = begin - timedelta(days=1)
