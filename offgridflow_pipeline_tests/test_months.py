"""Calendar months: leap years, turns of the year, and texts that are none."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offgridflow_pipeline.months import first_day, month_days, month_of, next_month, shifted


def test_a_leap_february_has_29_days() -> None:
    assert len(month_days("2024-02")) == 29


@given(st.dates(date(1970, 1, 1), date(2999, 1, 1)))
def test_the_days_of_a_month_end_on_the_eve_of_the_next_one(day: date) -> None:
    days = month_days(f"{day:%Y-%m}")
    assert day in days
    assert {(d.year, d.month) for d in days} == {(day.year, day.month)}
    assert next_month(day).toordinal() == days[-1].toordinal() + 1


@given(st.dates(date(1970, 1, 1), date(2999, 1, 1)), st.integers(-500, 500))
def test_a_shift_and_its_opposite_come_back(day: date, count: int) -> None:
    month = f"{day:%Y-%m}"
    assert shifted(shifted(month, count), -count) == month
    assert first_day(shifted(month, 1)) == next_month(day)


@pytest.mark.parametrize("text", ["2026-13", "2026-00", "2026-1", "202601", "", "2026-01-01"])
def test_a_text_that_is_no_month_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(ValueError, match="write it as 2026-08"):
        first_day(text)


def test_a_value_that_is_no_date_has_no_month() -> None:
    assert (month_of(date(2026, 8, 3)), month_of("2026-08-03T00:00Z"), month_of(None)) == ("2026-08", "2026-08", None)
