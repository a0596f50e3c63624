"""The completeness calendar: days of a connection that were never read, and days that were read and bill nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from offgridflow_pipeline.connectors.changes.detection import DayRange, ranges


@dataclass(frozen=True, slots=True)
class MissingDays:
    """Days without rows of one connection: never committed, or committed as empty. Ranges end with the month."""

    unread: tuple[DayRange, ...]
    empty: tuple[DayRange, ...]


def missing_days(
    digests: Mapping[tuple[str, date], tuple[int, str]], connections: Iterable[str], first: date, last: date
) -> dict[str, MissingDays]:
    """Days from `first` to `last` without rows, per connection that has any.

    `digests` are row count and digest per connection and day, as `database.day_digests.read` gives them. A day
    without rows is possible and rare: a bill in use has rows every day.
    """
    wanted = DayRange(first, last).days
    found: dict[str, MissingDays] = {}
    for connection in sorted(set(connections)):
        unread = [day for day in wanted if (connection, day) not in digests]
        empty = [day for day in wanted if (connection, day) in digests and not digests[connection, day][0]]
        if unread or empty:
            found[connection] = MissingDays(tuple(ranges(unread)), tuple(ranges(empty)))
    return found
