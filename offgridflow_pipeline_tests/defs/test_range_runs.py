"""Planning: every changed day in exactly one run, restatements apart, closed months left out of the nightly window."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offgridflow_pipeline.connectors.changes.detection import DayRange
from offgridflow_pipeline.database.pipeline.changes import SourceChange
from offgridflow_pipeline.defs.range_runs import change_runs, window_runs

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
HISTORY = date(2024, 1, 1)
FRIDAY, SUNDAY = date(2026, 11, 20), date(2026, 11, 22)
APPROVED = UUID(int=7)


def _change(first: date, last: date, restatement: UUID | None = None, attempts: int = 0) -> SourceChange:
    return SourceChange(
        uuid4(), "aws", first, last, "new_version", "a" * 64, {}, NOON, NOON, "pending", attempts,
        None, None, restatement, None, "", None,
    )  # fmt: skip


_CHANGES = st.lists(
    st.builds(
        lambda month, first, length, restated: _change(
            date(2026, month, first), date(2026, month, min(first + length, 28)), APPROVED if restated else None
        ),
        st.integers(1, 11),
        st.integers(1, 28),
        st.integers(0, 27),
        st.booleans(),
    ),
    max_size=12,
)


@given(changes=_CHANGES)
def test_every_changed_day_and_every_change_is_in_exactly_one_run(changes: list[SourceChange]) -> None:
    runs = change_runs("acme", changes)
    for restatement in (None, APPROVED):
        mine = [c for c in changes if c.restatement_id == restatement]
        read = Counter(day for run in runs if run.restatement_id == restatement for day in run.days.days)
        assert set(read) == {day for c in mine for day in DayRange(c.first_day, c.last_day).days}
        assert all(count == 1 for count in read.values())
    assert Counter(i for run in runs for i in run.change_ids) == Counter(c.change_id for c in changes)
    assert all(f"{run.days.first:%Y-%m}" == f"{run.days.last:%Y-%m}" for run in runs)
    assert len({run.run_key for run in runs}) == len(runs)


def test_changes_of_two_connections_on_neighbouring_days_are_one_run() -> None:
    (run,) = change_runs(
        "acme", [_change(date(2026, 10, 1), date(2026, 10, 9)), _change(date(2026, 10, 10), date(2026, 10, 12))]
    )
    assert run.tags == {
        "dagster/asset_partition_range_start": "2026-10-01|acme",
        "dagster/asset_partition_range_end": "2026-10-12|acme",
        "offgridflow/tenant": "acme",
        "offgridflow/trigger": "late_data",
        "offgridflow/changes": run.run_key,
    }


def test_a_restatement_runs_apart_and_names_its_approval() -> None:
    first, last = date(2026, 9, 1), date(2026, 9, 30)
    runs = change_runs("acme", [_change(first, last), _change(first, last, APPROVED)])
    assert [run.trigger for run in runs] == ["restatement", "late_data"]
    assert [run.tags.get("offgridflow/restatement") for run in runs] == [str(APPROVED), None]


def test_another_attempt_has_another_key_and_the_same_changes_have_the_same() -> None:
    change = _change(date(2026, 10, 1), date(2026, 10, 2))
    keys = [change_runs("acme", [replace(change, attempts=n)])[0].run_key for n in (0, 0, 1)]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(
    ("today", "closed", "expected"),
    [
        (FRIDAY, set(), [("2026-11-17", "2026-11-19")]),
        (date(2026, 11, 2), set(), [("2026-10-30", "2026-10-31"), ("2026-11-01", "2026-11-01")]),
        (date(2026, 11, 2), {"2026-10"}, [("2026-11-01", "2026-11-01")]),
        (SUNDAY, set(), [("2026-10-18", "2026-10-31"), ("2026-11-01", "2026-11-21")]),
        (date(2026, 11, 1), {"2026-09", "2026-10"}, []),
    ],
)
def test_the_nightly_window_is_three_days_and_on_sundays_thirty_five(
    today: date, closed: set[str], expected: list[tuple[str, str]]
) -> None:
    runs = window_runs("acme", today, closed_months=closed, history_start=HISTORY)
    assert [(str(run.days.first), str(run.days.last)) for run in runs] == expected
    assert all(run.tags["offgridflow/trigger"] == "nightly" for run in runs)


def test_the_nightly_window_does_not_reach_before_history() -> None:
    runs = window_runs("acme", SUNDAY, closed_months=(), history_start=SUNDAY - timedelta(days=2))
    assert [run.days for run in runs] == [DayRange(SUNDAY - timedelta(days=2), SUNDAY - timedelta(days=1))]
