"""What a fictional company of the demonstration is: its feeds, where they lie, and what they must come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from offgridflow_pipeline.connectors.connections import Connection, Kind
from offgridflow_pipeline.demo.exports import DeliveredAt


@dataclass(frozen=True, slots=True)
class ControlTotal:
    """What the usage of one month must come to after ingestion: rows and cost of the newest delivery.

    `billed_cost` is what the feed bills by: amortised cost in an amortized export, else invoiced cost.
    """

    month: str
    rows: int
    billed_cost: Decimal
    currency: str
    rows_by_charge: dict[str, int]

    @classmethod
    def of(cls, month: str, charges: Iterable[tuple[str, Decimal]], currency: str) -> ControlTotal:
        """Of one charge type and cost per row."""
        kinds, total = Counter[str](), Decimal(0)
        for kind, cost in charges:
            kinds[kind] += 1
            total += cost
        return cls(month, kinds.total(), total, currency, dict(sorted(kinds.items())))


@dataclass(frozen=True, slots=True)
class DemoFeed:
    """A feed, or a carbon statement (which has no control totals); `uri` is the folder it was delivered to."""

    id: str
    kind: Kind
    uri: Path
    controls: tuple[ControlTotal, ...] = ()

    @property
    def connection(self) -> Connection:
        """Where the pipeline finds it."""
        return Connection(id=self.id, kind=self.kind, uri=str(self.uri.resolve()))


@dataclass(frozen=True, slots=True)
class DemoTenant:
    """A fictional company; its first feed is the largest.

    Each feed is of a billing account of its own: feeds of one account and month are never united
    (billing-feeds.md 1).
    """

    slug: str
    display_name: str
    lei: str
    currency: str
    feeds: tuple[DemoFeed, ...]
    statements: tuple[DemoFeed, ...] = ()

    @property
    def connections(self) -> tuple[Connection, ...]:
        """Where the pipeline finds the bills and the carbon statements."""
        return tuple(feed.connection for feed in (*self.feeds, *self.statements))

    @property
    def controls(self) -> tuple[ControlTotal, ...]:
        """Control totals of all feeds together, a month each; the feeds of a tenant bill in its currency."""
        return tuple(_together(totals) for totals in zip(*(feed.controls for feed in self.feeds), strict=True))


def delivered(month: str, day: int, *, following: bool = False) -> DeliveredAt:
    """When a provider wrote a delivery of a month: on a day of that month or of the next one."""
    at = DeliveredAt(month, datetime(int(month[:4]), int(month[5:]), 1))  # noqa: DTZ001  folders name no zone
    first = at.period[1 if following else 0]
    return DeliveredAt(month, datetime(first.year, first.month, day, 6, 12, 44))  # noqa: DTZ001


def _together(totals: Sequence[ControlTotal]) -> ControlTotal:
    kinds = Counter[str]()
    for total in totals:
        kinds.update(total.rows_by_charge)
    cost = sum((total.billed_cost for total in totals), Decimal(0))
    return ControlTotal(totals[0].month, kinds.total(), cost, totals[0].currency, dict(sorted(kinds.items())))
