"""Invitations into a tenant: by mail, for 7 days, for one role; accepted by a new person or by one who proves themself.

Accepting signs nobody in. Which roles may be given is decided in `memberships`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID, uuid4

from offgridflow_pipeline.database.people.users import AddressTakenError
from offgridflow_pipeline.database.scopes import NOBODY, of_address, of_person, turned_to
from offgridflow_pipeline.identity import passwords
from offgridflow_pipeline.identity.audit import Action, record
from offgridflow_pipeline.identity.keyed_hashes import keyed_hash
from offgridflow_pipeline.identity.memberships import Granter, require_fitting_end, require_grantable
from offgridflow_pipeline.identity.profiles import address, display_name, locale
from offgridflow_pipeline.identity.refusals import RefusedError, invalid_credentials, invalid_token, not_found
from offgridflow_pipeline.identity.visits import require_rate, tell, user_actor

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.database.people.invitations import InvitationFound, InvitationRow
    from offgridflow_pipeline.identity.visits import Means, Visitor

LIFETIME = timedelta(days=7)
#: Asked in the transaction of the acceptance whether the tenant takes one more of the role; raises RefusedError.
Admission: TypeAlias = "Callable[[Database, str, str], None]"


@dataclass(frozen=True, slots=True)
class Offer:
    """An invitation as who holds its link sees it."""

    tenant: str
    tenant_name: str
    email: str
    role: str
    has_account: bool


@dataclass(frozen=True, slots=True)
class NewPerson:
    """What a person without account says when they accept."""

    name: str
    password: str
    locale: str = "en"


def invite(
    means: Means,
    bound: Database,
    tenant: str,
    tenant_name: str,
    granter: Granter,
    *,
    email: str,
    role: str,
    expires_at: datetime | None,
    language: str,
    visitor: Visitor,
) -> InvitationRow:
    """Invite an address in the bound transaction, mail included; an older invitation of it is void.

    `expires_at` ends an auditor's membership; `language` is that of the mail.

    Raises:
        RefusedError: `invalid_address`, `already_member`, `too_many_attempts`, or as for `require_grantable`.
    """
    known = address(email)
    require_grantable(granter, role, expires_at)
    if bound.memberships.has_address(tenant, known):
        raise RefusedError("already_member", "This person is a member already: change their role.", field="email")
    require_rate(means.rate_limiter, "invitations", tenant)
    row = bound.invitations.add(
        tenant,
        known,
        role,
        invited_by=user_actor(granter.user_id),
        lifetime=LIFETIME,
        membership_expires_at=expires_at,
    )
    _mail(bound, tenant, tenant_name, row, locale(language), "first")
    tell(
        bound, tenant, granter.user_id, Action.MEMBER_INVITED, visitor, target=f"invitation:{row.invitation_id}",
        details={"role": role},
    )  # fmt: skip
    return row


def invite_as_operator(
    database: Database, tenant: str, *, email: str, role: str, expires_at: datetime | None, language: str
) -> InvitationRow:
    """Invite an address as the operator: the first owner of a tenant, say.

    Raises:
        RefusedError: as for `invite`.
        UnknownTenantError: no tenant has that slug.
    """
    known = address(email)
    require_fitting_end(role, expires_at)
    with database.tenant(tenant) as scope:
        bound = database.within(scope)
        if bound.memberships.has_address(tenant, known):
            raise RefusedError("already_member", "This person is a member already: change their role.", field="email")
        row = bound.invitations.add(
            tenant, known, role, invited_by="system", lifetime=LIFETIME, membership_expires_at=expires_at
        )
        _mail(bound, tenant, bound.tenants.get(tenant).display_name, row, locale(language), "first")
        record(
            bound,
            tenant,
            Action.MEMBER_INVITED,
            actor="system",
            target=f"invitation:{row.invitation_id}",
            details={"role": role},
        )
    return row


def resend(
    means: Means,
    bound: Database,
    tenant: str,
    tenant_name: str,
    granter: Granter,
    invitation_id: UUID,
    *,
    language: str,
    visitor: Visitor,
) -> InvitationRow:
    """Send the mail again with another link and seven more days; the link before is void.

    Raises:
        RefusedError: `not_found`, `role_not_grantable`, `too_many_attempts`.
    """
    row = bound.invitations.get(tenant, invitation_id)
    if row is None:
        raise not_found()
    require_grantable(granter, row.role, row.membership_expires_at)
    require_rate(means.rate_limiter, "invitations", tenant)
    if not bound.invitations.prolong(tenant, invitation_id, LIFETIME):
        raise not_found()
    _mail(bound, tenant, tenant_name, row, locale(language), visitor.request_id or str(uuid4()))
    tell(
        bound, tenant, granter.user_id, Action.MEMBER_INVITED, visitor, target=f"invitation:{invitation_id}",
        details={"role": row.role, "again": True},
    )  # fmt: skip
    return bound.invitations.get(tenant, invitation_id) or row


def revoke(bound: Database, tenant: str, user_id: UUID, invitation_id: UUID, visitor: Visitor) -> None:
    """Withdraw an invitation.

    Raises:
        RefusedError: `not_found`, it is accepted or revoked already, or is another's.
    """
    if not bound.invitations.revoke(tenant, invitation_id):
        raise not_found()
    tell(bound, tenant, user_id, Action.INVITATION_REVOKED, visitor, target=f"invitation:{invitation_id}")


def look(means: Means, visitor: Visitor, token: str) -> Offer:
    """What the link offers; uses nothing.

    Raises:
        RefusedError: `invalid_token`, `too_many_attempts`.
    """
    found, _ = _found(means, visitor, token)
    with of_address(means.database, found.email) as (user_id, _bound):
        has_account = user_id != NOBODY
    return Offer(found.slug, found.tenant_name, found.email, found.role, has_account)


def accept_signed_in(
    means: Means, user_id: UUID, email: str, token: str, visitor: Visitor, *, admit: Admission | None = None
) -> Offer:
    """Accept as who is signed in.

    Raises:
        RefusedError: `invalid_token`, `wrong_account` (the invitation is for another address), `already_member`, or
            of `admit`.
    """
    found, token_hash = _found(means, visitor, token)
    if email != found.email:
        raise RefusedError(
            "wrong_account", "The invitation is for another address: sign out first, or sign in with that address."
        )
    return _accept(means, user_id, found, token_hash, visitor, admit=admit)


def accept_with_password(
    means: Means, token: str, password: str, visitor: Visitor, *, admit: Admission | None = None
) -> Offer:
    """Accept as a person who has an account and proves it by their password.

    Raises:
        RefusedError: `invalid_token`, `invalid_credentials`, `already_member`, `too_many_attempts`, `busy`, or of
            `admit`.
    """
    found, token_hash = _found(means, visitor, token)
    require_rate(means.rate_limiter, "sign_in.account", keyed_hash("sign_in_address", found.email, means.pepper).hex())
    with of_address(means.database, found.email) as (user_id, bound):
        credential = bound.credentials.get(user_id)
    if not passwords.verify(credential.password_hash if credential else None, password):
        with of_person(means.database, user_id) as bound:
            tell(bound, "", user_id, Action.INVITATION_ACCEPTED, visitor, outcome="failure")
        raise invalid_credentials()
    return _accept(means, user_id, found, token_hash, visitor, admit=admit)


def accept_as_new(
    means: Means, token: str, person: NewPerson, visitor: Visitor, *, admit: Admission | None = None
) -> Offer:
    """Accept as a person without account: it is made with the invitation's address. What is refused uses nothing up.

    Raises:
        RefusedError: `invalid_token`, `invalid_name`, `invalid_locale`, `weak_password`, `password_required` (the
            address has an account: prove it), `too_many_attempts`, `busy`, or of `admit`.
    """
    found, token_hash = _found(means, visitor, token)
    name, language = display_name(person.name), locale(person.locale)
    passwords.require_strong(person.password, [found.email, name, found.slug, found.tenant_name])
    password_hash = passwords.hash_password(person.password)
    user_id = uuid4()
    return _accept(means, user_id, found, token_hash, visitor, admit=admit, new=(name, language, password_hash))


def _accept(
    means: Means,
    user_id: UUID,
    found: InvitationFound,
    token_hash: bytes,
    visitor: Visitor,
    *,
    admit: Admission | None,
    new: tuple[str, str, str] | None = None,
) -> Offer:
    """Use the token, make the account where there is none, and add the member: one transaction."""
    with (
        of_person(means.database, user_id) as outer,
        turned_to(outer, user_id, found.tenant_id, found.slug) as bound,
    ):
        if admit is not None:
            admit(bound, found.slug, found.role)
        if new is not None:
            _make_account(bound, user_id, found.email, *new)
        row = bound.invitations.accept(found.slug, found.invitation_id, token_hash, user_id)
        if row is None:
            raise invalid_token()
        if not bound.memberships.add(
            found.slug, user_id, row.role, granted_by=row.invited_by, expires_at=row.membership_expires_at
        ):
            raise RefusedError("already_member", "You are a member already.")
        target = f"invitation:{found.invitation_id}"
        if new is not None:
            tell(bound, found.slug, user_id, Action.USER_ADDED, visitor, target=f"user:{user_id}")
        tell(bound, found.slug, user_id, Action.INVITATION_ACCEPTED, visitor, target=target, details={"role": row.role})
    return Offer(found.slug, found.tenant_name, found.email, found.role, has_account=True)


def _make_account(bound: Database, user_id: UUID, email: str, name: str, language: str, password_hash: str) -> None:
    try:
        bound.users.add(user_id, email, name, language)
    except AddressTakenError:
        raise RefusedError(
            "password_required", "There is an account of this address: accept with its password.", field="password"
        ) from None
    bound.credentials.set_password(user_id, password_hash)


def _found(means: Means, visitor: Visitor, token: str) -> tuple[InvitationFound, bytes]:
    require_rate(means.rate_limiter, "token_use.address", visitor.ip)
    token_hash = keyed_hash("invitation", token, means.pepper)
    found = means.database.invitations.by_token(token_hash)
    if found is None:
        raise invalid_token()
    return found, token_hash


def _mail(bound: Database, tenant: str, tenant_name: str, row: InvitationRow, language: str, key: str) -> None:
    """In the tenant's own outbox: the person may not exist yet."""
    bound.outbox.add(
        tenant,
        "invitation",
        to=row.email,
        user_id=None,
        locale=language,
        variables={"invitation_id": str(row.invitation_id), "organisation": tenant_name},
        dedupe_key=f"invitation:{row.invitation_id}:{key}",
    )
