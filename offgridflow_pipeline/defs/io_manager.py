"""Lake IO manager: assets take and return lazily evaluated tables, one per tenant.

An input is a mapping tenant -> Ibis table of the declared schema, restricted to that tenant's partitions
of the run; nothing is read until the output is written. An output is the same mapping; it is streamed
into one atomic Delta commit per tenant that replaces exactly the partitions of the run.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from offgridflow_pipeline.defs.partition_metadata import partition_metadata
from offgridflow_pipeline.defs.partitions import days_by_tenant, months_by_tenant
from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.lake import schemas

if TYPE_CHECKING:
    import ibis.expr.types as ir


class TenantMismatchError(ValueError):
    """An asset returned tables for other tenants than its partitions name."""


def partitions_by_tenant(table: schemas.Table, keys: list[str]) -> dict[str, list[Any]]:
    """Days or months per tenant for the table's grain."""
    return dict(days_by_tenant(keys) if table.grain == "day" else months_by_tenant(keys))


class LakeIOManager(dg.ConfigurableIOManager):
    """Reads and writes the lake table that has the asset's name."""

    platform: dg.ResourceDependency[Platform]

    def handle_output(self, context: dg.OutputContext, obj: Mapping[str, "ir.Table"]) -> None:
        """Write each tenant's table in one commit and report what each partition holds."""
        table = schemas.table(context.asset_key.path[-1])
        wanted = partitions_by_tenant(table, list(context.asset_partition_keys))
        if set(obj) != set(wanted):
            raise TenantMismatchError(
                f"{table.name} returned tenants {sorted(obj)}, its partitions name {sorted(wanted)}."
            )
        for tenant, partitions in wanted.items():
            reader = self.platform.engine.reader(obj[tenant], table)
            version = self.platform.lake.replace(tenant, table.name, partitions, reader, run_id=context.run_id)
            written = self.platform.engine.table(self.platform.lake.slice(tenant, table.name, partitions, version))
            for key, metadata in partition_metadata(self.platform.engine, table, written, partitions).items():
                context.step_context.add_asset_metadata(
                    metadata={**metadata, "lake_version": version},
                    asset_key=context.asset_key,
                    partition_key=f"{key}|{tenant}",
                )

    def load_input(self, context: dg.InputContext) -> dict[str, "ir.Table"]:
        """The upstream table per tenant, lazily, restricted to the mapped partitions."""
        table = schemas.table(context.asset_key.path[-1])
        wanted = partitions_by_tenant(table, list(context.asset_partition_keys))
        return {
            tenant: self.platform.engine.table(self.platform.lake.slice(tenant, table.name, partitions))
            for tenant, partitions in wanted.items()
        }
