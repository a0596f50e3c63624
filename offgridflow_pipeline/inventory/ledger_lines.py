"""Reads of single ledger lines from the lake: a page of a day range, and one line with the usage it was made from.

Lazily through the engine, whose memory is bounded; at most a page of rows leaves it. Totals are not here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any

import ibis

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from offgridflow_pipeline.lake.engine import Engine
    from offgridflow_pipeline.lake.tables import Lake

#: Dimension of a filter -> ledger column.
COLUMNS: Mapping[str, str] = {
    "scope": "scope",
    "provider": "x_Provider",
    "account": "SubAccountId",
    "service": "ServiceName",
    "region": "RegionId",
    "disposition": "disposition",
}
#: Columns of a line in a list; `explained` brings all.
LISTED = (
    "usage_date", "line_id", "x_Provider", "SubAccountId", "x_ServiceCode", "ServiceName", "RegionId", "ResourceId",
    "ChargeCategory", "BillingCurrency", "billed_cost", "norm_quantity", "norm_unit", "disposition", "reason",
    "rule_id", "component", "scope", "s3_category", "kwh", "co2e_lbm_kg", "co2e_mbm_kg", "embodied_kg",
    "upstream_energy_kg", "dq_score", "flags", "source_object_sha256", "row_no",
)  # fmt: skip


def ledger_page(
    engine: Engine,
    lake: Lake,
    tenant: str,
    days: Sequence[date],
    *,
    version: int | None,
    filters: Mapping[str, str],
    after: tuple[date, str] | None,
    limit: int,
) -> list[dict[str, Any]]:
    """Up to `limit` lines of the days behind `after` (day and line id), by day and line id; columns of LISTED.

    A filter takes one value of its dimension, the empty text for lines that do not state it.
    """
    wanted = [day for day in days if after is None or day >= after[0]]
    lines = engine.table(lake.slice(tenant, "emission_lines", wanted, version))
    for name, value in filters.items():
        lines = lines.filter(stated(lines[COLUMNS[name]], value))
    if after is not None:
        lines = lines.filter((lines.usage_date > after[0]) | (lines.line_id > after[1]))
    keys = lines.select("usage_date", "line_id").order_by("usage_date", "line_id").limit(limit)
    # Two passes: sorting ids alone needs a fraction of the memory of sorting whole lines.
    found = engine.to_arrow(keys).to_pylist()
    if not found:
        return []
    page = engine.table(lake.slice(tenant, "emission_lines", sorted({row["usage_date"] for row in found}), version))
    page = page.filter(page.line_id.isin([row["line_id"] for row in found]))
    for name, value in filters.items():
        page = page.filter(stated(page[COLUMNS[name]], value))
    rows: list[dict[str, Any]] = engine.to_arrow(page.select(*LISTED).order_by("usage_date", "line_id")).to_pylist()
    return [row for row in rows if after is None or (row["usage_date"], row["line_id"]) > after][:limit]


def explained(
    engine: Engine, lake: Lake, tenant: str, line_id: str, day: date | None = None
) -> tuple[dict[str, Any], dict[str, Any] | None] | None:
    """The ledger line with all its columns, and its usage line (None when it is gone); None without such a line.

    Without `day` every day of the ledger is searched.
    """
    days = None if day is None else [day]
    found = _one(engine, engine.table(lake.slice(tenant, "emission_lines", days)), "line_id", line_id)
    if found is None:
        return None
    usage = engine.table(lake.slice(tenant, "usage_lines", [found["usage_date"]]))
    return found, _one(engine, usage, "x_LineId", line_id)


def days_between(first: date, last: date) -> list[date]:
    """Every day from `first` to `last`, both included."""
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def stated(column: ir.StringColumn, value: str) -> ir.BooleanValue:
    """Whether the column has the value; the empty text stands for what is not stated, too."""
    return column == value if value else (column == value) | column.isnull()


def behind(keys: Sequence[ir.Value], after: Sequence[Any]) -> ir.BooleanValue:
    """Whether a row with these sort keys comes after the given ones, key by key."""
    found: ir.BooleanValue = ibis.literal(False)
    for place, (key, bound) in enumerate(zip(keys, after, strict=True)):
        equal = [one == other for one, other in zip(keys[:place], after[:place], strict=True)]
        found = found | reduce(and_, equal, key > bound)
    return found


def _one(engine: Engine, table: ir.Table, column: str, value: str) -> dict[str, Any] | None:
    rows: list[dict[str, Any]] = engine.to_arrow(table.filter(table[column] == value).limit(1)).to_pylist()
    return rows[0] if rows else None
