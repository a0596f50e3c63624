"""Transactions of a person: their own rows, and beside them the platform's (its audit chain, mail to people).

Who signs in has proved nothing yet: for an address that nobody has, the same statements run for `NOBODY` and find
nothing, so that time and number of statements tell nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import UUID

import sqlalchemy as sa

from offgridflow_pipeline.database.engine import (
    PLATFORM,
    PLATFORM_SLUG,
    TENANT_SETTING,
    TenantScope,
    UserScope,
    enter,
    enter_user,
)

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database

#: The user that nobody is: no row of it can exist in a table that refers to users.
NOBODY = UUID(int=0)


@contextmanager
def of_person(database: Database, user_id: UUID) -> Iterator[Database]:
    """A transaction as the person and the platform; commits at the end of the block."""
    with database.application_engine.begin() as connection:
        enter_user(connection, user_id)
        enter(connection, PLATFORM)
        yield database.within(UserScope(connection, user_id), TenantScope(connection, PLATFORM, PLATFORM_SLUG))


@contextmanager
def of_address(database: Database, email: str) -> Iterator[tuple[UUID, Database]]:
    """As `of_person` for who has that address; `NOBODY` when nobody does, or is disabled."""
    with database.application_engine.begin() as connection:
        found = connection.scalar(sa.text("select ogf.user_by_email(:email)"), {"email": email})
        user_id = found if found is not None else NOBODY
        enter_user(connection, user_id)
        enter(connection, PLATFORM)
        scopes = UserScope(connection, user_id), TenantScope(connection, PLATFORM, PLATFORM_SLUG)
        yield user_id, database.within(*scopes)


@contextmanager
def turned_to(
    bound: Database, user_id: UUID, tenant_id: UUID = PLATFORM, slug: str = PLATFORM_SLUG
) -> Iterator[Database]:
    """The same transaction of the person, for the block in the scope of another tenant or of the platform.

    An exception undoes the block alone, its scope with it; the caller decides about the rest.
    """
    with bound.user(user_id) as scope:
        connection = scope.connection
        before = connection.scalar(sa.text(f"select current_setting('{TENANT_SETTING}', true)")) or ""
        with connection.begin_nested():
            enter(connection, tenant_id)
            yield bound.within(scope, TenantScope(connection, tenant_id, slug))
        connection.execute(sa.text(f"select set_config('{TENANT_SETTING}', :before, true)"), {"before": before})
