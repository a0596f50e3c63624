"""Cost of extracts per day and currency, computed from the extract's own text, to hold usage lines against."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offgridflow_pipeline.usage.expressions import decimal

if TYPE_CHECKING:
    import ibis.expr.types as ir


def extract_cost(aws: ir.Table, focus: ir.Table) -> ir.Table:
    """Columns usage_date, BillingCurrency, cost and n (rows) over both extract tables."""
    both = aws.select(
        "usage_date", BillingCurrency=aws.line_item_currency_code, cost=decimal(aws.line_item_unblended_cost)
    ).union(
        focus.select("usage_date", "BillingCurrency", cost=decimal(focus.BilledCost)), distinct=False
    )  # fmt: skip
    return both.group_by(["usage_date", "BillingCurrency"]).aggregate(cost=both.cost.sum(), n=both.count())
