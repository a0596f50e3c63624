"""Metadata that each partition of a lake asset shows in the Dagster UI.

Numeric keys are constant per asset, so that the UI plots them over time. Nothing here is a figure of a
report: reports read `report_facts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from offgridflow_pipeline.lake import schemas

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from offgridflow_pipeline.lake.engine import Engine


def column_schema(table: schemas.Table) -> dg.TableSchema:
    """Dagster column schema of a declared table, with units and meanings."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=str(column.type),
                description=column.meaning + (f" [{column.unit}]" if column.unit else ""),
                constraints=dg.TableColumnConstraints(nullable=column.nullable),
            )
            for column in table.columns
        ]
    )


def _aggregates(table: schemas.Table, rows: ir.Table) -> dict[str, Any]:
    if table.name == "report_facts":
        return {"rows": rows.count()}
    found: dict[str, Any] = {"rows": rows.count()}
    for measure in ("kwh", "co2e_lbm_kg", "co2e_mbm_kg", "embodied_kg", "upstream_energy_kg"):
        if measure in table.column_names:
            found[measure] = rows[measure].sum()
    if cost := _cost_column(table):
        found["billed_cost"] = rows[cost].sum()
    if table.name == "emission_lines":
        usage = rows.disposition.isin(["mapped", "proxied", "unmapped"])
        found["usage_cost"] = rows.billed_cost.sum(where=usage)
        found["covered_usage_cost"] = rows.billed_cost.sum(where=rows.disposition.isin(["mapped", "proxied"]))
        found["unmapped_rows"] = rows.count(where=rows.disposition == "unmapped")
        found["dq_mean"] = rows.dq_score.mean()
    return found


def partition_metadata(
    engine: Engine, table: schemas.Table, written: ir.Table, partitions: Sequence[Any]
) -> dict[str, dict[str, Any]]:
    """Metadata per partition key (ISO day, or first day of the month), read back from what was written."""
    by_partition = {} if engine.is_known_empty(written) else _sums(engine, table, written)
    found: dict[str, dict[str, Any]] = {}
    for partition in partitions:
        row = by_partition.get(partition, {})
        key = partition.isoformat() if table.grain == "day" else f"{partition}-01"
        metadata = {
            name: float(row.get(name) or 0)
            for name in _metadata_names(table)
            if name not in ("rows", "usage_cost", "covered_usage_cost")
        }
        metadata["dagster/partition_row_count"] = int(row.get("rows") or 0)
        if table.name == "emission_lines":
            usage = float(row.get("usage_cost") or 0)
            covered = float(row.get("covered_usage_cost") or 0)
            metadata["coverage_percent"] = 100.0 * covered / usage if usage else 100.0
        found[key] = metadata
    return found


def _sums(engine: Engine, table: schemas.Table, written: ir.Table) -> dict[Any, dict[str, Any]]:
    """The aggregates of every partition with rows."""
    column = table.partition
    if table.name == "ghg_inventory":  # its other rows break the same total down
        written = written.filter(written.breakdown == "total")
    summary = written.group_by(column).aggregate(**_aggregates(table, written)).order_by(column)
    return {row[column]: row for row in engine.to_arrow(summary).to_pylist()}


def _metadata_names(table: schemas.Table) -> list[str]:
    names: list[str] = [
        m for m in ("kwh", "co2e_lbm_kg", "co2e_mbm_kg", "embodied_kg", "upstream_energy_kg")
        if m in table.column_names
    ]  # fmt: skip
    if _cost_column(table):
        names.append("billed_cost")
    if table.name == "emission_lines":
        names += ["unmapped_rows", "dq_mean"]
    return names


def _cost_column(table: schemas.Table) -> str | None:
    """The typed cost column of a line table; extracts hold text and the inventory breaks cost down."""
    names = [c.name for c in table.columns if c.name in ("billed_cost", "BilledCost") and c.type == schemas.MONEY]
    return names[0] if names and table.name != "ghg_inventory" else None
