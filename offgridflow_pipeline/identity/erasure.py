"""Erasure of a person who asks for it (GDPR, article 17): one transaction, for good.

What names them goes: name, address, credentials, sessions, mails, invitations. What they did stays under their id,
which leads to nobody any more: audit chains hold ids alone, so they stay whole, and so do reports and approvals.

Two things the operator's role alone may do, so they come before, and stay done when the erasure is refused: a platform
role is taken back, and bodies of Stripe's events that hold the address are forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from offgridflow_pipeline.database.engine import PLATFORM_SLUG
from offgridflow_pipeline.database.people.memberships import LastOwnerError
from offgridflow_pipeline.database.scopes import of_person, turned_to
from offgridflow_pipeline.identity import memberships
from offgridflow_pipeline.identity.audit import Action, record
from offgridflow_pipeline.identity.refusals import RefusedError, not_found
from offgridflow_pipeline.identity.visits import Visitor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.database.tenants import Tenant

ACTOR = "system"


def erase(database: Database, user_id: UUID, everywhere: Sequence[Tenant]) -> None:
    """Erase the person, as the operator; `everywhere` are all tenants: who was only invited is known there too.

    They leave every tenant first: API keys they made and invitations of theirs end. Afterwards the address is free.

    Raises:
        RefusedError: `not_found`; `last_owner`, a tenant that is not closed would have no owner left: nothing was
            changed.
    """
    with of_person(database, user_id) as bound:
        person = bound.users.get(user_id)
        if person is None:
            raise not_found()
        removed = bound.erasures.address(PLATFORM_SLUG, person.email)
        for tenant in everywhere:
            with turned_to(bound, user_id, tenant.tenant_id, tenant.slug) as there:
                _leave(there, tenant.slug, user_id)
                removed += there.erasures.address(tenant.slug, person.email)
        bound.erasures.person(user_id)
        record(
            bound, PLATFORM_SLUG, Action.USER_ERASED, actor=ACTOR, target=f"user:{user_id}",
            details={"mails_and_invitations": removed},
        )  # fmt: skip


def _leave(there: Database, tenant: str, user_id: UUID) -> None:
    """End the membership, also one that has expired, and what the person gave."""
    member = there.memberships.get(tenant, user_id, locked=True)
    memberships.withdraw(there, tenant, user_id, "", by=ACTOR, visitor=Visitor())
    if member is None:
        return
    try:
        there.memberships.remove(tenant, user_id)
    except LastOwnerError:
        raise RefusedError(
            "last_owner", f"{tenant} would have no owner left: make somebody else owner first. Nothing was erased."
        ) from None
    record(there, tenant, Action.MEMBER_REMOVED, actor=ACTOR, target=f"user:{user_id}", details={"role": member.role})
