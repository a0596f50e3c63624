"""The time of a Stripe world: it stands still until it is advanced, and what falls due on the way happens in order."""

from __future__ import annotations

import heapq
from calendar import monthrange
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Action = Callable[[], None]


class WorldClock:
    """A clock in UTC with whole seconds, as Stripe's timestamps have no fractions."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, 9, 0, tzinfo=UTC)) -> None:
        self._now = start.astimezone(UTC).replace(microsecond=0)
        self._due: list[tuple[datetime, int, Action]] = []
        self._planned = 0

    def now(self) -> datetime:
        """The time of the world, aware, in UTC."""
        return self._now

    @property
    def timestamp(self) -> int:
        """The time of the world as Stripe writes it: seconds since 1970."""
        return int(self._now.timestamp())

    def at(self, when: int, action: Action) -> None:
        """Plan an action for a Unix time; what was planned first happens first when times are equal."""
        self._planned += 1
        heapq.heappush(self._due, (of_timestamp(when), self._planned, action))

    def advance(self, by: timedelta) -> None:
        """Let time pass; everything due until then happens, each at its own time."""
        self.advance_to(self._now + by)

    def advance_to(self, when: datetime) -> None:
        """Let time pass until then; an earlier time changes nothing."""
        goal = when.astimezone(UTC).replace(microsecond=0)
        while self._due and self._due[0][0] <= goal:
            due, _, action = heapq.heappop(self._due)
            self._now = max(self._now, due)
            action()
        self._now = max(self._now, goal)


def of_timestamp(seconds: int) -> datetime:
    """The time of a Unix timestamp."""
    return datetime.fromtimestamp(seconds, UTC)


def period_after(anchor: int, start: int, interval: str, count: int) -> int:
    """The end of a period that begins at `start`, on the billing day of `anchor` (31 January, 28 February, 31 March).

    Raises:
        ValueError: no interval of Stripe's.
    """
    if interval in {"day", "week"}:
        return start + int(timedelta(days=count * (7 if interval == "week" else 1)).total_seconds())
    if interval not in {"month", "year"}:
        raise ValueError(f"{interval!r} is no billing interval: day, week, month or year.")
    begin, day = of_timestamp(start), of_timestamp(anchor).day
    months = begin.year * 12 + begin.month - 1 + count * (12 if interval == "year" else 1)
    year, month = divmod(months, 12)
    last = monthrange(year, month + 1)[1]
    return int(begin.replace(year=year, month=month + 1, day=min(day, last)).timestamp())
