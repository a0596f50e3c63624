"""Notices that no request causes: a key is about to end, a closed month has changed data.

Owners and admins are told once of each; who is told what is decided here, when it runs in `defs`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from offgridflow_pipeline.notifications.outbox import enqueue

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database

#: A key is announced this long before it ends: time to rotate it.
KEY_NOTICE = timedelta(days=14)
TOLD_ROLES = frozenset({"owner", "admin"})


def write_notices(database: Database, tenant: str, now: datetime) -> int:
    """Write the mails that are due for the tenant, in one transaction; returns how many are new."""
    with database.tenant(tenant) as scope:
        bound = database.within(scope)
        organisation = bound.tenants.get(tenant).display_name
        people = [m for m in bound.memberships.list(tenant) if m.role in TOLD_ROLES and m.status == "active"]
        written = 0
        for template, cause, variables in (*_ending_keys(bound, tenant, now), *_changed_months(bound, tenant)):
            for person in people:
                written += enqueue(
                    bound,
                    tenant,
                    template,
                    to=person.email,
                    user_id=person.user_id,
                    locale=person.locale,
                    vars={"organisation": organisation, **variables},
                    dedupe_key=f"{template}:{cause}:{person.user_id}",
                )
    return written


def _ending_keys(bound: Database, tenant: str, now: datetime) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    keys = [key for key in bound.api_keys.list(tenant) if key.live]
    for key in keys:
        has_successor = any(other.name == key.name and other.expires_at > key.expires_at for other in keys)
        if key.expires_at - now <= KEY_NOTICE and not has_successor:
            yield "key_expiring", key.key_id, {"key_name": key.name, "expires_at": key.expires_at}


def _changed_months(bound: Database, tenant: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for found in bound.restatements.list(tenant, ["proposed"]):
        yield "restatement_proposed", str(found.restatement_id), {"period": found.month}
