"""Copies daily scope totals of a tenant's days into PostgreSQL, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from offgridflow_pipeline.defs.resources import Platform

if TYPE_CHECKING:
    import ibis.expr.types as ir

_KEYS = {
    "usage_date": "usage_date",
    "scope": "scope",
    "s3_category": "s3_category",
    "x_Provider": "provider",
    "SubAccountId": "sub_account",
    "ServiceName": "service",
    "RegionId": "region",
    "disposition": "disposition",
    "BillingCurrency": "currency",
}
_SUMS = ("line_count", "billed_cost", "kwh", "co2e_lbm_kg", "co2e_mbm_kg", "embodied_kg", "upstream_energy_kg")


def publish_scope_totals(platform: Platform, tenant: str, days: Sequence[date], totals: ir.Table) -> int:
    """Replace the tenant's days in the serving table; returns the number of rows served."""
    grouped = totals.group_by(list(_KEYS)).aggregate(**{name: totals[name].sum() for name in _SUMS})
    rows = platform.engine.to_arrow(grouped.rename({new: old for old, new in _KEYS.items()})).to_pylist()
    platform.database.scope_totals.replace(tenant, list(days), rows)
    return len(rows)
