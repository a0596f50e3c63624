"""Reviewing, approving and issuing a report, for the API and the portal: the decision and its audit event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offgridflow_pipeline.database.pipeline.reports import Decision, ReportStateError
from offgridflow_pipeline.identity.audit import Action, record
from offgridflow_pipeline.sidecar.answering.public_ids import public_id
from offgridflow_pipeline.sidecar.entrance.audit_trail import trail
from offgridflow_pipeline.sidecar.entrance.problems import Problem, not_found

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from fastapi import Request

    from offgridflow_pipeline.database.pipeline.reports import Report
    from offgridflow_pipeline.sidecar.entrance.caller import Caller

_ACTIONS: Mapping[Decision, Action] = {
    "reviewed": Action.REPORT_REVIEWED,
    "approved": Action.REPORT_APPROVED,
    "issued": Action.REPORT_ISSUED,
}


def decide(caller: Caller, request: Request, report_id: UUID, decision: Decision) -> Report:
    """Take the report into the next state, in the transaction of the caller; deciding again changes nothing.

    Raises:
        Problem: 404 without such a report, 403 when who prepared it would approve it, 409 in another state.
    """
    try:
        decided = caller.database.reports.decide(caller.tenant, report_id, decision, by=caller.principal)
    except ReportStateError as error:
        raise Problem(403 if error.code == "same_person" else 409, error.code, str(error)) from None
    if decided is None:
        raise not_found()
    report, is_new = decided
    if is_new:
        record(
            caller.database,
            caller.tenant,
            _ACTIONS[decision],
            actor=caller.principal,
            target=public_id("rep", report_id),
            details={"period": report.period, "edition": report.edition},
            **trail(request),
        )
    return report
