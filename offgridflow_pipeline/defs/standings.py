"""The gate of work: which tenants' runs are asked for and begun, and which reports they may have.

What a standing allows is decided in `subscriptions.entitlements` alone. Schedules and sensors ask before they request;
a run asks once, before it reads anything, so that one launched by hand is refused as well. Without Stripe nothing is
asked and everything is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from offgridflow_pipeline.defs.partitions import day_tenant, split_key
from offgridflow_pipeline.defs.run_coordinator import tenants_of
from offgridflow_pipeline.subscriptions.entitlements import Decision, Entitlement, Standing, check
from offgridflow_pipeline.subscriptions.plans import is_configured

if TYPE_CHECKING:
    from offgridflow_pipeline.defs.resources import Platform

#: Report artefacts of a run that makes a part of them only: others belong to earlier figures.
ARTEFACTS_TAG = "offgridflow/artefacts"
#: Dagster runs what failed before its first step again, unless its tags say how often.
_NO_RETRIES = {"dagster/max_retries": "0"}
_FORMATS = {
    "report_pdf": Entitlement.PDF,
    "report_ixbrl": Entitlement.IXBRL,
    "report_xbrl": Entitlement.XBRL,
    "report_workbook": Entitlement.WORKBOOK,
    "report_datapack": Entitlement.DATAPACK,
}


class NotEntitledError(PermissionError):
    """A run of a tenant whose subscription does not let it work; names the tenant and what helps."""


def format_decision(standing: Standing, artefact: str) -> Decision:
    """Whether the report artefact of that name (`report_pdf`) may be made."""
    return check(standing, _FORMATS[artefact])


def artefacts_of(standing: Standing) -> tuple[str, ...]:
    """Report artefacts that the standing allows."""
    return tuple(name for name in _FORMATS if format_decision(standing, name).allowed)


def without_barred(standing: Standing, assets: Sequence[str]) -> list[dg.AssetKey] | None:
    """The assets but for report artefacts that the plan has not, to select in a run; None when that is all of them."""
    allowed = artefacts_of(standing)
    if len(allowed) == len(_FORMATS):
        return None
    return [dg.AssetKey(name) for name in assets if name not in _FORMATS or name in allowed]


def artefact_tags(standing: Standing) -> dict[str, str]:
    """Tags of a run that makes the artefacts of the standing; none when that is all of them."""
    allowed = artefacts_of(standing)
    return {} if len(allowed) == len(_FORMATS) else {ARTEFACTS_TAG: " ".join(allowed)}


def published_artefacts(standing: Standing, tags: Mapping[str, str]) -> tuple[str, ...]:
    """Artefacts that a run with these tags publishes: those it was to make, whatever the plan is by now."""
    chosen = tags.get(ARTEFACTS_TAG, "").split()
    return tuple(name for name in artefacts_of(standing) if not chosen or name in chosen)


def require_entitled(platform: Platform, instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Pass a run whose tenants all may work; a refused one is not tried again by itself.

    Raises:
        NotEntitledError: a subscription of theirs is not paid, or has ended.
    """
    if not is_configured(platform.settings):
        return
    for tenant in _tenants(instance, run.tags):
        decision = check(platform.standing(tenant), Entitlement.RUNS)
        if not decision.allowed:
            instance.add_run_tags(run.run_id, _NO_RETRIES)
            raise NotEntitledError(f"No run for {tenant}. {decision.reason}")


def _tenants(instance: dg.DagsterInstance, tags: Mapping[str, str]) -> list[str]:
    """Tenants of the run's partitions, those between the ends of a range over several tenants included."""
    named = tenants_of(tags)
    if len(named) < 2:
        return sorted(named)
    ends = dg.PartitionKeyRange(*(tags[f"dagster/asset_partition_range_{end}"] for end in ("start", "end")))
    keys = day_tenant.get_partition_keys_in_range(ends, dynamic_partitions_store=instance)
    return sorted({split_key(key)[1] for key in keys})
