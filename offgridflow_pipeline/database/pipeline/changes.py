"""Changes of sources: days that differ from what was committed, from their detection to the run that read them.

pending -> requested (a range run is asked for) -> done; held while the month is closed, failed after too many runs.
Which days differ is found in `connectors.changes`; states are advanced here, with the end of the change.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import sqlalchemy as sa

from offgridflow_pipeline.database.pipeline.feed_states import Documents, advance
from offgridflow_pipeline.database.statements import one_at_a_time, write

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database, TenantScope

Status = Literal["pending", "requested", "done", "held", "failed"]

#: Runs that one change gets; after them it waits for a newer delivery, or for the survey of a later day.
MAXIMUM_ATTEMPTS = 3
#: A failed change is taken up again when the survey still finds it after this time.
_REST_AFTER_FAILURE = "1 day"


@dataclass(frozen=True, slots=True)
class DetectedChange:
    """Days (inclusive, of one month) of a connection that differ; `version` identifies what was `observed`."""

    first_day: date
    last_day: date
    reason: str
    version: str
    observed: Documents


@dataclass(frozen=True, slots=True)
class SourceChange:
    """A recorded change."""

    change_id: UUID
    connection_id: str
    first_day: date
    last_day: date
    reason: str
    version: str
    observed: Mapping[str, Mapping[str, Any]]
    observed_at: datetime
    detected_at: datetime
    status: Status
    attempts: int
    run_key: str | None
    requested_at: datetime | None
    restatement_id: UUID | None
    run_id: str | None
    error: str
    settled_at: datetime | None


_CHANGE = ", ".join(SourceChange.__dataclass_fields__)

_SINCE = (
    "c.detected_at >= coalesce((select {} from ogf.cloud_connections where tenant_id = :tenant_id"
    " and connection_id = :connection_id), '-infinity')"
)
#: Change `c` was found since its connection was added: one of that id that was removed is another connection.
_SINCE_ADDED = _SINCE.format("created_at")
#: ... and since it was last resumed or replaced: what was found before then may have been read from elsewhere.
_SINCE_CHANGED = _SINCE.format("updated_at")

#: Gives each pending change the key of the run that will read it; changes left out stay pending.
RunKeys = Callable[[Sequence[SourceChange]], Mapping[UUID, str]]


class SourceChanges:
    """Changes of a tenant's sources."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(
        self, tenant: str, connection_id: str, detected: Sequence[DetectedChange], *, observed_at: datetime
    ) -> int:
        """Record what a survey found; returns how many changes are new.

        The same version of the same days is one change, however often it is found before a newer one: held,
        rejected and done included, unless the connection was changed meanwhile. A failed one without a newer one
        is taken up again after a day, found or not: a source does not show its old partitions every time. Changes
        of closed months are held at once, with a proposed restatement.

        Raises:
            RecordError: a value has the wrong form.
        """
        with self._database.tenant(tenant) as scope:
            one_at_a_time(scope, "source_changes", connection_id)
            new = sum(_insert(scope, connection_id, change, observed_at) for change in detected)
            new += _take_up_failed(scope, connection_id)
            _hold_closed(scope)
        return new

    def claim(self, tenant: str, run_keys: RunKeys) -> list[SourceChange]:
        """Mark pending changes as requested under the keys that `run_keys` gives them; returns those claimed.

        Two claims never take the same change. Changes of months closed meanwhile are held instead, those of paused
        connections stay pending: a run would not read them.
        """
        with self._database.tenant(tenant) as scope:
            _hold_closed(scope)
            pending = _select(
                scope,
                "status = 'pending' and not exists (select from ogf.cloud_connections c where c.tenant_id = :tenant_id"
                " and c.connection_id = source_changes.connection_id and c.status = 'paused')"
                " order by first_day, detected_at, change_id for update skip locked",
            )
            keys = run_keys(pending) if pending else {}
            for change_id, run_key in keys.items():
                scope.connection.execute(
                    sa.text(
                        "update ogf.source_changes set status = 'requested', run_key = :run_key,"
                        " attempts = attempts + 1, requested_at = clock_timestamp()"
                        " where tenant_id = :tenant_id and change_id = :change_id"
                    ),
                    {"tenant_id": scope.tenant_id, "change_id": change_id, "run_key": run_key},
                )
            return _select(
                scope,
                "status = 'requested' and change_id = any(cast(:ids as uuid[])) order by first_day, change_id",
                ids=list(keys),
            )

    def list(self, tenant: str, statuses: Sequence[Status] = ("pending", "requested")) -> list[SourceChange]:
        """Changes with one of the statuses, in the order of their days."""
        with self._database.tenant(tenant) as scope:
            return _select(
                scope,
                "status = any(cast(:statuses as text[])) order by first_day, detected_at, change_id",
                statuses=list(statuses),
            )

    def done(self, tenant: str, run_key: str, *, run_id: str) -> None:
        """The run committed the days: settle its changes, advance the states, mark its restatements applied.

        A unit advances when no other open or failed change holds the same version of it, so that a period cut into
        several runs is not taken as read after the first of them. Changes of a connection that was paused, resumed
        or replaced since the request are pending again: the run may not have read it.
        """
        with self._database.tenant(tenant) as scope:
            scope.connection.execute(
                sa.text(
                    "update ogf.source_changes s set status = 'pending', error = :error from ogf.cloud_connections c"
                    " where s.tenant_id = :tenant_id and s.status = 'requested' and s.run_key = :run_key"
                    " and c.tenant_id = :tenant_id and c.connection_id = s.connection_id"
                    " and c.updated_at > s.requested_at"
                ),
                {
                    "tenant_id": scope.tenant_id,
                    "run_key": run_key,
                    "error": f"The connection was changed while run {run_id} was under way.",
                },
            )
            settled = _select(scope, "status = 'requested' and run_key = :run_key for update", run_key=run_key)
            scope.connection.execute(
                sa.text(
                    "update ogf.source_changes set status = 'done', run_id = :run_id, error = '',"
                    " settled_at = clock_timestamp()"
                    " where tenant_id = :tenant_id and status = 'requested' and run_key = :run_key"
                ),
                {"tenant_id": scope.tenant_id, "run_key": run_key, "run_id": run_id},
            )
            for change in settled:
                _advance_finished(scope, change, run_id)
            _apply_restatements(scope, {c.restatement_id for c in settled if c.restatement_id}, run_id)

    def failed(self, tenant: str, run_key: str, *, error: str, attempted: bool = True) -> None:
        """The run did not commit the days: its changes are pending again, or failed after `MAXIMUM_ATTEMPTS`.

        `attempted=False` says that the run was never launched, which counts as no attempt.
        """
        with self._database.tenant(tenant) as scope:
            scope.connection.execute(
                sa.text(
                    "update ogf.source_changes set error = :error,"
                    " attempts = case when :attempted then attempts else attempts - 1 end,"
                    " status = case when :attempted and attempts >= :maximum then 'failed' else 'pending' end,"
                    " settled_at = case when :attempted and attempts >= :maximum then clock_timestamp() end"
                    " where tenant_id = :tenant_id and status = 'requested' and run_key = :run_key"
                ),
                {
                    "tenant_id": scope.tenant_id,
                    "run_key": run_key,
                    "error": error,
                    "attempted": attempted,
                    "maximum": MAXIMUM_ATTEMPTS,
                },
            )


def _insert(scope: TenantScope, connection_id: str, change: DetectedChange, observed_at: datetime) -> int:
    """1 when the change is new, 0 when it is known."""
    values = {
        "tenant_id": scope.tenant_id,
        "connection_id": connection_id,
        "first_day": change.first_day,
        "last_day": change.last_day,
        "version": change.version,
    }
    newest = scope.connection.execute(
        sa.text(
            "select version from ogf.source_changes c where tenant_id = :tenant_id"
            " and connection_id = :connection_id and first_day = :first_day and last_day = :last_day"
            f" and (settled_at is null or {_SINCE_CHANGED}) order by detected_at desc limit 1"
        ),
        values,
    ).scalar_one_or_none()
    if newest == change.version:
        return 0
    return write(
        scope,
        "source_changes",
        "insert into ogf.source_changes (tenant_id, connection_id, first_day, last_day, reason, version,"
        " observed, observed_at) values (:tenant_id, :connection_id, :first_day, :last_day, :reason, :version,"
        " cast(:observed as jsonb), :observed_at)",
        values
        | {
            "reason": change.reason,
            "observed": json.dumps(change.observed, sort_keys=True),
            "observed_at": observed_at,
        },
    ).rowcount


def _take_up_failed(scope: TenantScope, connection_id: str) -> int:
    """How many failed changes have rested, have no newer one on their days, and are pending again."""
    return scope.connection.execute(
        sa.text(
            "update ogf.source_changes c set status = 'pending', attempts = 0, settled_at = null"
            " where tenant_id = :tenant_id and connection_id = :connection_id and status = 'failed'"
            f" and settled_at < clock_timestamp() - interval '{_REST_AFTER_FAILURE}' and {_SINCE_ADDED}"
            " and not exists (select from ogf.source_changes newer where newer.tenant_id = :tenant_id"
            " and newer.connection_id = :connection_id and newer.detected_at > c.detected_at"
            " and newer.first_day <= c.last_day and newer.last_day >= c.first_day)"
        ),
        {"tenant_id": scope.tenant_id, "connection_id": connection_id},
    ).rowcount


def _select(scope: TenantScope, condition: str, **values: Any) -> list[SourceChange]:
    rows = scope.connection.execute(
        sa.text(f"select {_CHANGE} from ogf.source_changes where tenant_id = :tenant_id and {condition}"),
        {"tenant_id": scope.tenant_id, **values},
    ).all()
    return [SourceChange(*row) for row in rows]


def _hold_closed(scope: TenantScope) -> None:
    """Hold pending changes of closed months; one open proposal per month and connection covers them all."""
    pending = _select(
        scope,
        "status = 'pending' and to_char(first_day, 'YYYY-MM') in (select month from ogf.period_closures"
        " where tenant_id = :tenant_id and reopened_at is null) and not exists (select from ogf.restatements r"
        " where r.tenant_id = :tenant_id and r.restatement_id = source_changes.restatement_id"
        " and r.status = 'approved') for update",
    )
    for change in pending:
        proposal = write(
            scope,
            "restatements",
            "insert into ogf.restatements as r (tenant_id, month, connection_id, first_day, last_day, reason)"
            " values (:tenant_id, :month, :connection_id, :first_day, :last_day, :reason)"
            " on conflict (tenant_id, month, connection_id) where status = 'proposed' do update set"
            " first_day = least(r.first_day, excluded.first_day), last_day = greatest(r.last_day, excluded.last_day),"
            " reason = excluded.reason, detected_at = excluded.detected_at where r.tenant_id = :tenant_id"
            " returning restatement_id",
            {
                "tenant_id": scope.tenant_id,
                "month": f"{change.first_day:%Y-%m}",
                "connection_id": change.connection_id,
                "first_day": change.first_day,
                "last_day": change.last_day,
                "reason": change.reason,
            },
        ).scalar_one()
        scope.connection.execute(
            sa.text(
                "update ogf.source_changes set status = 'held', restatement_id = :restatement_id"
                " where tenant_id = :tenant_id and change_id = :change_id"
            ),
            {"tenant_id": scope.tenant_id, "change_id": change.change_id, "restatement_id": proposal},
        )


def _advance_finished(scope: TenantScope, change: SourceChange, run_id: str) -> None:
    """Advance the units of the change that no other open change still has to read in the same version."""
    open_units = scope.connection.execute(
        sa.text(
            "select unit.key, unit.value from ogf.source_changes c, jsonb_each(c.observed) unit"
            " where c.tenant_id = :tenant_id and c.connection_id = :connection_id and c.change_id <> :change_id"
            f" and (c.settled_at is null or c.status = 'failed') and {_SINCE_ADDED}"
        ),
        {"tenant_id": scope.tenant_id, "connection_id": change.connection_id, "change_id": change.change_id},
    ).all()
    unfinished = {unit for unit, document in open_units if change.observed.get(unit) == document}
    finished = {unit: document for unit, document in change.observed.items() if unit not in unfinished}
    advance(scope, change.connection_id, finished, observed_at=change.observed_at, run_id=run_id)


def _apply_restatements(scope: TenantScope, restatements: set[UUID], run_id: str) -> None:
    scope.connection.execute(
        sa.text(
            "update ogf.restatements r set status = 'applied', run_id = :run_id where r.tenant_id = :tenant_id"
            " and r.restatement_id = any(cast(:ids as uuid[])) and r.status = 'approved' and not exists"
            " (select from ogf.source_changes c where c.tenant_id = :tenant_id"
            " and c.restatement_id = r.restatement_id and c.settled_at is null)"
        ),
        {"tenant_id": scope.tenant_id, "ids": sorted(restatements), "run_id": run_id},
    )
