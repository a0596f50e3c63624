"""Usage lines held against what providers say the bill is, and against the rule of one feed of record.

Expressions only; what a finding stops is decided by the checks. Source: billing-feeds.md sections 1.1, 4.7, 5.6
and 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING

import ibis

from offgridflow_pipeline.usage.expressions import DECIMAL
from offgridflow_pipeline.usage.rules import rows_of

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
    return tuple(
        Tolerance(r["source"], Decimal(r["absolute"]), int(r["one_in"])) for r in rows_of("control_tolerances.csv")
    )


def provider_differences(lines: ir.Table, totals: ir.Table) -> ir.Table:
    """Days, connections, accounts and currencies whose billed cost is not what the provider states.

    Only connections with control totals are compared. Columns: usage_date, x_ConnectionId, SubAccountId,
    BillingCurrency, source, stated, billed (both in BillingCurrency), is_final. An account without a total is as final
    as the connection's day: while that is an estimate, its figure may still come. Empty when everything ties.
    """
    days = totals.group_by("usage_date", x_ConnectionId=totals.connection_id).aggregate(whole=totals.is_final.min())
    compared = lines.semi_join(days, ["usage_date", "x_ConnectionId"])
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
        stated_final=both.is_final.min(),
    )
    judged = sums.join(days, ["usage_date", "x_ConnectionId"])
    judged = judged.mutate(is_final=ibis.coalesce(judged.stated_final, judged.whole)).drop("stated_final", "whole")
    return judged.filter(_beyond_tolerance(judged))


def several_feeds(lines: ir.Table) -> ir.Table:
    """Billing accounts of a day that more than one connection bills: usage_date, BillingAccountId, connections.

    FOCUS of Microsoft names the account by its path, cost details by the end of it. Files that name no billing
    account (pay-as-you-go) are told apart by their sub-accounts.
    """
    account = lines.BillingAccountId.re_replace("(?i)^.*/billingaccounts/", "")
    grouped = lines.group_by("usage_date", BillingAccountId=ibis.coalesce(account, lines.SubAccountId)).aggregate(
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
