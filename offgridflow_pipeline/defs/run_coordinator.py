"""Run coordinator that puts ``offgridflow/tenant`` on every run, UI backfills included.

Range runs carry only the range tags, so per-tenant concurrency limits would miss them (reference of
Dagster's behaviour: tag_concurrency_limits read run tags at dequeue).
"""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

TENANT_TAG = "offgridflow/tenant"
SEVERAL_TENANTS = "several"
_KEY_TAGS = (
    "dagster/asset_partition_range_start",
    "dagster/asset_partition_range_end",
    "dagster/partition",
)


def tenants_of(tags: Mapping[str, str]) -> set[str]:
    """Tenants named by a run's partition tags; empty for an unpartitioned run."""
    return {tags[tag].partition("|")[2] for tag in _KEY_TAGS if "|" in tags.get(tag, "")}


class TenantRunCoordinator(dg.QueuedRunCoordinator):
    """Queues runs, after tagging each with its tenant (or ``several``)."""

    def submit_run(self, context: dg.SubmitRunContext) -> dg.DagsterRun:
        """Tag the run with its tenant, then queue it."""
        found = tenants_of(context.dagster_run.tags)
        if found:
            tenant = found.pop() if len(found) == 1 else SEVERAL_TENANTS
            self._instance.add_run_tags(context.dagster_run.run_id, {TENANT_TAG: tenant})
        return super().submit_run(context)
