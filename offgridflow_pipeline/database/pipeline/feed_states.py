"""What was last read of every source and what the extract tables hold of it, per connection.

Both are written after the lake's commit, so they may lag behind it (the next read finds equal rows) and never lead
it. What differs from them is decided in `connectors`; what is done about it stands in `connectors.changes`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from offgridflow_pipeline.database.statements import RecordError, write

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database, TenantScope

#: Unit of a source (billing period, object, ingestion partition) -> JSON document of its fingerprint.
Documents = Mapping[str, Mapping[str, Any]]
#: Number of rows and sum of their hashes (64 hexadecimal digits) per connection and usage date.
Digests = Mapping[tuple[str, date], tuple[int, str]]

NO_ROWS = (0, "0" * 64)


class FeedStates:
    """State of each source as of the last committed read."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, tenant: str, connection_id: str) -> dict[str, dict[str, Any]]:
        """Fingerprint document per unit of the connection; empty before the first committed read."""
        with self._database.tenant(tenant) as scope:
            rows = scope.connection.execute(
                sa.text(
                    "select unit, fingerprint from ogf.feed_states"
                    " where tenant_id = :tenant_id and connection_id = :connection_id order by unit"
                ),
                {"tenant_id": scope.tenant_id, "connection_id": connection_id},
            ).all()
        return {unit: dict(document) for unit, document in rows}

    def advance(
        self, tenant: str, connection_id: str, observed: Documents, *, observed_at: datetime, run_id: str
    ) -> None:
        """Record the units whose days are all committed, as they were observed before they were read.

        `observed_at` is when the source was asked; it orders two observations and is no watermark.

        Raises:
            RecordError: a value has the wrong form.
        """
        with self._database.tenant(tenant) as scope:
            advance(scope, connection_id, observed, observed_at=observed_at, run_id=run_id)


def advance(scope: TenantScope, connection_id: str, observed: Documents, *, observed_at: datetime, run_id: str) -> None:
    """As `FeedStates.advance`, inside an open transaction."""
    if not observed:
        return
    units = sorted(observed)
    write(
        scope,
        "feed_states",
        "insert into ogf.feed_states as s (tenant_id, connection_id, unit, fingerprint, observed_at, run_id)"
        " select :tenant_id, :connection_id, seen.unit, cast(seen.fingerprint as jsonb), :observed_at, :run_id"
        " from unnest(cast(:units as text[]), cast(:fingerprints as text[])) as seen (unit, fingerprint)"
        " on conflict (tenant_id, connection_id, unit) do update set fingerprint = excluded.fingerprint,"
        " observed_at = excluded.observed_at, run_id = excluded.run_id, committed_at = clock_timestamp()"
        " where s.tenant_id = :tenant_id and s.observed_at <= excluded.observed_at",
        {
            "tenant_id": scope.tenant_id,
            "connection_id": connection_id,
            "units": units,
            "fingerprints": [json.dumps(observed[unit], sort_keys=True) for unit in units],
            "observed_at": observed_at,
            "run_id": run_id,
        },
    )


class DayDigests:
    """What the extract tables hold of every connection and day."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, tenant: str, dataset: str, days: Sequence[date]) -> dict[tuple[str, date], tuple[int, str]]:
        """Row count and digest per connection and day; connections that are gone included, unread days not."""
        with self._database.tenant(tenant) as scope:
            rows = scope.connection.execute(
                sa.text(
                    "select connection_id, usage_date, row_count, cost_digest from ogf.day_digests"
                    " where tenant_id = :tenant_id and dataset = :dataset"
                    " and usage_date = any(cast(:days as date[])) order by connection_id, usage_date"
                ),
                {"tenant_id": scope.tenant_id, "dataset": dataset, "days": list(days)},
            ).all()
        return {(row[0], row[1]): (row[2], row[3]) for row in rows}

    def record(
        self,
        tenant: str,
        dataset: str,
        *,
        days: Iterable[date],
        connections: Mapping[str, str],
        digests: Digests,
        run_id: str,
        kept: Iterable[str] = (),
    ) -> None:
        """Record what the days hold after the commit of the extract table `dataset`; one transaction.

        `connections` maps every connection that was read to the version of its delivery: a day without a digest
        was read and is empty. `kept` are connections that were not read and whose rows stayed. A connection not
        named at all has no rows left on these days.

        Raises:
            RecordError: a value has the wrong form, or a digest belongs to none of `connections`.
        """
        if strangers := sorted({connection for connection, _ in digests} - set(connections)):
            raise RecordError(f"day_digests, connection_id: {strangers[0]} was not read. Nothing was written.")
        wanted = sorted(set(days))
        written = {(c, d): digests.get((c, d), NO_ROWS) for c in sorted(connections) for d in wanted}
        with self._database.tenant(tenant) as scope:
            values = {"tenant_id": scope.tenant_id, "dataset": dataset, "days": wanted, "run_id": run_id}
            scope.connection.execute(
                sa.text(
                    "update ogf.day_digests set row_count = 0, cost_digest = :zero, run_id = :run_id,"
                    " committed_at = clock_timestamp() where tenant_id = :tenant_id and dataset = :dataset"
                    " and usage_date = any(cast(:days as date[])) and row_count > 0"
                    " and connection_id <> all(cast(:connections as text[]))"
                ),
                values | {"zero": NO_ROWS[1], "connections": sorted({*connections, *kept})},
            )
            write(
                scope,
                "day_digests",
                "insert into ogf.day_digests as d (tenant_id, dataset, connection_id, usage_date, row_count,"
                " cost_digest, source_version, run_id) select :tenant_id, :dataset, seen.*, :run_id from"
                " unnest(cast(:ids as text[]), cast(:dates as date[]), cast(:counts as bigint[]),"
                " cast(:hashes as text[]), cast(:versions as text[])) as seen"
                " on conflict (tenant_id, dataset, connection_id, usage_date) do update set"
                " row_count = excluded.row_count, cost_digest = excluded.cost_digest,"
                " source_version = excluded.source_version, run_id = excluded.run_id,"
                " committed_at = clock_timestamp() where d.tenant_id = :tenant_id"
                " and (d.row_count, d.cost_digest) is distinct from (excluded.row_count, excluded.cost_digest)",
                values
                | {
                    "ids": [connection for connection, _ in written],
                    "dates": [day for _, day in written],
                    "counts": [count for count, _ in written.values()],
                    "hashes": [digest for _, digest in written.values()],
                    "versions": [connections[connection] for connection, _ in written],
                },
            )
