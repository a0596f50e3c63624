"""The nightly care of the audit log: signs the heads of all chains, keeps a copy in write-once storage, checks all.

The methods are in `identity.anchors` and `identity.audit_export`. Runs by default in production only, like every
schedule.
"""

import dagster as dg

from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.defs.schedules import IN_PRODUCTION


@dg.op(description="Signs the Merkle root over the heads of all audit chains; a second run of a day changes nothing.")
def anchor_audit_log(context: dg.OpExecutionContext, platform: Platform) -> None:
    """Make the anchor of today unless it stands, and keep its copy."""
    from offgridflow_pipeline.identity import anchors
    from offgridflow_pipeline.identity.signing import SigningRing

    settings = platform.settings
    made = anchors.make(platform.database, SigningRing.of(settings))
    kept = (
        anchors.keep(made.anchor, settings.audit_anchor_uri, settings.lake_storage_options)
        if settings.audit_anchor_uri
        else ""
    )
    context.add_output_metadata(
        {
            "date": made.anchor.anchor_date.isoformat(),
            "root": str(anchors.body_of(made.anchor)["root"]),
            "key_id": made.anchor.key_id,
            "new": made.new,
            "kept": kept or "database only: set OFFGRIDFLOW_AUDIT_ANCHOR_URI",
        }
    )


@dg.op(description="Checks every event and every anchor of all audit chains; fails where one is not as it was written.")
def verify_audit_log(context: dg.OpExecutionContext, platform: Platform) -> None:
    """Check all chains, note the result for telemetry, and fail when a chain is broken."""
    from offgridflow_pipeline.identity import anchors
    from offgridflow_pipeline.identity.audit_export import check_chains
    from offgridflow_pipeline.identity.signing import SigningRing

    settings = platform.settings
    kept = anchors.kept(settings.audit_anchor_uri, settings.lake_storage_options) if settings.audit_anchor_uri else None
    verdicts = list(check_chains(platform.database, SigningRing.of(settings).public, kept=kept))
    faults = [verdict.fault for verdict in verdicts if verdict.fault]
    platform.database.signals.record_verification(chains=len(verdicts), broken_chains=len(faults))
    context.add_output_metadata({"chains": len(verdicts), "broken_chains": len(faults)})
    if faults:
        raise dg.Failure("The audit log is not as it was written:\n" + "\n".join(faults), allow_retries=False)


@dg.job(description="Signs the heads of all audit chains and checks every chain; see docs/audit.md.")
def audit_anchor() -> None:
    """Two ops: a broken chain does not keep the others from being anchored, nor the other way round."""
    anchor_audit_log()
    verify_audit_log()


daily_audit_anchor = dg.ScheduleDefinition(
    name="daily_audit_anchor",
    job=audit_anchor,
    cron_schedule="5 0 * * *",
    execution_timezone="UTC",
    default_status=IN_PRODUCTION,
    description="Anchors the audit log just after midnight: what was written before can no longer be rewritten unseen.",
)
