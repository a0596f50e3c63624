"""Deliveries: which objects make up a billing period, newest version only.

Layouts: legacy CUR (period-level manifest, overwrite or create-new), AWS Data Exports (CUR 2.0, FOCUS), Azure
exports, and plain files without a manifest. What a manifest says is read in `manifests`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from offgridflow_pipeline.connectors.connections import Connection
from offgridflow_pipeline.connectors.errors import DeliveryError
from offgridflow_pipeline.connectors.location import list_objects
from offgridflow_pipeline.connectors.manifests import Manifest, Period, period_of_path, read_manifest
from offgridflow_pipeline.connectors.stores import StoredObject

DATA_SUFFIXES = (".csv", ".csv.gz", ".parquet")


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


def deliveries(connection: Connection, days: Sequence[date]) -> list[Delivery]:
    """The newest delivery of every billing period that the days touch; one listing of the source.

    Raises:
        DeliveryError: a manifest is unreadable, names a file that is not there, or nothing was delivered.
    """
    found, refused = survey(connection, days)
    if refused:
        raise DeliveryError(refused[0].reason)
    return found


def survey(connection: Connection, days: Sequence[date]) -> tuple[list[Delivery], list[Refused]]:
    """As `deliveries`, but a period that cannot be used does not hide the others.

    Raises:
        DeliveryError: the source cannot be listed or holds no bill at all.
    """
    listed = list_objects(connection.uri)
    manifests = [o for o in listed if o.uri.lower().endswith("manifest.json")]
    if not manifests:
        data = tuple(o for o in listed if o.uri.lower().endswith(DATA_SUFFIXES))
        if not data:
            raise DeliveryError(f"{connection.uri} holds no csv, csv.gz or parquet file and no manifest.")
        return [Delivery(connection.id, connection.kind, "", None, None, data)], []
    newest: dict[tuple[str, Period], Manifest] = {}
    refused: list[Refused] = []
    for item in manifests:
        try:
            manifest = read_manifest(item, connection.kind)
        except DeliveryError as error:
            refused.append(Refused(period_of_path(item.uri), str(error)))
            continue
        if manifest is not None:
            _keep_newest(newest, manifest, refused)
    found: list[Delivery] = []
    for manifest in newest.values():
        try:
            objects = tuple(_find(name, listed, manifest) for name in manifest.files)
        except DeliveryError as error:
            refused.append(Refused(manifest.period, str(error)))
            continue
        period = manifest.period
        found.append(Delivery(connection.id, connection.kind, manifest.version, period.start, period.end, objects))
    return [d for d in found if d.touches(days)], [r for r in refused if r.touches(days)]


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


def _touches(start: date | None, end: date | None, days: Iterable[date]) -> bool:
    return start is None or end is None or any(start <= day < end for day in days)


def _find(name: str, listed: Sequence[StoredObject], manifest: Manifest) -> StoredObject:
    key = re.sub(r"^s3://[^/]+/", "", name)
    matches = [o for o in listed if o.uri == name or o.uri.endswith("/" + key)]
    for parts in (3, 2):  # copied to another root: the folders above the file still identify it
        if not matches:
            tail = "/".join(key.split("/")[-parts:])
            matches = [o for o in listed if o.uri.endswith("/" + tail)]
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
