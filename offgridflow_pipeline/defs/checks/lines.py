"""Checks that every table of lines has: declared schema, one tenant, no line twice; and comparisons of cost."""

from typing import TYPE_CHECKING, Any

import dagster as dg

from offgridflow_pipeline.defs.checks.verdict import lake_check, listed, rows_of
from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.lake import schemas

if TYPE_CHECKING:
    import ibis.expr.types as ir


def line_checks(asset: str) -> list[dg.AssetChecksDefinition]:
    """The three checks of a table of lines."""
    return [
        lake_check(asset, "schema", "The Delta table has exactly the declared columns and types.")(schema_faults),
        lake_check(asset, "single_tenant", "Every row belongs to the partition's tenant.")(tenant_faults),
        lake_check(asset, "unique_lines", "No line occurs twice in a day.")(duplicate_faults),
    ]


def schema_faults(platform: Platform, tenant: str, table: schemas.Table, partitions: list[Any]) -> dict[Any, str]:
    """Columns of the Delta table that differ from the declaration."""
    stored = platform.lake.stored_schema(tenant, table.name)
    if stored is None:
        return {}
    declared = {c.name: str(c.type) for c in table.columns}
    found = {field.name: str(field.type) for field in stored}
    wrong = sorted(n for n in declared.keys() | found.keys() if declared.get(n) != found.get(n))
    return dict.fromkeys(partitions, f"columns differ from the declaration: {', '.join(wrong)}") if wrong else {}


def tenant_faults(platform: Platform, tenant: str, table: schemas.Table, partitions: list[Any]) -> dict[Any, str]:
    """Rows of another tenant, per partition."""
    import ibis

    rows = rows_of(platform, table.name, tenant, partitions)
    strangers = rows.filter(rows.tenant_id != tenant).group_by(table.partition).aggregate(n=ibis._.count())
    return {r[table.partition]: f"{r['n']} rows of another tenant" for r in listed(platform, strangers)}


def duplicate_faults(platform: Platform, tenant: str, table: schemas.Table, partitions: list[Any]) -> dict[Any, str]:
    """Lines whose id occurs more than once, per partition."""
    import ibis

    rows = rows_of(platform, table.name, tenant, partitions)
    key = table.key[0]
    twice = rows.group_by([table.partition, key]).aggregate(n=ibis._.count())
    twice = twice.filter(twice.n > 1)
    summary = twice.group_by(table.partition).aggregate(ids=ibis._.count(), example=ibis._[key].min())
    return {
        r[table.partition]: f"{r['ids']} line ids occur more than once, for example {r['example']}"
        for r in listed(platform, summary)
    }


def cost_by_currency(rows: "ir.Table", cost: str) -> "ir.Table":
    """Columns usage_date, BillingCurrency, cost (sum of the column `cost`) and n (rows)."""
    import ibis

    return rows.group_by(["usage_date", "BillingCurrency"]).aggregate(cost=ibis._[cost].sum(), n=ibis._.count())


def compare(platform: Platform, left: "ir.Table", right: "ir.Table", names: tuple[str, str]) -> dict[Any, str]:
    """Days on which two results of `cost_by_currency` differ, with both figures."""

    def keyed(expr: "ir.Table") -> dict[tuple[Any, Any], tuple[Any, int]]:
        return {(r["usage_date"], r["BillingCurrency"]): (r["cost"], r["n"]) for r in listed(platform, expr)}

    a, b = keyed(left), keyed(right)
    return {
        key[0]: f"{key[1]}: {names[0]} has cost and rows {a.get(key)}, {names[1]} has {b.get(key)}"
        for key in a.keys() | b.keys()
        if a.get(key) != b.get(key)
    }
