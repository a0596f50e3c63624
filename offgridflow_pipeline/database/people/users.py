"""People as rows: who there is, what they prefer, which tenants they belong to. Their credentials: `credentials`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa

from offgridflow_pipeline.database.statements import RecordError

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database


class AddressTakenError(ValueError):
    """Somebody has that address already."""


@dataclass(frozen=True, slots=True)
class PersonRow:
    """A person who signs in."""

    user_id: UUID
    email: str
    display_name: str
    locale: str
    platform_role: str | None
    status: str
    muted_mail: list[str]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class MyTenant:
    """A tenant that a person may work in, and as what; `expires_at` ends it by itself."""

    tenant_id: UUID
    slug: str
    display_name: str
    role: str
    expires_at: datetime | None
    break_glass: bool


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """A person as the operator lists them; `tenants` are `slug:role`."""

    user_id: UUID
    email: str
    display_name: str
    status: str
    platform_role: str | None
    tenants: list[str]


_COLUMNS = ", ".join(PersonRow.__dataclass_fields__)
_MY_TENANT = ", ".join(MyTenant.__dataclass_fields__)
_DIRECTORY = ", ".join(DirectoryEntry.__dataclass_fields__)
_CHANGEABLE = frozenset({"display_name", "locale", "muted_mail", "status"})


class Users:
    """People, as rows of their own scope."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, user_id: UUID, email: str, display_name: str, locale: str = "en") -> None:
        """Add an active person under an id that the caller made.

        Raises:
            AddressTakenError: somebody has the address already.
            RecordError: a value has the wrong form.
        """
        with self._database.user(user_id) as scope:
            try:
                with scope.connection.begin_nested():
                    scope.connection.execute(
                        sa.text(
                            "insert into ogf.users (user_id, email, display_name, locale)"
                            " values (:user_id, :email, :display_name, :locale)"
                        ),
                        {"user_id": user_id, "email": email, "display_name": display_name, "locale": locale},
                    )
            except sa.exc.IntegrityError as error:
                constraint = getattr(getattr(error.orig, "diag", None), "constraint_name", "")
                if constraint == "users_email_key":
                    raise AddressTakenError(f"There is a user {email} already.") from None
                raise RecordError(f"users, {constraint}: the value has the wrong form. Nothing was written.") from None

    def get(self, user_id: UUID) -> PersonRow | None:
        """The person; None when there is no such one."""
        with self._database.user(user_id) as scope:
            row = scope.connection.execute(
                sa.text(f"select {_COLUMNS} from ogf.users where user_id = :user_id"), {"user_id": user_id}
            ).one_or_none()
        return PersonRow(*row) if row else None

    def change(self, user_id: UUID, values: Mapping[str, Any]) -> None:
        """Set name, locale, declined mail or status: the columns that `values` names, and no others."""
        if strange := values.keys() - _CHANGEABLE:
            raise KeyError(f"not a column that may be changed: {sorted(strange)}")
        if not values:
            return
        assignments = ", ".join(f"{name} = :{name}" for name in sorted(values))
        with self._database.user(user_id) as scope:
            scope.connection.execute(
                sa.text(f"update ogf.users set {assignments}, updated_at = clock_timestamp() where user_id = :user_id"),
                {**values, "user_id": user_id},
            )

    def set_platform_role(self, user_id: UUID, role: str | None) -> None:
        """Make the person platform staff, or no more; only the operator's role may."""
        with self._database.user(user_id) as scope:
            scope.connection.execute(
                sa.text(
                    "update ogf.users set platform_role = :role, updated_at = clock_timestamp()"
                    " where user_id = :user_id"
                ),
                {"role": role, "user_id": user_id},
            )

    def tenants(self, user_id: UUID) -> list[MyTenant]:
        """Tenants the person may work in now, by slug: memberships and break-glass grants."""
        with self._database.user(user_id) as scope:
            rows = scope.connection.execute(sa.text(f"select {_MY_TENANT} from ogf.my_tenants()")).all()
        return [MyTenant(*row) for row in rows]

    def directory(self) -> Sequence[DirectoryEntry]:
        """Everybody, by address; only the operator's role may."""
        with self._database.application_engine.begin() as connection:
            rows = connection.execute(sa.text(f"select {_DIRECTORY} from ogf.user_directory()")).all()
        return [DirectoryEntry(*row) for row in rows]
