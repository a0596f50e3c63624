"""What a connection is asked for and what comes of it: folders of files as they are, partitions by a stand-in."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from offgridflow_pipeline.connectors.access import GcpAccess, LocalAccess
from offgridflow_pipeline.connectors.changes.detection import DayRange, Reason
from offgridflow_pipeline.connectors.changes.survey import PartitionedSource, Surveyed, survey_changes
from offgridflow_pipeline.connectors.connections import Connection
from offgridflow_pipeline.connectors.errors import DeliveryError
from offgridflow_pipeline.connectors.sources import open_source
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline_tests.connectors.bills import cur_row, focus_row, write_bill, write_cur_delivery

FIRST, TODAY = date(2026, 8, 1), date(2026, 11, 20)
SUNDAY = date(2026, 11, 22)


class Watch:
    """A connection that is surveyed again and again; `commit` takes what was found as read."""

    def __init__(self, engine: Engine, uri: Path, kind: str) -> None:
        self.engine = engine
        self.connection = Connection(id="billing", kind=kind, uri=str(uri))
        self.state: dict[str, Any] = {}

    def survey(self, today: date = TODAY) -> Surveyed:
        source = open_source(self.connection, LocalAccess())
        return survey_changes(self.engine, source, self.connection, self.state, first=FIRST, today=today)

    def days(self) -> list[DayRange]:
        return [change.days for change in self.survey().detection.changes]

    def commit(self) -> None:
        detection = self.survey().detection
        seen = [change.observed for change in detection.changes] + [detection.settled]
        self.state |= {unit: f.document() for units in seen for unit, f in units.items()}


def _focus(day: date, cost: str = "1") -> dict[str, str]:
    end = day + timedelta(days=1)
    return focus_row(ChargePeriodStart=f"{day}T00:00:00Z", ChargePeriodEnd=f"{end}T00:00:00Z", BilledCost=cost)


def _one(day: date) -> DayRange:
    return DayRange(day, day)


def test_a_restated_month_is_found_among_those_that_were_read(engine: Engine, tmp_path: Path) -> None:
    watch = Watch(engine, tmp_path, "cur")
    for period in ("20260901-20261001", "20261001-20261101"):
        write_cur_delivery(tmp_path, [[cur_row()]], period=period)
    assert watch.days() == [
        DayRange(date(2026, 9, 1), date(2026, 9, 30)),
        DayRange(date(2026, 10, 1), date(2026, 10, 31)),
    ]
    watch.commit()
    assert watch.days() == []
    write_cur_delivery(tmp_path, [[cur_row(lineItem__UnblendedCost="9")]], assembly="a2")
    (change,) = watch.survey().detection.changes
    assert (change.days, change.reason) == (DayRange(date(2026, 10, 1), date(2026, 10, 31)), Reason.NEW_VERSION)


def test_a_period_that_cannot_be_used_hides_no_other(engine: Engine, tmp_path: Path) -> None:
    write_cur_delivery(tmp_path, [[cur_row()]], period="20260901-20261001")
    write_cur_delivery(tmp_path, [[cur_row()]])
    next(tmp_path.rglob("20261001-20261101/*.csv.gz")).unlink()
    surveyed = Watch(engine, tmp_path, "cur").survey()
    assert [c.days for c in surveyed.detection.changes] == [DayRange(date(2026, 9, 1), date(2026, 9, 30))]
    assert "incomplete" in surveyed.refused[0]


def test_a_dropped_file_is_exactly_the_days_that_it_bills(engine: Engine, tmp_path: Path) -> None:
    days = [date(2026, 10, 5), date(2026, 10, 6), date(2026, 11, 2)]
    write_bill(tmp_path / "a.csv", [_focus(day) for day in days])
    watch = Watch(engine, tmp_path, "focus")
    assert watch.days() == [DayRange(days[0], days[1]), _one(days[2])]
    watch.commit()
    assert watch.days() == []
    write_bill(tmp_path / "b.csv", [_focus(date(2026, 10, 9))])
    assert watch.days() == [_one(date(2026, 10, 9))]


def test_a_file_that_moves_to_other_days_is_read_on_both(engine: Engine, tmp_path: Path) -> None:
    watch = Watch(engine, tmp_path, "focus")
    write_bill(tmp_path / "a.csv", [_focus(date(2026, 10, 5))])
    watch.commit()
    write_bill(tmp_path / "a.csv", [_focus(date(2026, 10, 7)), _focus(date(2026, 10, 7), "2")])
    assert watch.days() == [_one(date(2026, 10, 5)), _one(date(2026, 10, 7))]


def test_a_damaged_file_is_told_and_the_others_are_found(engine: Engine, tmp_path: Path) -> None:
    watch = Watch(engine, tmp_path, "focus")
    write_bill(tmp_path / "a.csv", [_focus(date(2026, 10, 5))])
    watch.commit()
    write_bill(tmp_path / "a.csv", [_focus(date(2026, 10, 5)) | {"ChargePeriodStart": "yesterday"}])
    write_bill(tmp_path / "b.csv", [_focus(date(2026, 10, 9))])
    surveyed = watch.survey()
    assert [c.days for c in surveyed.detection.changes] == [_one(date(2026, 10, 9))]
    (refusal,) = surveyed.refused
    assert "a.csv, row 1, column ChargePeriodStart" in refusal
    watch.commit()
    write_bill(tmp_path / "a.csv", [_focus(date(2026, 10, 6), "3")])
    assert watch.days() == [DayRange(date(2026, 10, 5), date(2026, 10, 6))]


def test_a_file_without_rows_is_looked_at_once(engine: Engine, tmp_path: Path) -> None:
    watch = Watch(engine, tmp_path, "focus")
    write_bill(tmp_path / "empty.csv", [], header=list(focus_row()))
    surveyed = watch.survey()
    assert surveyed.detection.changes == ()
    assert len(surveyed.detection.settled) == 1
    watch.commit()
    assert watch.survey().detection.settled == {}


def test_a_source_that_is_gone_is_an_error_and_not_a_change(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="does not exist"):
        Watch(engine, tmp_path / "gone", "cur").survey()


class Partitions:
    """A table of a BigQuery export: marks per partition, and the usage days its rows touch."""

    def __init__(self, marks: dict[date, tuple[str, int]], days: dict[date, set[date]]) -> None:
        self.marks, self.days, self.looked_back = marks, days, 0

    def partition_marks(self, days_back: int, today: date | None = None) -> dict[date, tuple[str, int]]:
        self.looked_back = days_back
        return dict(self.marks)

    def usage_days_of(self, partitions: Iterable[date]) -> set[date]:
        return {day for part in partitions for day in self.days[part]}


def _survey_table(engine: Engine, table: Partitions, state: dict[str, Any], today: date = TODAY) -> Surveyed:
    connection = Connection(id="gcp", kind="gcp_detailed", uri="bigquery://project.dataset.table")
    return survey_changes(engine, table, connection, state, first=FIRST, today=today)  # type: ignore[arg-type]


def test_late_rows_in_a_partition_are_the_usage_days_they_touch(engine: Engine) -> None:
    parts = [date(2026, 11, n) for n in (17, 18, 19)]
    table = Partitions({p: (f"{p}T09:00:00Z", 5) for p in parts}, {p: {p, p - timedelta(days=1)} for p in parts})
    first = _survey_table(engine, table, {})
    assert [c.days for c in first.detection.changes] == [DayRange(date(2026, 11, 16), date(2026, 11, 19))]
    state = {unit: f.document() for c in first.detection.changes for unit, f in c.observed.items()}
    assert _survey_table(engine, table, state).detection.changes == ()
    table.marks[parts[1]] = ("2026-11-20T06:00:00Z", 6)
    table.days[parts[1]] |= {date(2026, 10, 30)}
    late = _survey_table(engine, table, state).detection.changes
    assert [c.days for c in late] == [_one(date(2026, 10, 30)), DayRange(date(2026, 11, 17), date(2026, 11, 18))]
    assert {c.reason for c in late} == {Reason.MOVED}


def test_a_bigquery_table_is_asked_for_its_partitions() -> None:
    connection = Connection(id="gcp", kind="gcp_detailed", uri="bigquery://project.dataset.table")
    assert isinstance(open_source(connection, GcpAccess(anonymous=True)), PartitionedSource)
    files = Connection(id="aws", kind="cur", uri="/bills")
    assert not isinstance(open_source(files, LocalAccess()), PartitionedSource)


@pytest.mark.parametrize(
    ("today", "known", "days_back"),
    [
        (TODAY, "2026-11-20", 10),
        (SUNDAY, "2026-11-22", 45),
        (TODAY, "2026-09-01", 90),  # paused for 80 days: all of them, and 10 before
        (TODAY, "", 111),
    ],
)
def test_partitions_are_looked_back_at_daily_weekly_and_once_over_the_whole_history(
    engine: Engine, today: date, known: str, days_back: int
) -> None:
    table = Partitions({}, {})
    state = {known: {"version": "x|1", "objects": {}, "days": None}} if known else {}
    assert _survey_table(engine, table, state, today).detection.changes == ()
    assert table.looked_back == days_back
