"""Billing exports in BigQuery as a source: some usage days of a table, exactly as they were surveyed.

Surveying counts the rows of the days and notes the newest export time; fetching reads the rows up to that time
into a Parquet file of texts and refuses another count. So the file is a version of the days that can be named,
and rows that arrive meanwhile belong to the next one (billing-feeds.md sections 6.1 and 8). What a row means is
decided in `usage`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from offgridflow_pipeline.connectors.bigquery.client import MAXIMUM_BYTES_BILLED, BigQueryTable, Parameter, TableName
from offgridflow_pipeline.connectors.bigquery.columns import Column, columns_of, texts
from offgridflow_pipeline.connectors.deliveries.listing import Delivery, Refused
from offgridflow_pipeline.connectors.errors import DeliveryError
from offgridflow_pipeline.connectors.feeds import FEEDS, Dialect
from offgridflow_pipeline.connectors.stores import StoredObject

if TYPE_CHECKING:
    import pyarrow as pa

    from offgridflow_pipeline.connectors.access import GcpAccess
    from offgridflow_pipeline.connectors.connections import Connection

_LOG = logging.getLogger(__name__)
_DAY = timedelta(days=1)
_DAYS = re.compile(r"\?days=(.+)$")
_MICROSECONDS = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True, slots=True)
class _Layout:
    """Columns of an export that tell when it was used and exported, and the one that changes are marked by."""

    used: str
    exported: str
    period: str | None = None


_LAYOUTS: dict[Dialect, _Layout] = {
    "gcp": _Layout("usage_start_time", "export_time"),
    "focus": _Layout("ChargePeriodStart", "x_ExportTime", "BillingPeriodStart"),
}


class BigQuerySource:
    """The table of one connection. Errors of every method: see `bigquery.client.BigQueryTable`."""

    def __init__(
        self, connection: Connection, access: GcpAccess, *, maximum_bytes_billed: int = MAXIMUM_BYTES_BILLED
    ) -> None:
        feed = FEEDS[connection.kind]
        self._connection = connection
        self._dialect = feed.dialect
        self._layout = _LAYOUTS[feed.dialect]
        self._table = BigQueryTable(TableName.of_uri(connection.uri), access, maximum_bytes_billed=maximum_bytes_billed)

    def survey(self, days: Sequence[date]) -> tuple[list[Delivery], list[Refused]]:
        """One delivery of all the days: one virtual object whose ETag is newest export time and row count."""
        if not days:
            return [], []
        wanted = sorted(set(days))
        condition, parameters = self._of_days(wanted)
        [found] = self._table.rows(
            f"SELECT MAX({self._layout.exported}) AS newest, COUNT(*) AS n FROM {{table}} WHERE {condition}",
            parameters,
        )
        newest = found["newest"].astimezone(UTC).strftime(_MICROSECONDS) if found["newest"] else ""
        item = StoredObject(f"{self._table.name.uri}?days={_ranges(wanted)}", f"{newest}|{found['n']}", 0)
        delivery = Delivery(
            self._connection.id, self._connection.kind, item.etag, wanted[0], wanted[-1] + _DAY, (item,)
        )
        return [delivery], []

    def fetch(self, item: StoredObject, target: Path) -> None:
        """Write the surveyed rows as Parquet, every value the text that the export holds."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        days = _days_of(item)
        newest, _, count = item.etag.partition("|")
        schema = pa.schema([(column.name, pa.string()) for column in self._columns])
        written = 0
        with pq.ParquetWriter(target, schema, compression="zstd") as writer:
            for batch in self._rows(days, newest) if newest else ():
                writer.write_batch(pa.record_batch([texts(column) for column in batch.columns], schema=schema))
                written += batch.num_rows
        if written != int(count):
            raise DeliveryError(
                f"{item.uri} changed while it was read: {count} rows were surveyed and {written} found. Run it again."
            )

    def partition_marks(self, days_back: int, today: date | None = None) -> dict[date, tuple[str, int]]:
        """Newest export time and row count per partition of the last `days_back` days.

        Partitions are days of ingestion; of FOCUS exports they are billing periods, by their first day. A mark that
        differs from the stored one says that the partition moved.
        """
        since = (today or datetime.now(UTC).date()) - days_back * _DAY
        if self._layout.period:
            since = since.replace(day=1)
        found = self._table.rows(
            f"SELECT DATE({self._partition}) AS part, "
            f"FORMAT_TIMESTAMP('%FT%H:%M:%E6SZ', MAX({self._layout.exported})) AS newest, COUNT(*) AS n "
            f"FROM {{table}} WHERE {self._partition} >= @since GROUP BY part",
            {"since": _midnight(since)},
        )
        return {row["part"]: (row["newest"] or "", row["n"]) for row in found}

    def usage_days_of(self, partitions: Iterable[date]) -> set[date]:
        """UTC usage dates that rows of these partitions belong to: the days to read again when they moved."""
        moved = sorted(set(partitions))
        if not moved:
            return set()
        found = self._table.rows(
            f"SELECT DISTINCT DATE({self._layout.used}) AS day FROM {{table}} WHERE {self._partition} >= @first "
            f"AND {self._partition} < @end AND DATE({self._partition}) IN UNNEST(@moved)",
            {"first": _midnight(moved[0]), "end": _midnight(moved[-1] + _DAY), "moved": moved},
        )
        return {row["day"] for row in found if row["day"] is not None}

    @cached_property
    def _columns(self) -> list[Column]:
        columns, unknown = columns_of(self._table.description.schema, self._dialect)
        if unknown:
            _LOG.warning("%s has columns that are not read: %s.", self._table.name, ", ".join(unknown))
        return columns

    @cached_property
    def _by_ingestion(self) -> bool:
        """Whether the table is partitioned by the time of ingestion, as Google's own exports are (not a copy)."""
        partitioning = self._table.description.time_partitioning
        return partitioning is not None and partitioning.field is None

    @property
    def _partition(self) -> str:
        return self._layout.period or ("_PARTITIONTIME" if self._by_ingestion else self._layout.exported)

    def _rows(self, days: Sequence[date], newest: str) -> Iterable[pa.RecordBatch]:
        condition, parameters = self._of_days(days)
        selected = ", ".join(f"{column.path} AS `{column.name}`" for column in self._columns)
        exported = self._layout.exported
        return self._table.batches(
            f"SELECT {selected} FROM {{table}} WHERE {condition} AND ({exported} IS NULL OR {exported} <= @newest)",
            {**parameters, "newest": datetime.strptime(newest, _MICROSECONDS).replace(tzinfo=UTC)},
        )

    def _of_days(self, days: Sequence[date]) -> tuple[str, dict[str, Parameter]]:
        """SQL condition of the usage days, with bounds that let BigQuery skip partitions."""
        used = self._layout.used
        conditions = [f"{used} >= @first", f"{used} < @end"]
        parameters: dict[str, Parameter] = {"first": _midnight(days[0]), "end": _midnight(days[-1] + _DAY)}
        if (days[-1] - days[0]).days + 1 != len(days):
            conditions.append(f"DATE({used}) IN UNNEST(@days)")
            parameters["days"] = days
        if self._by_ingestion:
            # Usage is exported after it happened: nothing of the first day lies in a partition before it.
            conditions.append("_PARTITIONTIME >= @ingested")
            parameters["ingested"] = _midnight(days[0] - _DAY)
        return " AND ".join(conditions), parameters


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _ranges(days: Sequence[date]) -> str:
    """Sorted days as ``2026-10-01..2026-10-05,2026-10-09``."""
    runs: list[list[date]] = []
    for day in days:
        if runs and day == runs[-1][-1] + _DAY:
            runs[-1].append(day)
        else:
            runs.append([day])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs)


def _days_of(item: StoredObject) -> list[date]:
    found = _DAYS.search(item.uri)
    if found is None:
        raise DeliveryError(f"{item.uri} names no days: survey the table again.")
    days: list[date] = []
    for run in found[1].split(","):
        first, _, last = run.partition("..")
        start, end = date.fromisoformat(first), date.fromisoformat(last or first)
        days += [start + n * _DAY for n in range((end - start).days + 1)]
    return days
