"""Deliveries: which objects make up a billing period, newest version only.

Layouts: legacy CUR (period-level manifest, overwrite or create-new), AWS Data Exports (CUR 2.0, FOCUS), Azure
exports with and without a manifest, and plain files. What a manifest says is read in `manifests`, which manifests
are worth reading is told by `layouts`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from offgridflow_pipeline.connectors.connections import Connection
from offgridflow_pipeline.connectors.deliveries.layouts import runs_without_manifest, telling_manifests
from offgridflow_pipeline.connectors.deliveries.manifests import Manifest, Period, period_of_path, read_manifest
from offgridflow_pipeline.connectors.errors import AccessDeniedError, DeliveryError, ExpiredCredentialsError
from offgridflow_pipeline.connectors.stores import Store, StoredObject

DATA_SUFFIXES = (".csv", ".csv.gz", ".parquet", ".ndjson", ".ndjson.gz", ".jsonl", ".jsonl.gz", ".json.gz")
#: Periods are asked for by day, and one of any provider contains the first day of its month.
EVERY_PERIOD = tuple(date(year, month, 1) for year in range(2006, 2101) for month in range(1, 13))


@dataclass(frozen=True, slots=True)
class Delivery:
    """One version of one billing period; `period_start` is None for plain files without a manifest.

    `period_end` is exclusive.
    """

    connection_id: str
    feed: str
    version: str
    period_start: date | None
    period_end: date | None
    objects: tuple[StoredObject, ...]

    def touches(self, days: Iterable[date]) -> bool:
        """Whether any of the days lies in the period (always, when the period is unknown)."""
        return _touches(self.period_start, self.period_end, days)


@dataclass(frozen=True, slots=True)
class Refused:
    """A billing period whose newest delivery cannot be used, and why; no period means all of them."""

    period: Period | None
    reason: str

    def touches(self, days: Iterable[date]) -> bool:
        """Whether any of the days lies in the period."""
        return _touches(self.period.start, self.period.end, days) if self.period else True


def deliveries(store: Store, connection: Connection, days: Sequence[date]) -> list[Delivery]:
    """The newest delivery of every billing period that the days touch; one listing of the source.

    Raises:
        DeliveryError: a manifest is unreadable, names a file that is not there, or nothing was delivered.
    """
    found, refused = survey(store, connection, days)
    if refused:
        raise DeliveryError(refused[0].reason)
    return found


def survey(store: Store, connection: Connection, days: Sequence[date]) -> tuple[list[Delivery], list[Refused]]:
    """As `deliveries`, but a period that cannot be used does not hide the others.

    Raises:
        DeliveryError: the source cannot be listed or read, or holds no bill of the connection's kind at all.
    """
    listed = store.list(connection.uri)
    data = tuple(item for item in listed if item.uri.lower().endswith(DATA_SUFFIXES))
    manifests = [item for item in listed if item.uri.lower().endswith("manifest.json")]
    newest: dict[tuple[str, Period], Manifest] = {}
    refused: list[Refused] = []
    others = _read_manifests(store, connection, telling_manifests(manifests, days), newest, refused)
    if connection.kind.startswith("azure_"):
        for run in runs_without_manifest(data, manifests):
            _keep_newest(newest, run, refused)
    if others and not newest and not refused:
        raise DeliveryError(
            f"{connection.uri} holds no manifest of the kind {connection.kind} ({others[0].uri} is of another): "
            "give the connection the folder of its own export."
        )
    if not manifests and not newest:
        if not data:
            raise DeliveryError(f"{connection.uri} holds no csv, csv.gz or parquet file and no manifest.")
        return [Delivery(connection.id, connection.kind, "", None, None, data)], []
    refused += _overlaps(newest.values())
    found: list[Delivery] = []
    by_name = _by_name(listed)
    for manifest in newest.values():
        try:
            objects = tuple(_find(name, by_name, manifest) for name in manifest.files)
        except DeliveryError as error:
            refused.append(Refused(manifest.period, str(error)))
            continue
        period = manifest.period
        found.append(Delivery(connection.id, connection.kind, manifest.version, period.start, period.end, objects))
    return [d for d in found if d.touches(days)], [r for r in refused if r.touches(days)]


def _read_manifests(
    store: Store,
    connection: Connection,
    items: Iterable[StoredObject],
    newest: dict[tuple[str, Period], Manifest],
    refused: list[Refused],
) -> list[StoredObject]:
    """Read manifests into `newest` and `refused`; those that name nothing for this connection are returned."""
    others: list[StoredObject] = []
    for item in items:
        try:
            manifest = read_manifest(store, item, connection.kind)
        except (AccessDeniedError, ExpiredCredentialsError):
            raise
        except DeliveryError as error:
            refused.append(Refused(period_of_path(item.uri), str(error)))
            continue
        if manifest is None:
            others.append(item)
        else:
            _keep_newest(newest, manifest, refused)
    return others


def _keep_newest(newest: dict[tuple[str, Period], Manifest], manifest: Manifest, refused: list[Refused]) -> None:
    key = (manifest.stream, manifest.period)
    other = newest.get(key)
    if other is not None and other.export != manifest.export:
        refused.append(
            Refused(
                manifest.period,
                f"{other.item.uri} and {manifest.item.uri} are two exports of the same bill: "
                "counting both would double it, give the connection the folder of one.",
            )
        )
    elif other is None or manifest.version >= other.version:
        newest[key] = manifest


def _overlaps(manifests: Iterable[Manifest]) -> Iterator[Refused]:
    """The days that two periods of one bill share: of Azure, a month and selected dates of it."""
    longest: Manifest | None = None
    for manifest in sorted(manifests, key=lambda m: (m.stream, m.period.start, m.period.end)):
        same = longest is not None and longest.stream == manifest.stream
        if longest is not None and same and manifest.period.start < longest.period.end:
            shared = Period(manifest.period.start, min(manifest.period.end, longest.period.end))
            yield Refused(
                shared,
                f"{longest.item.uri} and {manifest.item.uri} both bill the days from {shared.start} to "
                f"{shared.end} (exclusive): counting both would double them, take one of the two runs away.",
            )
        if longest is None or not same or manifest.period.end > longest.period.end:
            longest = manifest


def _touches(start: date | None, end: date | None, days: Iterable[date]) -> bool:
    return start is None or end is None or any(start <= day < end for day in days)


def _by_name(listed: Iterable[StoredObject]) -> Mapping[str, Sequence[StoredObject]]:
    found: defaultdict[str, list[StoredObject]] = defaultdict(list)
    for item in listed:
        found[item.uri.rpartition("/")[2]].append(item)
    return found


def _find(name: str, by_name: Mapping[str, Sequence[StoredObject]], manifest: Manifest) -> StoredObject:
    key = re.sub(r"^[a-z0-9]+://[^/]+/", "", name)
    candidates = by_name.get(key.rpartition("/")[2], ())
    matches = [o for o in candidates if o.uri == name or o.uri.endswith("/" + key)]
    for parts in (3, 2):  # copied to another root: the folders above the file still identify it
        if not matches:
            tail = "/".join(key.split("/")[-parts:])
            matches = [o for o in candidates if o.uri.endswith("/" + tail)]
    if len(matches) != 1:
        raise DeliveryError(
            f"{manifest.item.uri} names {name}, found {len(matches)} times: "
            "the delivery is incomplete, wait or deliver again."
        )
    stated = manifest.sizes.get(name, matches[0].size_bytes)
    if stated != matches[0].size_bytes:
        raise DeliveryError(
            f"{matches[0].uri} has {matches[0].size_bytes} bytes, its manifest says {stated}: deliver again."
        )
    return matches[0]
