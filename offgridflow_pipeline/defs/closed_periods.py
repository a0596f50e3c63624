"""The guard of closed months: which days of a run may not be read into the lake, and what lets them in.

Closing and approving are in `database.closures`. An approval is for one connection: it lets in no other's rows. The
guard asks before anything is read or computed: a month that is closed while a run is under way may take the run's
rows into its extracts, not into its lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import TYPE_CHECKING
from uuid import UUID

import dagster as dg

from offgridflow_pipeline.defs.partitions import days_by_tenant
from offgridflow_pipeline.defs.range_runs import RESTATEMENT_TAG

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.database.pipeline.closures import Restatement


def refuse_closed(database: Database, tenant: str, days: Iterable[date], tags: Mapping[str, str]) -> dict[date, str]:
    """Days in closed months, each with the reason; days of the approved restatement that the run's tags name pass."""
    closed = database.period_closures.closed_months(tenant)
    locked = [day for day in days if f"{day:%Y-%m}" in closed]
    if not locked:
        return {}
    restatement = _named(database, tenant, tags.get(RESTATEMENT_TAG, ""))
    return {day: _reason(tenant, day, restatement) for day in locked if not _lets_in(restatement, day)}


def require_open(database: Database, keys: Iterable[str], tags: Mapping[str, str]) -> None:
    """Refuse to compute days of closed months again: rules, factors or code may be others by now.

    Raises:
        dagster.Failure: one of the partitions is closed, and no approved restatement lets it in.
    """
    reasons = {
        reason
        for tenant, days in days_by_tenant(keys).items()
        for reason in refuse_closed(database, tenant, days, tags).values()
    }
    if reasons:
        raise dg.Failure("Nothing was written:\n" + "\n".join(sorted(reasons)), allow_retries=False)


def restated_connection(database: Database, tenant: str, days: Iterable[date], tags: Mapping[str, str]) -> str | None:
    """The connection whose rows alone may change, where a restatement let one of the days into its closed month."""
    closed = database.period_closures.closed_months(tenant)
    if not any(f"{day:%Y-%m}" in closed for day in days):
        return None
    restatement = _named(database, tenant, tags.get(RESTATEMENT_TAG, ""))
    return restatement.connection_id if restatement else None


def _named(database: Database, tenant: str, tag: str) -> Restatement | None:
    try:
        identity = UUID(tag)
    except ValueError:
        return None
    return database.restatements.find(tenant, identity)


def _lets_in(restatement: Restatement | None, day: date) -> bool:
    return (
        restatement is not None
        and restatement.status == "approved"
        and restatement.first_day <= day <= restatement.last_day
    )


def _reason(tenant: str, day: date, restatement: Restatement | None) -> str:
    named = ""
    if restatement is not None:
        named = (
            f" Restatement {restatement.restatement_id} of {restatement.first_day} to {restatement.last_day} "
            f"is {restatement.status} and does not let it in."
        )
    return (
        f"{day:%Y-%m} of {tenant} is closed.{named} Approve a restatement "
        f"(`offgridflow restatement list {tenant}`) or reopen the month "
        f"(`offgridflow period reopen {tenant} {day:%Y-%m}`)."
    )
