"""What every asset has: owners, kinds, tags, description with grain and action on failure, column schema."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg

from offgridflow_pipeline.defs.partition_metadata import column_schema
from offgridflow_pipeline.lake import schemas

OWNERS = ["team:data-engineering"]


def asset_tags(cost_class: str = "medium", *, pii: bool = False) -> dict[str, str]:
    """Tags of an asset: tier, cost class, and whether rows may hold personal data (tags, names)."""
    return {"tier": "1", "cost_class": cost_class, "pii": "true" if pii else "false"}


def description(meaning: str, grain: str, source: str, on_failure: str) -> str:
    """Description in the form every asset has."""
    return f"{meaning}\n\n**Grain:** {grain}  \n**Source:** {source}  \n**On failure:** {on_failure}"


def lake_asset(
    name: str,
    *,
    group: str,
    partitions_def: dg.PartitionsDefinition[str],
    backfill_policy: dg.BackfillPolicy,
    on_failure: str,
    code_version: str | None = None,
    ins: dict[str, dg.AssetIn] | None = None,
    deps: Sequence[str] = (),
    pool: str | None = None,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Decorator for an asset that is a lake table: `name` is the table declared in `lake.schemas`."""
    table = schemas.table(name)

    def decorate(function: Callable[..., Any]) -> dg.AssetsDefinition:
        meaning = inspect.getdoc(function) or table.meaning
        return dg.asset(
            name=name,
            group_name=group,
            partitions_def=partitions_def,
            backfill_policy=backfill_policy,
            io_manager_key="lake_io",
            ins=ins,
            deps=[dg.AssetDep(upstream) for upstream in deps],
            pool=pool,
            kinds={"deltalake", "duckdb"},
            owners=OWNERS,
            tags=asset_tags(pii=name.endswith("lines")),
            code_version=code_version,
            description=description(
                meaning,
                f"{table.grain} x tenant",
                ", ".join((*(p for p in inspect.signature(function).parameters if p in schemas.TABLES), *deps))
                or "the tenant's connections",
                on_failure,
            ),
            metadata={"dagster/column_schema": column_schema(table), "lake/key": ", ".join(table.key)},
        )(function)

    return decorate
