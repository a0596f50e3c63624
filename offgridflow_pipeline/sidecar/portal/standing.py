"""What pages say of the organisation's plan and billing state: the banner on every page, and why a form was refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from offgridflow_pipeline.subscriptions.entitlements import COUNTED

if TYPE_CHECKING:
    from offgridflow_pipeline.sidecar.entrance.caller import Caller
    from offgridflow_pipeline.sidecar.portal.texts import Texts

#: States of which everybody of the organisation is told, and the kind of the message.
_TOLD = {"grace": "wait", "restricted": "bad", "suspended": "bad"}
LIMIT = "plan_limit_"


@dataclass(frozen=True, slots=True)
class Banner:
    """A message on every page of the organisation."""

    kind: str
    text: str


def banner(texts: Texts, caller: Caller | None) -> Banner | None:
    """What everybody of the organisation should know of its subscription; None while there is nothing."""
    if caller is None or caller.tenant_id is None or (kind := _TOLD.get(caller.standing.state)) is None:
        return None
    if caller.standing.state != "grace":
        return Banner(kind, texts(f"banner.{caller.standing.state}"))
    return Banner(kind, texts("banner.grace", day=texts.day(caller.restricted_at))) if caller.restricted_at else None


def limit_met(texts: Texts, caller: Caller | None, cause: str) -> str | None:
    """Why the plan did not allow it; None when it would: no link can say otherwise."""
    if caller is None or caller.tenant_id is None:
        return None
    standing = caller.standing
    if not standing.works:
        return texts(f"error.{LIMIT}{standing.state}") if cause == standing.state else None
    if cause in COUNTED:
        limit: int | None = getattr(standing.plan, cause)
        if limit is None:
            return None
        return texts.count(f"error.{LIMIT}{cause}", limit, plan=texts.label("plan", standing.plan.name))
    if cause == "api" and not standing.plan.has_api:
        return texts(f"error.{LIMIT}api", plan=texts.label("plan", standing.plan.name))
    return None
