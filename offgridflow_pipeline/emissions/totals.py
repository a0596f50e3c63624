"""Daily totals of the ledger: exact sums per account, service, region, disposition and basis.

Nothing is decided here; every key was decided when the ledger line was written. Fixed-point sums, so the
result does not depend on row order, chunks or threads. Null measures are skipped: they are coverage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from offgridflow_pipeline.lake.schemas import MEASURES, SCOPE_TOTALS

if TYPE_CHECKING:
    import ibis.expr.types as ir

_CONSTANTS = ("tenant_id", "factor_set_sha", "method_id")


def scope_totals(emission_lines: ir.Table) -> ir.Table:
    """Rows of `schemas.SCOPE_TOTALS` from ledger lines; null measures where no line has one."""
    keys = [*_CONSTANTS, *SCOPE_TOTALS.key]
    sums = {name: emission_lines[name].sum().cast("decimal(38, 12)") for name in MEASURES}
    totals = emission_lines.group_by(keys).aggregate(
        line_count=emission_lines.count(),
        billed_cost=emission_lines.billed_cost.sum().cast("decimal(38, 18)"),
        **sums,
    )
    return totals.select(*SCOPE_TOTALS.column_names)
