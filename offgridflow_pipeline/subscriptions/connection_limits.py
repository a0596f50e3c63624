"""A plan that allows fewer connections: the newest beyond it are paused. Nothing is removed, or resumed unasked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offgridflow_pipeline.identity.audit import Action, record
from offgridflow_pipeline.subscriptions.entitlements import Entitlement
from offgridflow_pipeline.subscriptions.room import hold_back_others

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.subscriptions.plans import Plan


def pause_beyond(bound: Database, tenant: str, plan: Plan) -> list[str]:
    """Pause the connections beyond the plan in the bound transaction, newest first; returns their ids."""
    if plan.connections is None:
        return []
    hold_back_others(bound, tenant, Entitlement.CONNECTIONS)
    read = sorted(bound.connections.list(tenant, paused=False), key=lambda row: (row.created_at, row.connection_id))
    beyond = [row.connection_id for row in read[plan.connections :]]
    for connection_id in reversed(beyond):
        bound.connections.pause(tenant, connection_id)
        record(
            bound,
            tenant,
            Action.CONNECTION_PAUSED,
            actor="system",
            target=connection_id,
            details={"reason": "plan_limit", "plan": plan.name, "limit": plan.connections},
        )
    return beyond
