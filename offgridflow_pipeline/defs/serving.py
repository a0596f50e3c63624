"""Copies daily scope totals of a tenant's days into PostgreSQL and raises the data version, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offgridflow_pipeline.defs.resources import Platform

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


def publish_scope_totals(platform: Platform, tenant: str, days: Sequence[date], run_id: str) -> tuple[int, int]:
    """Replace the tenant's days in the serving table; returns the number of rows served and the new data version.

    The totals are read at one version of the lake table, the one that the data version cites: so what was served can
    be read again, whoever commits meanwhile.
    """
    versions = {name: platform.lake.version(tenant, name) for name in ("scope_totals", "emission_lines")}
    totals = platform.engine.table(platform.lake.slice(tenant, "scope_totals", days, versions["scope_totals"]))
    grouped = totals.group_by(list(_KEYS)).aggregate(**{name: totals[name].sum() for name in _SUMS})
    rows = platform.engine.to_arrow(grouped.rename({new: old for old, new in _KEYS.items()})).to_pylist()
    with platform.database.tenant(tenant) as scope:
        bound = platform.database.within(scope)
        bound.scope_totals.replace(tenant, list(days), rows)
        data_version = bound.publications.bump(tenant, "totals", versions, run_id)
    return len(rows), data_version
