"""The completeness calendar: days never read are told apart from days that were read and bill nothing."""

from __future__ import annotations

from datetime import date

from offgridflow_pipeline.connectors.changes.completeness import MissingDays, missing_days
from offgridflow_pipeline.connectors.changes.detection import DayRange
from offgridflow_pipeline.connectors.changes.digests import EMPTY_DAY, DayDigest

FIRST, LAST = date(2026, 10, 1), date(2026, 10, 4)
ROWS = DayDigest(3, "a" * 64)


def _day(number: int) -> date:
    return date(2026, 10, number)


def test_a_connection_with_rows_on_every_day_misses_none() -> None:
    assert missing_days({("aws", _day(n)): ROWS for n in range(1, 5)}, ["aws"], FIRST, LAST) == {}


def test_days_never_read_and_days_without_rows_are_told_apart() -> None:
    digests = {("aws", _day(1)): ROWS, ("aws", _day(4)): EMPTY_DAY, ("other", _day(2)): ROWS}
    assert missing_days(digests, ["aws"], FIRST, LAST) == {
        "aws": MissingDays(unread=(DayRange(_day(2), _day(3)),), empty=(DayRange(_day(4), _day(4)),))
    }


def test_a_connection_that_was_never_read_misses_the_whole_range() -> None:
    (gaps,) = missing_days({}, ["aws"], date(2026, 10, 30), date(2026, 11, 2)).values()
    assert gaps.unread == (
        DayRange(date(2026, 10, 30), date(2026, 10, 31)), DayRange(date(2026, 11, 1), date(2026, 11, 2)),
    )  # fmt: skip
