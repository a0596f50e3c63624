"""Why a run failed, in a sentence for people: from failed checks, refusals of assets, and errors that name a cure.

What other libraries say is for the run's log alone: it may hold what nobody outside of it should read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import dagster as dg

from offgridflow_pipeline.database.pipeline.jobs import MAXIMUM_ERROR_LENGTH

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database

#: Dagster names errors with their module: texts of our own classes name place and cure.
_OURS = "offgridflow_pipeline."
#: What the database room says names servers: it is for operators.
_OPERATORS = "offgridflow_pipeline.database."
_CHECK_FAILED = "DagsterAssetCheckFailedError"


class _Error(Protocol):
    """An error as Dagster keeps it."""

    @property
    def message(self) -> str: ...

    @property
    def cause(self) -> _Error | None: ...


class Failure(NamedTuple):
    """Why an attempt failed; `refused`: the same request would fail again."""

    message: str
    refused: bool


def failure_of(instance: dg.DagsterInstance, database: Database, tenant: str, run_id: str) -> Failure:
    """Why the run failed: the failed check, else the first failed step, else its refusal, else that it was killed."""
    from offgridflow_pipeline.connectors.secrets.shapes import redacted

    found = _failed_check(database, tenant, run_id) or _failed_step(instance, run_id) or _refused(instance, run_id)
    if found is None:
        return Failure(f"The run ended before it was done; run {run_id} has the log.", refused=False)
    text = " ".join(redacted(found.message).split())
    if len(text) > MAXIMUM_ERROR_LENGTH:
        text = text[: MAXIMUM_ERROR_LENGTH - 1] + "…"
    return Failure(text, found.refused)


def _failed_check(database: Database, tenant: str, run_id: str) -> Failure | None:
    failed = database.check_ledger.failures(tenant, run_id)
    if not failed:
        return None
    first = failed[0]
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return Failure(f"Check {first.check_name} failed: {first.finding}{more}", refused=True)


def _failed_step(instance: dg.DagsterInstance, run_id: str) -> Failure | None:
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    for event in (record.event_log_entry.dagster_event for record in records):
        if event is None:
            continue
        data = event.step_failure_data
        if data.user_failure_data is not None:
            text = data.user_failure_data.description or "It was refused."
            return Failure(f"{event.step_key}: {text}", refused=True)
        if text := _our_words(data.error):
            return Failure(f"{event.step_key}: {text}", refused=False)
        return Failure(f"{event.step_key} failed unexpectedly; run {run_id} has the log.", refused=False)
    return None


def _refused(instance: dg.DagsterInstance, run_id: str) -> Failure | None:
    """Why the run was not begun, where it is one of ours that refused it (`standings.require_entitled`)."""
    for record in instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.RUN_FAILURE).records:
        event = record.event_log_entry.dagster_event
        if event is None or event.event_specific_data is None:  # the watchdog ended it: there is no error
            continue
        if text := _our_words(event.job_failure_data.error):
            return Failure(text, refused=True)
    return None


def _our_words(error: _Error | None) -> str:
    """What the first of our own errors among the causes says; empty when it was none of ours."""
    while error is not None:
        if error.message.startswith(_OURS) and not error.message.startswith(_OPERATORS):
            return error.message.partition(": ")[2]
        error = error.cause
    return ""
