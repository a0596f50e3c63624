"""Limits of the plan in routes: `plan_limit` problems, and the checks that need to count in the handler's transaction.

What is allowed is decided in `subscriptions`; here a refusal becomes an answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from offgridflow_pipeline.identity.refusals import RefusedError
from offgridflow_pipeline.sidecar.entrance.problems import FieldProblem, Problem
from offgridflow_pipeline.subscriptions import room
from offgridflow_pipeline.subscriptions.entitlements import Decision, Entitlement, check, standing_of

if TYPE_CHECKING:
    from datetime import date
    from uuid import UUID

    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.identity.invitations import Admission
    from offgridflow_pipeline.settings import Settings
    from offgridflow_pipeline.sidecar.entrance.caller import Caller

CODE: Final = "plan_limit"


class PlanLimit(Problem):
    """403: the plan or the billing state does not allow it. `cause` is the decision's code, for translations."""

    def __init__(self, decision: Decision) -> None:
        wrong = FieldProblem(pointer="", message=decision.reason, code=decision.code)
        super().__init__(403, CODE, decision.reason, errors=[wrong])
        self.cause = decision.code


def require(decision: Decision) -> None:
    """Pass only when it is allowed.

    Raises:
        PlanLimit: it is not.
    """
    if not decision.allowed:
        raise PlanLimit(decision)


def require_entitled(caller: Caller, entitlement: Entitlement, amount: int = 1) -> None:
    """Pass only when the tenant's plan and billing state allow it; see `entitlements.check` for `amount`.

    Raises:
        PlanLimit: they do not.
    """
    require(check(caller.standing, entitlement, amount))


def require_connection(caller: Caller, connection_id: str) -> None:
    """Pass only when the plan has room for reading that connection too; see `require`."""
    require(room.for_connection(caller.database, caller.tenant, caller.standing, connection_id))


def require_invitation(caller: Caller, role: str, *, address: str = "", again: UUID | None = None) -> None:
    """Pass only when the plan has room for one more in that role; see `require`."""
    require(room.for_invitation(caller.database, caller.tenant, caller.standing, role, address=address, again=again))


def require_resending(caller: Caller, invitation_id: UUID) -> None:
    """Pass only when there is room for who is invited again: the first invitation may have ended; see `require`."""
    row = caller.database.invitations.get(caller.tenant, invitation_id)
    if row is not None:
        require_invitation(caller, row.role, again=invitation_id)


def require_role(caller: Caller, user_id: UUID, role: str) -> None:
    """Pass only when the plan has room for the member in that role; see `require`."""
    require(room.for_role_change(caller.database, caller.tenant, caller.standing, user_id, role))


def require_history(caller: Caller, first: date, today: date) -> None:
    """Pass only when the plan reaches back to that day; see `require`."""
    require_entitled(caller, Entitlement.HISTORY_DAYS, (today - first).days)


def admission(settings: Settings) -> Admission:
    """Whether an organisation has room for who accepts its invitation: a refusal, for who is not yet a caller."""

    def admit(bound: Database, tenant: str, role: str) -> None:
        standing = standing_of(bound, settings, tenant)
        if not room.for_member(bound, tenant, standing, role).allowed:
            raise RefusedError(CODE, "The organisation's plan has no place left: ask who invited you.")

    return admit
