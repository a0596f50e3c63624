"""Closed months of a tenant, and the decisions whether a later change of one is taken in (a restatement).

Who may close or approve is decided by the caller. A decision moves the held changes in the same transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Literal, get_args
from uuid import UUID

import sqlalchemy as sa

from offgridflow_pipeline.database.statements import RecordError, one_at_a_time, write

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database, TenantScope

Status = Literal["proposed", "approved", "rejected", "applied"]
UNFINISHED: tuple[Status, ...] = ("proposed", "approved")
EVERY_STATUS: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True, slots=True)
class Closure:
    """A month (``YYYY-MM``) that was closed; open closures have no `reopened_at`."""

    month: str
    closed_at: datetime
    closed_by: str
    reopened_at: datetime | None
    reopened_by: str | None


@dataclass(frozen=True, slots=True)
class Restatement:
    """A later change of a closed month: days (inclusive) of one connection, and the decision about it."""

    restatement_id: UUID
    month: str
    connection_id: str
    first_day: date
    last_day: date
    reason: str
    detected_at: datetime
    status: Status
    decided_by: str | None
    decided_at: datetime | None
    run_id: str | None


_CLOSURE = ", ".join(Closure.__dataclass_fields__)
_RESTATEMENT = ", ".join(Restatement.__dataclass_fields__)


class PeriodClosures:
    """Closed months."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def close(self, tenant: str, month: str, *, by: str, today: date | None = None) -> None:
        """Close a month (``YYYY-MM``) that has ended.

        Raises:
            RecordError: the month has not ended, is closed already, or has the wrong form.
        """
        if month >= f"{today or datetime.now(UTC).date():%Y-%m}":
            raise RecordError(f"{month} of {tenant} has not ended: close it when it has.")
        with self._database.tenant(tenant) as scope:
            one_at_a_time(scope, "period_closures", month)
            if month in _closed(scope):
                raise RecordError(f"{month} of {tenant} is closed already.")
            write(
                scope,
                "period_closures",
                "insert into ogf.period_closures (tenant_id, month, closed_by) values (:tenant_id, :month, :by)",
                {"tenant_id": scope.tenant_id, "month": month, "by": by},
            )
            # Readers are told whether a figure is provisional: what they hold is out of date now.
            self._database.within(scope).publications.bump(tenant, "closure", {}, by)

    def reopen(self, tenant: str, month: str, *, by: str) -> None:
        """Reopen a closed month; what was proposed for it meanwhile counts as approved by the same person.

        Raises:
            RecordError: the month is not closed.
        """
        with self._database.tenant(tenant) as scope:
            one_at_a_time(scope, "period_closures", month)
            reopened = write(
                scope,
                "period_closures",
                "update ogf.period_closures set reopened_at = clock_timestamp(), reopened_by = :by"
                " where tenant_id = :tenant_id and month = :month and reopened_at is null",
                {"tenant_id": scope.tenant_id, "month": month, "by": by},
            )
            if not reopened.rowcount:
                raise RecordError(f"{month} of {tenant} is not closed.")
            proposed = scope.connection.scalars(
                sa.text(
                    "select restatement_id from ogf.restatements"
                    " where tenant_id = :tenant_id and month = :month and status = 'proposed' for update"
                ),
                {"tenant_id": scope.tenant_id, "month": month},
            ).all()
            for restatement_id in proposed:
                _decide(scope, restatement_id, "approved", by)
            self._database.within(scope).publications.bump(tenant, "closure", {}, by)

    def closed_months(self, tenant: str) -> frozenset[str]:
        """Months that are closed now."""
        with self._database.tenant(tenant) as scope:
            return _closed(scope)

    def list(self, tenant: str) -> list[Closure]:
        """Every closure of the tenant, reopened ones included, by month and time."""
        with self._database.tenant(tenant) as scope:
            rows = scope.connection.execute(
                sa.text(
                    f"select {_CLOSURE} from ogf.period_closures where tenant_id = :tenant_id order by month, closed_at"
                ),
                {"tenant_id": scope.tenant_id},
            ).all()
        return [Closure(*row) for row in rows]


class Restatements:
    """Later changes of closed months."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, tenant: str, statuses: Sequence[Status] = UNFINISHED) -> list[Restatement]:
        """Restatements with one of the statuses, oldest month first."""
        with self._database.tenant(tenant) as scope:
            rows = scope.connection.execute(
                sa.text(
                    f"select {_RESTATEMENT} from ogf.restatements where tenant_id = :tenant_id"
                    " and status = any(cast(:statuses as text[])) order by month, detected_at, restatement_id"
                ),
                {"tenant_id": scope.tenant_id, "statuses": list(statuses)},
            ).all()
        return [Restatement(*row) for row in rows]

    def find(self, tenant: str, restatement_id: UUID) -> Restatement | None:
        """The restatement; None when the tenant has none of that id."""
        with self._database.tenant(tenant) as scope:
            row = scope.connection.execute(
                sa.text(
                    f"select {_RESTATEMENT} from ogf.restatements"
                    " where tenant_id = :tenant_id and restatement_id = :restatement_id"
                ),
                {"tenant_id": scope.tenant_id, "restatement_id": restatement_id},
            ).one_or_none()
        return Restatement(*row) if row else None

    def approve(self, tenant: str, restatement_id: UUID, *, by: str) -> None:
        """Take the change in: its held changes become pending and run with the restatement's tag.

        Raises:
            RecordError: there is no such proposal, or it is decided already.
        """
        with self._database.tenant(tenant) as scope:
            _decide(scope, restatement_id, "approved", by)

    def reject(self, tenant: str, restatement_id: UUID, *, by: str) -> None:
        """Leave the month as it is; the same delivery is not proposed again, a newer one is.

        Raises:
            RecordError: there is no such proposal, or it is decided already.
        """
        with self._database.tenant(tenant) as scope:
            _decide(scope, restatement_id, "rejected", by)


def _closed(scope: TenantScope) -> frozenset[str]:
    return frozenset(
        scope.connection.scalars(
            sa.text("select month from ogf.period_closures where tenant_id = :tenant_id and reopened_at is null"),
            {"tenant_id": scope.tenant_id},
        )
    )


def _decide(scope: TenantScope, restatement_id: UUID, status: Literal["approved", "rejected"], by: str) -> None:
    key = {"tenant_id": scope.tenant_id, "restatement_id": restatement_id}
    decided = write(
        scope,
        "restatements",
        "update ogf.restatements set status = :status, decided_by = :by, decided_at = clock_timestamp()"
        " where tenant_id = :tenant_id and restatement_id = :restatement_id and status = 'proposed'",
        key | {"status": status, "by": by},
    )
    if not decided.rowcount:
        raise RecordError(
            f"No proposed restatement {restatement_id} of {scope.slug}: "
            f"`offgridflow restatement list {scope.slug} --all` shows every one and what was decided."
        )
    outcome = "status = 'pending'" if status == "approved" else "settled_at = clock_timestamp()"
    scope.connection.execute(
        sa.text(
            f"update ogf.source_changes set {outcome} where tenant_id = :tenant_id"
            " and restatement_id = :restatement_id and status = 'held' and settled_at is null"
        ),
        key,
    )
