"""One connection asked for what is new: a listing, or the marks of its partitions, against the committed state.

Reads no bill, with one exception: a changed file of a drop without manifest does not say which days it bills, so it
is fetched and its dates are read. What counts as a change is decided in `detection`.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from offgridflow_pipeline.connectors.changes.detection import (
    Detection,
    Fingerprint,
    changed_units,
    detect,
    fingerprints,
    partition_fingerprints,
    ranges,
)
from offgridflow_pipeline.connectors.errors import BillingObjectError, DeliveryError
from offgridflow_pipeline.connectors.feeds import EXTRACT_TABLES, FEEDS
from offgridflow_pipeline.connectors.reading.extracts import LocalObject, ReadLimits, extract, reading_errors
from offgridflow_pipeline.lake import schemas

if TYPE_CHECKING:
    from offgridflow_pipeline.connectors.connections import Connection
    from offgridflow_pipeline.connectors.deliveries.listing import Delivery
    from offgridflow_pipeline.connectors.sources import Source
    from offgridflow_pipeline.connectors.stores import StoredObject
    from offgridflow_pipeline.lake.engine import Engine

#: Ingestion partitions that are looked at: on ordinary days, and on Sundays (billing-feeds.md 8).
PARTITIONS_DAILY = 10
PARTITIONS_WEEKLY = 45
_SUNDAY = 6


@runtime_checkable
class PartitionedSource(Protocol):
    """A source that tells the state of its ingestion partitions, as `bigquery.BigQuerySource` does."""

    def partition_marks(self, days_back: int, today: date | None = None) -> dict[date, tuple[str, int]]:
        """Newest export time and row count per partition of the last days."""
        ...

    def usage_days_of(self, partitions: Iterable[date]) -> set[date]:
        """Usage dates that rows of these partitions belong to."""
        ...


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What is new at a connection, and why some of it cannot be read now; such units stay as they are committed."""

    detection: Detection
    refused: tuple[str, ...]


def survey_changes(
    engine: Engine,
    source: Source,
    connection: Connection,
    committed: Mapping[str, Mapping[str, Any]],
    *,
    first: date,
    today: date,
    limits: ReadLimits | None = None,
) -> Surveyed:
    """Changes of the connection since the state `committed`, on the days from `first` to `today`.

    Raises:
        DeliveryError: the source cannot be listed, refuses, or holds no bill at all.
    """
    old = {unit: Fingerprint.of_document(document) for unit, document in committed.items()}
    if isinstance(source, PartitionedSource):
        new = partition_fingerprints(source.partition_marks(_days_back(old, first, today), today))
        moved = source.usage_days_of(date.fromisoformat(unit) for unit in changed_units(old, new))
        return Surveyed(detect(old, new, first=first, last=today, moved=moved), ())
    every_day = [first + timedelta(days=n) for n in range((today - first).days + 1)]
    deliveries, unusable = source.survey(every_day)
    new, refused = _with_days_of_files(engine, source, connection, deliveries, old, limits)
    return Surveyed(detect(old, new, first=first, last=today), (*(refusal.reason for refusal in unusable), *refused))


def _days_back(old: Mapping[str, Fingerprint], first: date, today: date) -> int:
    """Without a state the whole history is new; late rows of older partitions are looked for once a week.

    Counted from the newest partition that is known: nobody may have looked for months.
    """
    if not old:
        return (today - first).days
    unseen = (today - date.fromisoformat(max(old))).days
    return max(unseen, 0) + (PARTITIONS_WEEKLY if today.weekday() == _SUNDAY else PARTITIONS_DAILY)


def _with_days_of_files(
    engine: Engine,
    source: Source,
    connection: Connection,
    deliveries: list[Delivery],
    old: Mapping[str, Fingerprint],
    limits: ReadLimits | None,
) -> tuple[dict[str, Fingerprint], list[str]]:
    """Fingerprints of the deliveries, each changed file with the days it bills; and the files refused.

    A refused file keeps its committed fingerprint, so that it is looked at again and nothing is read meanwhile.
    """
    new = fingerprints(deliveries)
    items = {item.uri: item for delivery in deliveries for item in delivery.objects}
    refused: list[str] = []
    for unit in [unit for unit in changed_units(old, new) if unit in new and new[unit].days is None]:
        try:
            days = _usage_days(engine, source, connection, items[unit], limits)
        except (BillingObjectError, DeliveryError) as error:
            refused.append(str(error))
            del new[unit]
            if unit in old:
                new[unit] = old[unit]
            continue
        new[unit] = replace(new[unit], days=tuple(ranges(days)))
    return new, refused


def _usage_days(
    engine: Engine, source: Source, connection: Connection, item: StoredObject, limits: ReadLimits | None
) -> set[date]:
    table = schemas.table(EXTRACT_TABLES[FEEDS[connection.kind].dialect])
    with tempfile.TemporaryDirectory(prefix="ogf-survey-") as folder:
        path = Path(folder) / "object"
        source.fetch(item, path)
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        objects = [LocalObject(path, item.uri, sha256)]
        rows = extract(
            engine,
            objects,
            table,
            tenant="",
            connection_id=connection.id,
            feed=connection.kind,
            limits=limits,
        )
        with reading_errors(objects):
            found = engine.to_arrow(rows.select("usage_date").distinct())
    return set(found["usage_date"].to_pylist())
