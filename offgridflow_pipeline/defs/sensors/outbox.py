"""Outbox: sends what the sidecar did not, a safety net. The sidecar sends right after a commit.

Connects as the sidecar does: tokens of resets and invitations are written in people's scopes, which the pipeline's own
role never reaches.
"""

import dagster as dg

from offgridflow_pipeline.settings import load_settings


@dg.sensor(
    name="outbox",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Sends mails that are due, and removes those settled more than 30 days ago. Launches no runs.",
)
def outbox() -> dg.SkipReason:
    """One emptying of the outbox."""
    from offgridflow_pipeline.database.engine import connect
    from offgridflow_pipeline.notifications.delivery import drain

    settings = load_settings()
    database = connect(settings, role="ogf_api")
    try:
        sent = drain(database, settings)
    finally:
        database.close()
    return dg.SkipReason(f"Mails sent: {sent}." if sent else "No mail was due.")
