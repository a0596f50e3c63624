"""Accounts of people: made and disabled by the operator, described by the person themself."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from offgridflow_pipeline.database.engine import PLATFORM_SLUG
from offgridflow_pipeline.database.people.users import AddressTakenError
from offgridflow_pipeline.database.scopes import NOBODY, of_address, of_person, turned_to
from offgridflow_pipeline.identity import memberships, password_reset, passwords, profiles, second_factor
from offgridflow_pipeline.identity.audit import Action, record
from offgridflow_pipeline.identity.refusals import RefusedError, not_found
from offgridflow_pipeline.identity.visits import Visitor, tell

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.database.people.users import DirectoryEntry, PersonRow

_PROFILE = {
    "name": ("display_name", profiles.display_name),
    "locale": ("locale", profiles.locale),
    "muted_mail": ("muted_mail", profiles.muted_mail),
}


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account that was made, and its password where it was made too: to be shown once."""

    user_id: UUID
    password: str = field(repr=False)


def add(database: Database, email: str, name: str, *, locale: str = "en", password: str = "") -> NewAccount:
    """Make an account; without a password it gets one of 144 bits.

    Raises:
        RefusedError: `already_member` (the address is taken), `weak_password`, or a value has the wrong form.
    """
    known, shown = profiles.address(email), profiles.display_name(name)
    if password:
        passwords.require_strong(password, [known, shown])
    given = password or secrets.token_urlsafe(18)
    password_hash = passwords.hash_password(given)
    user_id = uuid4()
    with of_person(database, user_id) as bound:
        try:
            bound.users.add(user_id, known, shown, profiles.locale(locale))
        except AddressTakenError:
            raise RefusedError("already_member", f"There is a user {known} already.", field="email") from None
        bound.credentials.set_password(user_id, password_hash)
        record(bound, PLATFORM_SLUG, Action.USER_ADDED, actor="system", target=f"user:{user_id}")
    return NewAccount(user_id, given)


def add_member(
    database: Database, user_id: UUID, tenant: str, role: str, *, expires_at: datetime | None = None
) -> None:
    """Make a person member of a tenant, as the operator: its first owner, or people of a demonstration.

    Raises:
        RefusedError: `already_member`.
        UnknownTenantError: no tenant has that slug.
    """
    with database.tenant(tenant) as scope:
        bound = database.within(scope)
        if not bound.memberships.add(tenant, user_id, role, granted_by="system", expires_at=expires_at):
            raise RefusedError("already_member", f"The person is a member of {tenant} already.")
        record(bound, tenant, Action.MEMBER_ADDED, actor="system", target=f"user:{user_id}", details={"role": role})


def find(database: Database, email: str) -> PersonRow:
    """The active person of the address.

    Raises:
        RefusedError: `not_found`.
    """
    known = profiles.address(email)
    with of_address(database, known) as (user_id, bound):
        person = bound.users.get(user_id) if user_id != NOBODY else None
    if person is None:
        raise RefusedError("not_found", f"There is no active user {known}: `offgridflow user list` shows all.")
    return person


def listed(database: Database, email: str) -> DirectoryEntry:
    """The person of the address, active or disabled. `database` is connected as the operator.

    Raises:
        RefusedError: `not_found`.
    """
    found = next((row for row in database.users.directory() if row.email == email.strip().lower()), None)
    if found is None:
        raise not_found()
    return found


def set_password(database: Database, user_id: UUID, password: str = "") -> str:
    """Give the person a password, as the operator, and end their sessions; returns it.

    Raises:
        RefusedError: `weak_password`.
    """
    if password:
        passwords.require_strong(password)
    given = password or secrets.token_urlsafe(18)
    password_hash = passwords.hash_password(given)
    with of_person(database, user_id) as bound:
        if (person := bound.users.get(user_id)) is None:
            raise not_found()
        password_reset.store(bound, person, password_hash)
        bound.sessions.revoke_all(user_id)
        record(bound, PLATFORM_SLUG, Action.PASSWORD_CHANGED, actor="system", target=f"user:{user_id}")
    return given


def set_status(database: Database, user_id: UUID, *, active: bool) -> None:
    """Disable the person, or enable them again; either way they sign in anew.

    What a disabled person gave ends with them, as when they leave: API keys they made, invitations that are open.
    """
    with of_person(database, user_id) as bound:
        if not active:
            for tenant in bound.users.tenants(user_id):
                with turned_to(bound, user_id, tenant.tenant_id, tenant.slug) as there:
                    memberships.withdraw(there, tenant.slug, user_id, "", by="system", visitor=Visitor())
        bound.users.change(user_id, {"status": "active" if active else "disabled"})
        bound.sessions.revoke_all(user_id)
        bound.password_resets.void(user_id)
        action = Action.USER_ENABLED if active else Action.USER_DISABLED
        record(bound, PLATFORM_SLUG, action, actor="system", target=f"user:{user_id}")


def set_platform_role(database: Database, user_id: UUID, role: str | None) -> None:
    """Make the person platform staff, or no more. `database` is connected as the operator."""
    with of_person(database, user_id) as bound:
        bound.users.set_platform_role(user_id, role)
        record(
            bound,
            PLATFORM_SLUG,
            Action.PLATFORM_ROLE_CHANGED,
            actor="system",
            target=f"user:{user_id}",
            details={"role": role},
        )


def remove_second_factor(database: Database, user_id: UUID) -> bool:
    """Forget the second factor of a person who lost it and the recovery codes, as the operator; ends their sessions.

    The person's identity was checked by other means. False when there was none.
    """
    with of_person(database, user_id) as bound:
        person = bound.users.get(user_id)
        removed = bound.credentials.remove_second_factor(user_id)
        if removed and person is not None:
            second_factor.notify_change(bound, person, "removed")
            bound.sessions.revoke_all(user_id)
            record(bound, PLATFORM_SLUG, Action.SECOND_FACTOR_REMOVED, actor="system", target=f"user:{user_id}")
    return removed


def change_profile(
    bound: Database, tenant: str, user_id: UUID, values: Mapping[str, Any], visitor: Visitor
) -> PersonRow:
    """Set name, locale or declined mail of the person themself: those that `values` names.

    Raises:
        RefusedError: a value has the wrong form.
    """
    columns = {column: check(values[name]) for name, (column, check) in _PROFILE.items() if name in values}  # type: ignore[operator]
    if columns:
        bound.users.change(user_id, columns)
        tell(
            bound, tenant, user_id, Action.USER_CHANGED, visitor, target=f"user:{user_id}",
            details={"fields": sorted(values)},
        )  # fmt: skip
    person = bound.users.get(user_id)
    if person is None:
        raise not_found()
    return person
