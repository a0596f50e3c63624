"""What the folders of a listing tell before anything is read: manifests worth reading, runs without a manifest.

Folders only spare reading: period, version and files of a delivery come from its manifest. Only old Azure exports,
which have none, are taken by their folders (billing-feeds.md 4.1, 5.1, 8).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from offgridflow_pipeline.connectors.deliveries.manifests import Manifest, Period
from offgridflow_pipeline.connectors.stores import StoredObject
from offgridflow_pipeline.months import next_month

#: Manifests for other programs that AWS puts beside its own (CUR user guide: Redshift and QuickSight support).
_FOR_OTHERS = re.compile(r"(redshift|quicksight)manifest\.json$", re.IGNORECASE)
_RANGE_FOLDER = re.compile(r"/(\d{8})-(\d{8})/(.+)$")
_EXECUTION = re.compile(r"(.*)/metadata/BILLING_PERIOD=(\d{4}-\d{2})/([^/]+)/[^/]+$")
_MONTH_FOLDER = re.compile(r"/BILLING_PERIOD=(\d{4})-(\d{2})/")
_NEVER = datetime.min.replace(tzinfo=UTC)


def telling_manifests(manifests: Sequence[StoredObject], days: Sequence[date]) -> list[StoredObject]:
    """The manifests that may name files for the days: a few small reads however long the history is."""
    months = {day.replace(day=1) for day in days}
    kept: list[StoredObject] = []
    newest: dict[tuple[str, str], tuple[str, StoredObject]] = {}
    for item in manifests:
        if _FOR_OTHERS.search(item.uri) or _is_copy(item.uri) or not _may_bill(item.uri, months):
            continue
        if execution := _EXECUTION.fullmatch(item.uri):
            export, month, name = execution.groups()
            newest[export, month] = max(newest.get((export, month), (name, item)), (name, item), key=lambda one: one[0])
        else:
            kept.append(item)
    return kept + [item for _, item in newest.values()]


def runs_without_manifest(data: Iterable[StoredObject], manifests: Sequence[StoredObject]) -> list[Manifest]:
    """The newest run per export and period of old Azure exports, as if it had a manifest.

    Once an export writes manifests, files without one belong to a run still being written: they are left out.
    """
    first: dict[str, date] = {}
    for manifest in manifests:
        if named := _range_folder(manifest):
            first[named.export] = min(first.get(named.export, date.max), named.period.start)
    runs: dict[tuple[str, str, Period], _Run] = {}
    for item in data:
        folder = _range_folder(item)
        if folder is None or folder.period.start >= first.get(folder.export, date.max):
            continue
        run = runs.setdefault((folder.export, folder.run, folder.period), _Run(folder))
        run.items.append(item)
    newest: dict[tuple[str, Period], _Run] = {}
    for run in runs.values():
        key = (run.folder.export, run.folder.period)
        newest[key] = max(newest.get(key, run), run, key=lambda one: (one.written_at, one.folder.run))
    return [run.manifest() for run in newest.values()]


@dataclass(frozen=True, slots=True)
class _Folder:
    export: str
    period: Period
    run: str


@dataclass(frozen=True, slots=True)
class _Run:
    folder: _Folder
    items: list[StoredObject] = field(default_factory=list)

    @property
    def written_at(self) -> datetime:
        return max(item.modified_at or _NEVER for item in self.items)

    def manifest(self) -> Manifest:
        folder = self.folder
        files = tuple(item.uri for item in self.items)
        return Manifest(self.items[0], folder.export, "", folder.run, folder.period, files, {})


def _range_folder(item: StoredObject) -> _Folder | None:
    """Export, period and run that an Azure path names; a run is a folder, or one file in the period's folder."""
    found = _RANGE_FOLDER.search(item.uri)
    dates = _dates(found[1], found[2]) if found else None
    if found is None or dates is None:
        return None
    first, last = dates
    run = found[3].rpartition("/")[0] or found[3]
    return _Folder(item.uri[: found.start()], Period(first, last + timedelta(days=1)), run)


def _is_copy(uri: str) -> bool:
    """Whether it is the copy that legacy CUR keeps inside each assembly folder; Azure's has no name before it."""
    found = _RANGE_FOLDER.search(uri)
    return bool(found and "/" in found[3] and found[3].endswith("-Manifest.json"))


def _may_bill(uri: str, months: set[date]) -> bool:
    if found := _MONTH_FOLDER.search(uri):
        return date(int(found[1]), int(found[2]), 1) in months
    found = _RANGE_FOLDER.search(uri)
    dates = _dates(found[1], found[2]) if found else None
    return dates is None or any(month in months for month in _months(*dates))


def _months(first: date, last: date) -> Iterator[date]:
    month = first.replace(day=1)
    while month <= last:
        yield month
        month = next_month(month)


def _dates(first: str, last: str) -> tuple[date, date] | None:
    try:
        start, end = (datetime.strptime(text, "%Y%m%d").date() for text in (first, last))  # noqa: DTZ007  days
    except ValueError:
        return None
    return (start, end) if start <= end else None
