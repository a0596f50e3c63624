"""Signals: heartbeats and run counts that Dagster's daemon writes, and the figures that telemetry exports.

Figures cross tenants, so they come from definer functions (`ogf.metric_*`, migrations 0012 and 0013) that return counts
and ages and name no tenant. One process of all that run exports them: the one that holds an advisory lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database

_EXPORTER_LOCK = 7_301_012
#: Functions of migrations 0012 and 0013 without parameters, and the columns they return.
FIGURES = {
    "runs": "queued, active, oldest_queued_age",
    "heartbeat": "age",
    "syncs": "connector, outcome, total",
    "freshness": "connector, age",
    "failed_checks": "check_name, severity, total",
    "publish_age": "age",
    "emissions": "provider, line_count, unmatched, coverage",
    "reports": "format, outcome, total",
    "outbox": "state, depth, oldest_age",
    "audit": "whole",
    "billing_failures": "total",
    "billing_inbox": "state, depth, oldest_age",
    "billing_tenants": "state, total",
}


@dataclass(frozen=True, slots=True)
class Durations:
    """Report durations of one outcome, seconds: how many took at most each bound, their number and their sum."""

    outcome: str
    within: list[int]
    total: int
    seconds: float


class Signals:
    """What the platform tells of itself; rows of no tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def beat(self, name: str) -> None:
        """Note that a daemon's sensor ticked."""
        with self._database.application_engine.begin() as connection:
            connection.execute(
                sa.text(
                    "insert into ogf.heartbeats (name) values (:name)"
                    " on conflict (name) do update set beat_at = clock_timestamp()"
                ),
                {"name": name},
            )

    def beat_run(self, run_id: str) -> None:
        """Note that the run's process lives."""
        with self._database.application_engine.begin() as connection:
            connection.execute(
                sa.text(
                    "insert into ogf.run_heartbeats (run_id) values (:run_id)"
                    " on conflict (run_id) do update set beat_at = clock_timestamp()"
                ),
                {"run_id": run_id},
            )

    def run_silences(self, run_ids: Sequence[str]) -> dict[str, float]:
        """Seconds since each run's last beat, by the database's clock; runs that never beat are left out."""
        with self._database.application_engine.begin() as connection:
            rows = connection.execute(
                sa.text(
                    "select run_id,"
                    " cast(extract(epoch from clock_timestamp() - beat_at) as double precision) as silence"
                    " from ogf.run_heartbeats where run_id = any(cast(:run_ids as text[]))"
                ),
                {"run_ids": list(run_ids)},
            ).all()
        return {row.run_id: row.silence for row in rows}

    def forget_run_beats(self) -> None:
        """Remove beats that are older than a day: their runs have ended."""
        with self._database.application_engine.begin() as connection:
            connection.execute(
                sa.text("delete from ogf.run_heartbeats where beat_at < clock_timestamp() - interval '1 day'")
            )

    def record_runs(self, state: str, runs: int, oldest_at: datetime | None) -> None:
        """Note how many runs of Dagster are in the state (queued, active), and when the oldest was created."""
        with self._database.application_engine.begin() as connection:
            connection.execute(
                sa.text(
                    "insert into ogf.run_states (state, runs, oldest_at) values (:state, :runs, :oldest_at)"
                    " on conflict (state) do update set runs = excluded.runs, oldest_at = excluded.oldest_at,"
                    " seen_at = clock_timestamp()"
                ),
                {"state": state, "runs": runs, "oldest_at": oldest_at},
            )

    def record_verification(self, *, chains: int, broken_chains: int) -> None:
        """Note the result of a verification of all audit chains."""
        with self._database.application_engine.begin() as connection:
            connection.execute(
                sa.text("insert into ogf.audit_verifications (chains, broken_chains) values (:chains, :broken)"),
                {"chains": chains, "broken": broken_chains},
            )

    def enter_gate(self, user_id: UUID, session_id: UUID, mode: str) -> bool:
        """Note that the session enters the Dagster UI; False when it did in this hour already. Old entries go."""
        with self._database.user(user_id) as scope:
            entered = scope.connection.execute(
                sa.text(
                    "insert into ogf.gate_entries (user_id, session_id, mode) values (:user_id, :session_id, :mode)"
                    " on conflict do nothing"
                ),
                {"user_id": user_id, "session_id": session_id, "mode": mode},
            ).rowcount
            if entered:
                scope.connection.execute(
                    sa.text(
                        "delete from ogf.gate_entries where user_id = :user_id"
                        " and entered_hour < clock_timestamp() - interval '1 day'"
                    ),
                    {"user_id": user_id},
                )
        return bool(entered)

    def exporter(self, statement_timeout_ms: int) -> ExporterSession:
        """A connection of its own for the exporter; the pool keeps all of its places."""
        return ExporterSession(self._database, statement_timeout_ms)


class ExporterSession:
    """Reads figures on one connection outside of the pool, while it holds the lock of the exporter.

    A session's advisory lock needs a session: not behind a pooler that changes servers between transactions.
    """

    def __init__(self, database: Database, statement_timeout_ms: int) -> None:
        """Connects.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database is out of reach.
        """
        pooled = database.application_engine.connect()
        try:
            self._connection = pooled.execution_options(isolation_level="AUTOCOMMIT")
            self._connection.detach()
            self._connection.execute(
                sa.text("select set_config('statement_timeout', :timeout, false)"),
                {"timeout": f"{statement_timeout_ms}ms"},
            )
        except BaseException:
            pooled.close()
            raise

    def leads(self) -> bool:
        """Whether this process is the one that exports; the lock ends with the connection."""
        mine: bool = self._connection.scalar(
            sa.text(
                "select exists (select from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
                " and objid = cast(:lock as oid)) or pg_try_advisory_lock(:lock)"
            ),
            {"lock": _EXPORTER_LOCK},
        )
        return mine

    def figure(self, name: str) -> Sequence[sa.Row[Any]]:
        """Rows of the figure, columns as in `FIGURES`."""
        return self._connection.execute(sa.text(f"select {FIGURES[name]} from ogf.metric_{name}()")).all()

    def report_durations(self, bounds: Sequence[float]) -> list[Durations]:
        """Report durations by outcome, counted within the bounds (seconds)."""
        rows = self._connection.execute(
            sa.text(
                "select outcome, within, total, seconds from"
                " ogf.metric_report_durations(cast(:bounds as double precision[]))"
            ),
            {"bounds": list(bounds)},
        )
        return [Durations(*row) for row in rows]

    def close(self) -> None:
        """Give the lock and the connection back: at once, so that another process leads without a gap."""
        try:
            self._connection.execute(sa.text("select pg_advisory_unlock_all()"))
        finally:
            self._connection.close()
