"""Totals as they were reported: the same groups as the serving table gives, from an older Delta version.

Sums are decimals, so they do not depend on the engine; groups come in the order of `database.emissions_reads`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import ibis

from offgridflow_pipeline.database.pipeline.emissions_reads import DISPOSITIONS, MEASURES, GroupTotals, sortable
from offgridflow_pipeline.decimal_text import exact_text
from offgridflow_pipeline.inventory.ledger_lines import COLUMNS, behind, days_between, stated

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from offgridflow_pipeline.lake.engine import Engine
    from offgridflow_pipeline.lake.tables import Lake


def totals_as_reported(
    engine: Engine,
    lake: Lake,
    tenant: str,
    version: int,
    first: date,
    last: date,
    *,
    group_by: tuple[str, ...],
    filters: Mapping[str, str],
    after: Sequence[str | None] | None,
    limit: int,
) -> list[GroupTotals]:
    """Up to `limit` groups of scope_totals at that Delta version behind `after`, as `EmissionsReads.totals`."""
    totals = engine.table(lake.slice(tenant, "scope_totals", days_between(first, last), version))
    for name, value in filters.items():
        totals = totals.filter(stated(totals[COLUMNS[name]], value))
    dimensions = {f"group_{name}": _dimension(totals, name) for name in group_by}
    rows = totals.mutate(**dimensions).mutate(currency=totals.BillingCurrency)
    names = list(dimensions)
    parts = rows.group_by([*names, "currency"]).aggregate(
        line_count=rows.line_count.sum(),
        billed_cost=rows.billed_cost.sum(),
        **{name: rows[name].sum() for name in MEASURES},
        **{name: rows.line_count.sum(where=rows.disposition == name) for name in DISPOSITIONS},
    )
    if after is not None:
        keys = [_sort_key(parts[name]) for name in names]
        parts = parts.filter(behind(keys, [sortable(key) for key in after]))
    # Text is kept apart from null by the leading sign, as in the order of groups.
    parts = parts.mutate(currency_key=_sort_key(parts.currency))
    sums = {
        "currencies": parts.currency_key.collect(order_by=parts.currency_key),
        "costs": parts.billed_cost.collect(order_by=parts.currency_key),
        **{name: parts[name].sum() for name in ("line_count", *MEASURES, *DISPOSITIONS)},
    }
    groups = parts.group_by(names).aggregate(**sums) if names else parts.aggregate(**sums)
    page = groups.order_by([_sort_key(groups[name]) for name in names]) if names else groups
    found = engine.to_arrow(page.limit(limit)).to_pylist()
    return [_group(row, names) for row in found if row["line_count"]]


def _group(row: Mapping[str, Any], names: Sequence[str]) -> GroupTotals:
    mapped, proxied, no_emission, unmapped = (int(row[name] or 0) for name in DISPOSITIONS)
    return GroupTotals(
        group=tuple(row[name] for name in names),
        line_count=int(row["line_count"]),
        kwh=exact_text(row["kwh"]),
        co2e_location_kg=exact_text(row["co2e_lbm_kg"]),
        co2e_market_kg=exact_text(row["co2e_mbm_kg"]),
        embodied_kg=exact_text(row["embodied_kg"]),
        upstream_energy_kg=exact_text(row["upstream_energy_kg"]),
        currencies=[key.removeprefix("=") or None for key in row["currencies"]],
        costs=[exact_text(cost) for cost in row["costs"]],
        lines=(mapped, proxied, no_emission, unmapped),
    )


def _dimension(totals: ir.Table, name: str) -> ir.Value:
    if name == "day":
        return totals.usage_date.strftime("%Y-%m-%d")
    if name == "month":
        return totals.usage_date.strftime("%Y-%m")
    return totals[COLUMNS[name]]


def _sort_key(column: ir.Value) -> ir.Value:
    return ibis.coalesce(ibis.literal("=") + column, ibis.literal(""))
