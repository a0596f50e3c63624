"""Usage lines held against the extract's own text: cost that went astray, and values no rule knows.

Nothing is repaired here; the findings are for checks (billing-feeds.md sections 1.6, 4.4, 10).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import ibis

from offgridflow_pipeline.connectors.feeds import FEEDS, Dialect
from offgridflow_pipeline.usage.azure_costs import OVER_A_DAY
from offgridflow_pipeline.usage.azure_rules import charge_types
from offgridflow_pipeline.usage.expressions import DECIMAL, decimal
from offgridflow_pipeline.usage.gcp_billing import credits_sum
from offgridflow_pipeline.usage.gcp_rules import cost_types
from offgridflow_pipeline.usage.rules import LineType, line_types

if TYPE_CHECKING:
    import ibis.expr.types as ir

_GRAIN = ("usage_date", "BillingAccountId", "BillingCurrency")


def extract_cost(extracts: Mapping[Dialect, ir.Table]) -> ir.Table:
    """Columns usage_date, BillingCurrency, cost and n (rows) over the extract tables, given by header dialect."""
    every = ibis.union(*(_COSTS[spoken](rows) for spoken, rows in extracts.items()), distinct=False)
    return every.group_by(["usage_date", "BillingCurrency"]).aggregate(cost=every.cost.sum(), n=every.count())


def differences(extract: ir.Table, lines: ir.Table, feed: str) -> ir.Table:
    """Days, accounts and currencies whose cost or rows the lines do not carry, both dispositions together.

    Columns: usage_date, BillingAccountId, BillingCurrency, missing_cost and missing_rows (extract minus lines).
    Empty when everything ties.
    """
    known = lines.filter((lines.x_Disposition == "countable") | (lines.x_Disposition == "no_emission"))
    one = ibis.literal(1, type="int64")
    delivered = _COSTS[FEEDS[feed].dialect](extract).mutate(rows=one)
    carried = known.select(*_GRAIN, cost=-known.BilledCost, rows=-one)
    both = delivered.union(carried.cast(delivered.schema()), distinct=False)
    sums = both.group_by(list(_GRAIN)).aggregate(missing_cost=both.cost.sum(), missing_rows=both.rows.sum())
    return sums.filter((sums.missing_cost != 0) | (sums.missing_rows != 0))


def unexplained(lines: ir.Table) -> ir.Table:
    """Values that no rule of `data` knows: columns usage_date, finding, value, currency, rows and cost.

    Findings: ``unit`` (countable, so later unmapped for its unit), ``line_item_type`` (counted as a fee), and
    ``hours_a_day`` (a machine size billed for more than 24 hours of a day: the quantity may be normalised).
    """
    found = [
        _named("unit", lines.filter((lines.x_Disposition == "countable") & lines.x_NormUnit.isnull()), "x_SourceUnit"),
        _named("line_item_type", lines.filter(_unknown_type(lines)), "x_LineItemType"),
        _named("hours_a_day", lines.filter(lines.x_UnitRule.contains(OVER_A_DAY)), "x_InstanceType"),
    ]
    every = ibis.union(*found, distinct=False)
    return every.group_by(["usage_date", "finding", "value", "currency"]).aggregate(
        rows=every.count(), cost=every.cost.sum()
    )


def _unknown_type(lines: ir.Table) -> ir.Value:
    """Whether a line item type is none of its provider's; any kind of discount of AWS is known."""
    kind = lines.x_LineItemType.lower()
    unknown = [
        (lines.x_Provider == provider) & ~kind.isin([t.name.lower() for t in types()])
        for provider, types in _LINE_TYPES.items()
    ]
    return kind.notnull() & ibis.or_(*unknown) & ~kind.endswith("discount")


def _focus_costs(rows: ir.Table) -> ir.Table:
    return rows.select("usage_date", "BillingAccountId", "BillingCurrency", cost=decimal(rows.BilledCost))


def _azure_costs(rows: ir.Table) -> ir.Table:
    return rows.select("usage_date", "BillingAccountId", "BillingCurrency", cost=decimal(rows.Cost))


def _gcp_costs(rows: ir.Table) -> ir.Table:
    """The bill is cost and credits together (section 6.2)."""
    return rows.select(
        "usage_date",
        BillingAccountId=rows.billing_account_id,
        BillingCurrency=rows.currency,
        cost=(decimal(rows.cost) + credits_sum(rows.credits)).cast(DECIMAL),
    )


def _cur_costs(rows: ir.Table) -> ir.Table:
    return rows.select(
        "usage_date",
        BillingAccountId=rows.bill_payer_account_id,
        BillingCurrency=rows.line_item_currency_code,
        cost=decimal(rows.line_item_unblended_cost),
    )


#: Header dialect -> day, billed account, currency and cost of its extract rows.
_COSTS: dict[Dialect, Callable[[ir.Table], ir.Table]] = {
    "cur": _cur_costs,
    "azure": _azure_costs,
    "gcp": _gcp_costs,
    "focus": _focus_costs,
}
#: Provider -> its line item types.
_LINE_TYPES: dict[str, Callable[[], tuple[LineType, ...]]] = {
    "aws": line_types,
    "azure": charge_types,
    "gcp": cost_types,
}


def _named(finding: str, lines: ir.Table, column: str) -> ir.Table:
    return lines.select(
        "usage_date",
        finding=ibis.literal(finding),
        value=lines[column],
        currency=lines.BillingCurrency,
        cost=lines.BilledCost,
    )
