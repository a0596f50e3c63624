"""The job that tries one connection: the smallest calls of everything it needs. It reads no bill and keeps nothing.

What it found stands in the metadata of its output: `job_settlement` hands it to the person who asked.
"""

from typing import TYPE_CHECKING

import dagster as dg

from offgridflow_pipeline.defs.resources import Platform

if TYPE_CHECKING:
    from offgridflow_pipeline.connectors.probe import Finding

#: Metadata of the output: a list of {step, ok, text}.
FINDINGS = "findings"


class ConnectionScope(dg.Config):
    """Which connection to try."""

    tenant: str
    connection_id: str


@dg.op(description="Tries everything that the connection needs, and says which right is missing.")
def try_connection(context: dg.OpExecutionContext, config: ConnectionScope, platform: Platform) -> None:
    """Note what each step came to; a step that failed is a finding, not a failure of the run."""
    findings = _findings(platform, config.tenant, config.connection_id)
    context.add_output_metadata(
        {
            FINDINGS: dg.MetadataValue.json([{"step": f.step, "ok": f.ok, "text": f.text} for f in findings]),
            "failed_steps": sum(not finding.ok for finding in findings),
        }
    )


def _findings(platform: Platform, tenant: str, connection_id: str) -> "list[Finding]":
    from offgridflow_pipeline.connectors.connections import from_row
    from offgridflow_pipeline.connectors.errors import ConnectionConfigError, SecretError
    from offgridflow_pipeline.connectors.probe import Finding, probe
    from offgridflow_pipeline.connectors.secrets.shapes import redacted
    from offgridflow_pipeline.database.pipeline.connections import UnknownConnectionError

    try:
        connection = from_row(platform.database.connections.get(tenant, connection_id))
        access = platform.access(tenant, connection)
    except (ConnectionConfigError, SecretError, UnknownConnectionError) as error:
        return [Finding("access", ok=False, text=redacted(str(error)))]
    return probe(connection, access)


@dg.job(description="Tries one connection on request: which right is missing, and what would cure it.")
def connection_test() -> None:
    """One op."""
    try_connection()
