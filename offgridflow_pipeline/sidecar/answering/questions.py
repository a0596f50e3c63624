"""What a read of emissions asks for: period, grouping, filters; with links to what a figure is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import Query

from offgridflow_pipeline.months import shifted
from offgridflow_pipeline.sidecar.entrance.problems import FieldProblem, Problem

Dimension = Literal["day", "month", "scope", "provider", "account", "service", "region", "disposition"]
MAXIMUM_DIMENSIONS = 4
#: Days of a period at most: ten years of totals, a month of single lines.
MAXIMUM_DAYS = 3_660
MAXIMUM_LINE_DAYS = 31
EARLIEST, LATEST = date(2000, 1, 1), date(2099, 12, 31)

_TIMES = frozenset({"day", "month"})
_STATED = "One value; send it empty for what does not state it."
From = Annotated[date, Query(alias="from", description="First day (UTC).", examples=["2026-10-01"])]
To = Annotated[date, Query(alias="to", description="Last day (UTC), inclusive.", examples=["2026-10-31"])]
Filter = Annotated[str | None, Query(max_length=300, description=_STATED)]
GroupBy = Annotated[
    list[Dimension],
    Query(max_length=MAXIMUM_DIMENSIONS, description="Dimensions of a group; repeat it for several, none = one total."),
]


@dataclass(frozen=True, slots=True)
class Question:
    """A period (both days included), dimensions, and filters: dimension -> value, empty = not stated."""

    first: date
    last: date
    group_by: tuple[Dimension, ...]
    filters: Mapping[str, str]

    @property
    def months(self) -> list[str]:
        """Calendar months that the period touches."""
        return _months(self.first.isoformat()[:7], self.last.isoformat()[:7])

    def as_asked(self) -> dict[str, Any]:
        """What a cursor is bound to."""
        return {"from": self.first, "to": self.last, "group_by": ",".join(self.group_by), **self.filters}


def question(
    first: date,
    last: date,
    *,
    group_by: Sequence[Dimension] = (),
    maximum_days: int = MAXIMUM_DAYS,
    **filters: str | None,
) -> Question:
    """The question of these parameters.

    Raises:
        Problem: 422, the period ends before it begins or is too long, or a dimension is named twice.
    """
    if not EARLIEST <= first <= LATEST or not EARLIEST <= last <= LATEST:
        raise invalid("from", f"Days lie between {EARLIEST} and {LATEST}.")
    days = (last - first).days + 1
    if days < 1:
        raise invalid("to", "The period ends before it begins.")
    if days > maximum_days:
        raise invalid("to", f"The period has {days} days: ask for at most {maximum_days}.")
    if len(set(group_by)) != len(group_by):
        raise invalid("group_by", "A dimension is named twice.")
    stated = {name: value for name, value in filters.items() if value is not None}
    return Question(first, last, tuple(group_by), stated)


def invalid(parameter: str, message: str) -> Problem:
    """422 for a query parameter."""
    return Problem(
        422,
        "invalid_request",
        "The request does not have the right form.",
        errors=[FieldProblem(pointer=f"/query/{parameter}", message=message, code="value_error")],
    )


def lineage(asked: Question, group: Mapping[str, str | None]) -> str:
    """Where the parts of a group's figures are: its ledger lines, or its months while the period is longer."""
    first, last = asked.first, asked.last
    if (day := group.get("day")) is not None:
        first = last = date.fromisoformat(day)
    elif (month := group.get("month")) is not None:
        first, last = max(first, date.fromisoformat(f"{month}-01")), min(last, _last_day(month))
    limits = "".join(
        [f"&{name}={_quoted(value or '')}" for name, value in {**asked.filters, **group}.items() if name not in _TIMES]
    )
    return _parts(first, last) + limits


@lru_cache(1024)
def _parts(first: date, last: date) -> str:
    period = f"from={first}&to={last}"
    if (last - first).days < MAXIMUM_LINE_DAYS:
        return f"/v1/emissions/lines?{period}"
    return f"/v1/emissions/totals?group_by=month&{period}"


@lru_cache(4096)
def _quoted(value: str) -> str:
    return quote(value, safe="")


@lru_cache(1024)
def _last_day(month: str) -> date:
    return date.fromisoformat(f"{shifted(month, 1)}-01") - timedelta(days=1)


@lru_cache(1024)
def _months(first: str, last: str) -> list[str]:
    found = [first]
    while found[-1] < last:
        found.append(shifted(found[-1], 1))
    return found
