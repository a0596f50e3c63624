"""What is new at a source: fingerprints of its units, and the exact days to read again where they differ.

Pure: listing and reading are in `survey`, what becomes of a change in `database.changes`. A unit is what a
source restates as a whole: a billing period of a manifest feed, one file of a drop, one ingestion partition of a
BigQuery export (billing-feeds.md 8). Fingerprints hold what was observed at the source, never the time of day.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offgridflow_pipeline.connectors.deliveries.listing import Delivery

DAYS_PER_RANGE = 31
_DAY = timedelta(days=1)
_BIGQUERY = "bigquery://"


@dataclass(frozen=True, slots=True, order=True)
class DayRange:
    """Consecutive days, both ends included."""

    first: date
    last: date

    @property
    def days(self) -> tuple[date, ...]:
        """Every day, in order."""
        return tuple(self.first + n * _DAY for n in range((self.last - self.first).days + 1))


class Reason(StrEnum):
    """Why days are read again, the strongest first."""

    REPLACED = "objects_replaced"
    NEW_VERSION = "new_version"
    MOVED = "partition_moved"
    REMOVED = "file_removed"
    FIRST = "first_delivery"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """State of one unit: its version, the ETag of every object, and the days it bills.

    `days` is None where the source tells them only when asked: of ingestion partitions always, of a plain file
    until it was read.
    """

    version: str
    objects: Mapping[str, str]
    days: tuple[DayRange, ...] | None = None

    def same_as(self, other: Fingerprint) -> bool:
        """Whether both name the same version and the same objects."""
        return self.version == other.version and dict(self.objects) == dict(other.objects)

    def document(self) -> dict[str, Any]:
        """As JSON document."""
        days = None if self.days is None else [[str(r.first), str(r.last)] for r in self.days]
        return {"version": self.version, "objects": dict(sorted(self.objects.items())), "days": days}

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Fingerprint:
        """The fingerprint that `document` wrote."""
        days = document["days"]
        ranges = None if days is None else tuple(DayRange(*map(date.fromisoformat, pair)) for pair in days)
        return cls(document["version"], document["objects"], ranges)


Fingerprints = Mapping[str, Fingerprint]


@dataclass(frozen=True, slots=True)
class Change:
    """Days of one month to read again, why, and the units to advance afterwards.

    `version` is a SHA-256 over `observed`: equal for the same state of the source, whenever it is looked at.
    """

    days: DayRange
    reason: Reason
    version: str
    observed: Fingerprints


@dataclass(frozen=True, slots=True)
class Detection:
    """Changes in the order of their days, and changed units without a day to read: they advance at once."""

    changes: tuple[Change, ...]
    settled: Fingerprints


def fingerprints(deliveries: Iterable[Delivery]) -> dict[str, Fingerprint]:
    """Fingerprint per billing period (``first day/day after``), and per URI for files without a manifest.

    Deliveries of several accounts or scopes for one period are one unit. Those of BigQuery are left out: they are
    days that were asked for; its units are partitions, see `partition_fingerprints`.
    """
    found: dict[str, Fingerprint] = {}
    by_period: dict[tuple[date, date], list[Delivery]] = {}
    for delivery in deliveries:
        if any(item.uri.startswith(_BIGQUERY) for item in delivery.objects):
            continue
        if delivery.period_start is None or delivery.period_end is None:
            found |= {item.uri: Fingerprint("", {item.uri: item.etag}) for item in delivery.objects}
        else:
            by_period.setdefault((delivery.period_start, delivery.period_end), []).append(delivery)
    for (start, end), parts in sorted(by_period.items()):
        version = " + ".join(sorted(part.version for part in parts))
        objects = {item.uri: item.etag for part in parts for item in part.objects}
        found[f"{start}/{end}"] = Fingerprint(version, objects, (DayRange(start, end - _DAY),))
    return found


def partition_fingerprints(marks: Mapping[date, tuple[str, int]]) -> dict[str, Fingerprint]:
    """Fingerprint per ingestion partition from its newest export time and row count."""
    return {str(part): Fingerprint(f"{newest}|{count}", {}) for part, (newest, count) in sorted(marks.items())}


def changed_units(old: Fingerprints, new: Fingerprints) -> list[str]:
    """Units that are new or differ, sorted; with files that were there before.

    A billing period or partition that is gone is no change: exports and partitions expire, and an expired one is
    not a bill of zero.
    """
    differing = {unit for unit, seen in new.items() if unit not in old or not seen.same_as(old[unit])}
    return sorted(differing | {unit for unit in old.keys() - new.keys() if _is_file(unit, old[unit])})


def detect(old: Fingerprints, new: Fingerprints, *, first: date, last: date, moved: Collection[date] = ()) -> Detection:
    """Changes between the committed state and the observed one, within the days `first` to `last`.

    `moved` are the usage days of the changed partitions. Files that are changed must have been given their days.
    """
    touched: dict[str, set[date]] = {}
    seen: dict[str, Fingerprint] = {}
    for unit in changed_units(old, new):
        now = new.get(unit)
        if now is None:
            now = Fingerprint("", {}, old[unit].days)
            days = _days(now) & _billed_by_files(old, new)
        elif now.days is None:
            days = set(moved)
        else:
            days = _days(now) | (_days(old[unit]) if unit in old else set())
        seen[unit] = now
        touched[unit] = {day for day in days if first <= day <= last}
    changes = [_change(days, old, seen, touched) for days in ranges({d for days in touched.values() for d in days})]
    return Detection(tuple(changes), {unit: seen[unit] for unit, days in touched.items() if not days})


def covered_units(seen: Fingerprints, committed: Collection[date], *, today: date) -> dict[str, Fingerprint]:
    """Units whose days up to today are all among the committed ones: their state may advance.

    A run over a part of a period leaves the period's state, else the change of its other days would be lost. Units
    that do not tell their days are never covered; they advance when their change is done.
    """
    known = set(committed)
    return {
        unit: fingerprint
        for unit, fingerprint in seen.items()
        if fingerprint.days is not None and {day for day in _days(fingerprint) if day <= today} <= known
    }


def ranges(days: Iterable[date], longest: int = DAYS_PER_RANGE) -> list[DayRange]:
    """The days as ranges: neighbours together, cut at the end of a month and after `longest` days."""
    found: list[DayRange] = []
    for day in sorted(set(days)):
        before = found[-1] if found else None
        joins = before is not None and day == before.last + _DAY and day.day > 1
        if before is not None and joins and (day - before.first).days < longest:
            found[-1] = replace(before, last=day)
        else:
            found.append(DayRange(day, day))
    return found


def _change(days: DayRange, old: Fingerprints, seen: Fingerprints, touched: Mapping[str, set[date]]) -> Change:
    wanted = set(days.days)
    observed = {unit: seen[unit] for unit in sorted(touched) if touched[unit] & wanted}
    reasons = {_reason(old.get(unit), now) for unit, now in observed.items()}
    strongest = next(reason for reason in Reason if reason in reasons)
    return Change(days, strongest, _version(observed), observed)


def _reason(before: Fingerprint | None, now: Fingerprint) -> Reason:
    if now.days is None:
        return Reason.MOVED
    if not now.objects and not now.version:
        return Reason.REMOVED
    if before is None:
        return Reason.FIRST
    return Reason.REPLACED if before.version == now.version else Reason.NEW_VERSION


def _version(observed: Fingerprints) -> str:
    states = [[unit, seen.version, sorted(seen.objects.items())] for unit, seen in sorted(observed.items())]
    return hashlib.sha256(json.dumps(states).encode()).hexdigest()


def _is_file(unit: str, fingerprint: Fingerprint) -> bool:
    return unit in fingerprint.objects


def _billed_by_files(old: Fingerprints, new: Fingerprints) -> set[date]:
    """Days that files still there bill; only on these does a removed file leave something to read."""
    present = (old[unit] if seen.days is None and unit in old else seen for unit, seen in new.items())
    return {day for seen in present for day in _days(seen)}


def _days(fingerprint: Fingerprint) -> set[date]:
    return {day for days in fingerprint.days or () for day in days.days}
