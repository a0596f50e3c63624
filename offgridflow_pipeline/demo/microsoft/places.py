"""Subscriptions and regions of the Azure bills, as their providers name them."""

from __future__ import annotations

from functools import cache

from offgridflow_pipeline.demo import fleet


@cache
def subscriptions(bill: str) -> dict[str, tuple[str, str]]:
    """(id, name) of each subscription of a bill by its role."""
    found = fleet.rows("azure_subscriptions.csv")
    return {row["role"]: (row["subscription_id"], row["name"]) for row in found if row["bill"] == bill}


@cache
def regions() -> dict[str, dict[str, str]]:
    """Names of each region: as shown, and as the meters spell it."""
    return {row["region"]: row for row in fleet.rows("azure_regions.csv")}
