"""The job that asks every connection what is new and writes it down; it reads no bill and launches nothing.

The sensor `changed_sources` launches the runs. A connection that cannot be asked is marked as failing and does not
keep the others from being asked.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.subscriptions.entitlements import Entitlement, check

if TYPE_CHECKING:
    from offgridflow_pipeline.connectors.changes.survey import Surveyed
    from offgridflow_pipeline.connectors.connections import Connection


class SurveyScope(dg.Config):
    """Whom to survey: one tenant, or every active one."""

    tenant: str | None = None


@dg.op(description="Compares every connection of the tenants with what was committed; writes the days that differ.")
def survey_sources(context: dg.OpExecutionContext, config: SurveyScope, platform: Platform) -> None:
    """Write the changes of every connection; at the end fail if a source failed in a way we do not know."""
    from offgridflow_pipeline.connectors.secrets.shapes import redacted

    asked = failing = changes = 0
    faults: list[str] = []
    for tenant, connection in _connections(platform, _surveyed(context, platform, config.tenant), faults):
        asked += 1
        try:
            surveyed, new = _survey(platform, tenant, connection, context.run.run_id)
        except Exception as error:  # noqa: BLE001  the other connections come first; raised below unless expected
            failing += 1
            _note_failure(context, platform, tenant, connection, error, faults)
            continue
        changes += new
        failing += bool(surveyed.refused)
        for reason in surveyed.refused:
            context.log.warning(redacted(f"{tenant}, {connection.id}: {reason}"))
    context.add_output_metadata({"connections": asked, "failing_connections": failing, "new_changes": changes})
    if faults:
        raise dg.Failure("Some sources could not be surveyed:\n" + "\n".join(faults), allow_retries=False)


def _surveyed(context: dg.OpExecutionContext, platform: Platform, only: str | None) -> list[str]:
    """The tenants whose subscription lets them read bills.

    Raises:
        dagster.Failure: the one that was asked for is not among them.
    """
    found = []
    for slug in [only] if only else [tenant.slug for tenant in platform.database.tenants.list()]:
        decision = check(platform.standing(slug), Entitlement.SYNCS)
        if decision.allowed:
            found.append(slug)
        elif only:
            raise dg.Failure(f"{slug} is not surveyed. {decision.reason}", allow_retries=False)
        else:
            context.log.info(f"{slug}: {decision.reason}")
    return found


def _connections(platform: Platform, slugs: Sequence[str], faults: list[str]) -> "list[tuple[str, Connection]]":
    """Feeds of record of the tenants."""
    from offgridflow_pipeline.connectors.errors import ConnectionConfigError

    found: list[tuple[str, Connection]] = []
    for slug in slugs:
        try:
            connections = platform.connections(slug)
        except ConnectionConfigError as error:
            faults.append(f"{slug}: {error}")
            continue
        found += [(slug, c) for c in connections if c.is_feed and c.role == "record"]
    return found


def _survey(platform: Platform, tenant: str, connection: "Connection", run_id: str) -> "tuple[Surveyed, int]":
    """What is new at the connection, written down; and how many changes were not known before."""
    from offgridflow_pipeline.connectors.changes.survey import survey_changes
    from offgridflow_pipeline.connectors.connections import record_outcome
    from offgridflow_pipeline.connectors.reading.extracts import ReadLimits
    from offgridflow_pipeline.database.pipeline.changes import DetectedChange

    database, settings = platform.database, platform.settings
    observed_at = datetime.now(UTC)
    surveyed = survey_changes(
        platform.engine,
        platform.source(tenant, connection),
        connection,
        database.feed_states.read(tenant, connection.id),
        first=settings.history_start,
        today=observed_at.date(),
        limits=ReadLimits(settings.maximum_object_bytes, settings.maximum_compression_ratio),
    )
    detected = [
        DetectedChange(
            change.days.first,
            change.days.last,
            change.reason,
            change.version,
            {unit: seen.document() for unit, seen in change.observed.items()},
        )
        for change in surveyed.detection.changes
    ]
    new = database.source_changes.record(tenant, connection.id, detected, observed_at=observed_at)
    settled = {unit: seen.document() for unit, seen in surveyed.detection.settled.items()}
    database.feed_states.advance(tenant, connection.id, settled, observed_at=observed_at, run_id=run_id)
    record_outcome(database, tenant, connection.id, "; ".join(surveyed.refused) or None)
    return surveyed, new


def _note_failure(
    context: dg.OpExecutionContext,
    platform: Platform,
    tenant: str,
    connection: "Connection",
    error: Exception,
    faults: list[str],
) -> None:
    from offgridflow_pipeline.connectors.connections import record_outcome
    from offgridflow_pipeline.connectors.errors import (
        BillingObjectError,
        ConnectionConfigError,
        DeliveryError,
        SecretError,
    )

    context.log.warning(f"{tenant}, {connection.id}: {type(error).__name__}")
    record_outcome(platform.database, tenant, connection.id, error)
    if not isinstance(error, BillingObjectError | ConnectionConfigError | DeliveryError | SecretError):
        # The text may quote what a library sent: only its kind goes into Dagster's event log.
        faults.append(f"{tenant}, {connection.id}: {type(error).__name__}")


@dg.job(description="Asks every connection what is new; the sensor changed_sources launches the days that differ.")
def source_survey() -> None:
    """One op."""
    survey_sources()
