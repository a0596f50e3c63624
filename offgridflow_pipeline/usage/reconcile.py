"""Usage lines held against the extract's own text: cost that went astray, and values no rule knows.

Nothing is repaired here; the findings are for checks (billing-feeds.md sections 1.6, 4.4, 10).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ibis

from offgridflow_pipeline.usage.expressions import decimal
from offgridflow_pipeline.usage.rules import line_types

if TYPE_CHECKING:
    import ibis.expr.types as ir

_GRAIN = ("usage_date", "BillingAccountId", "BillingCurrency")


def extract_cost(aws: ir.Table, focus: ir.Table) -> ir.Table:
    """Columns usage_date, BillingCurrency, cost and n (rows) over both extract tables."""
    both = _costs(aws, "cur").union(_costs(focus, "focus"), distinct=False)
    return both.group_by(["usage_date", "BillingCurrency"]).aggregate(cost=both.cost.sum(), n=both.count())


def differences(extract: ir.Table, lines: ir.Table, feed: str) -> ir.Table:
    """Days, accounts and currencies whose cost or rows the lines do not carry, both dispositions together.

    Columns: usage_date, BillingAccountId, BillingCurrency, missing_cost and missing_rows (extract minus lines).
    Empty when everything ties.
    """
    known = lines.filter((lines.x_Disposition == "countable") | (lines.x_Disposition == "no_emission"))
    one = ibis.literal(1, type="int64")
    delivered = _costs(extract, feed).mutate(rows=one)
    carried = known.select(*_GRAIN, cost=-known.BilledCost, rows=-one)
    both = delivered.union(carried.cast(delivered.schema()), distinct=False)
    sums = both.group_by(list(_GRAIN)).aggregate(missing_cost=both.cost.sum(), missing_rows=both.rows.sum())
    return sums.filter((sums.missing_cost != 0) | (sums.missing_rows != 0))


def unexplained(lines: ir.Table) -> ir.Table:
    """Values that no rule of `data` knows: columns finding, value, currency, rows and cost.

    Findings: ``unit`` (countable, so later unmapped for its unit) and ``line_item_type`` (counted as a fee).
    """
    unit = lines.filter((lines.x_Disposition == "countable") & lines.x_NormUnit.isnull())
    names = [t.name for t in line_types()]
    kind = lines.filter(
        lines.x_LineItemType.notnull() & ~lines.x_LineItemType.isin(names) & ~lines.x_LineItemType.endswith("Discount")
    )
    both = _named("unit", unit, "x_SourceUnit").union(_named("line_item_type", kind, "x_LineItemType"), distinct=False)
    return both.group_by(["finding", "value", "currency"]).aggregate(rows=both.count(), cost=both.cost.sum())


def _costs(rows: ir.Table, feed: str) -> ir.Table:
    if feed == "focus":
        return rows.select("usage_date", "BillingAccountId", "BillingCurrency", cost=decimal(rows.BilledCost))
    return rows.select(
        "usage_date",
        BillingAccountId=rows.bill_payer_account_id,
        BillingCurrency=rows.line_item_currency_code,
        cost=decimal(rows.line_item_unblended_cost),
    )


def _named(finding: str, lines: ir.Table, column: str) -> ir.Table:
    return lines.select(
        finding=ibis.literal(finding), value=lines[column], currency=lines.BillingCurrency, cost=lines.BilledCost
    )
