"""Usage lines held against what providers say the bill is, and against the rule of one feed of record.

Expressions only; what a finding stops is decided by the checks. Source: billing-feeds.md sections 1.1, 4.7, 5.6
and 10.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING

import ibis

from offgridflow_pipeline.usage.expressions import DECIMAL
from offgridflow_pipeline.usage.rules import DATA

if TYPE_CHECKING:
    import ibis.expr.types as ir

_GRAIN = ("usage_date", "x_ConnectionId", "SubAccountId", "BillingCurrency")


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a provider's own total may lie from its bill: an amount, or one in so many of the total (0: none)."""

    source: str
    absolute: Decimal
    one_in: int


@cache
def tolerances() -> tuple[Tolerance, ...]:
    """Tolerance per source of control totals; a source without one must agree to the last digit."""
    with (DATA / "control_tolerances.csv").open(newline="", encoding="utf-8") as stream:
        return tuple(Tolerance(r["source"], Decimal(r["absolute"]), int(r["one_in"])) for r in csv.DictReader(stream))


def provider_differences(lines: ir.Table, totals: ir.Table) -> ir.Table:
    """Days, connections, accounts and currencies whose billed cost is not what the provider states.

    Only connections with control totals are compared. Columns: usage_date, x_ConnectionId, SubAccountId,
    BillingCurrency, source, stated, billed (both in BillingCurrency), is_final. Empty when everything ties.
    """
    connections = totals.select("usage_date", x_ConnectionId=totals.connection_id).distinct()
    compared = lines.semi_join(connections, ["usage_date", "x_ConnectionId"])
    zero = ibis.literal(Decimal(0)).cast(DECIMAL)
    none = ibis.null("string")
    billed = compared.select(
        *_GRAIN, source=none, stated=zero, billed=compared.BilledCost, is_final=ibis.null("boolean")
    )
    stated = totals.select(
        "usage_date",
        "SubAccountId",
        "BillingCurrency",
        "source",
        "is_final",
        x_ConnectionId=totals.connection_id,
        stated=totals.BilledCost,
        billed=zero,
    )
    both = billed.union(stated.select(*billed.columns), distinct=False)
    sums = both.group_by(list(_GRAIN)).aggregate(
        source=both.source.max(),
        stated=both.stated.sum().cast(DECIMAL),
        billed=both.billed.sum().cast(DECIMAL),
        is_final=both.is_final.min().fill_null(True),
    )
    return sums.filter(_beyond_tolerance(sums))


def several_feeds(lines: ir.Table) -> ir.Table:
    """Billing accounts of a day that more than one connection bills: usage_date, BillingAccountId, connections."""
    grouped = lines.group_by(["usage_date", "BillingAccountId"]).aggregate(
        connections=lines.x_ConnectionId.nunique(),
        first=lines.x_ConnectionId.min(),
        last=lines.x_ConnectionId.max(),
    )
    return grouped.filter(grouped.connections > 1)


def _beyond_tolerance(sums: ir.Table) -> ir.Value:
    gap = (sums.stated - sums.billed).abs()
    branches = [
        (
            sums.source == t.source,
            (gap > ibis.literal(t.absolute).cast(DECIMAL))
            & ((gap * t.one_in > sums.stated.abs()) if t.one_in else True),
        )
        for t in tolerances()
    ]
    return ibis.cases(*branches, else_=gap > 0)
