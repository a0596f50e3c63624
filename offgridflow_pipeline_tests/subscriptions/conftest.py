"""An empty inbox, a shop, and tenants with people who hear of bills."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline_tests.subscriptions.shop import Shop


@pytest.fixture
def shop(database: Database) -> Shop:
    """A shop of this test alone: no event or customer of another test is in the way."""
    with database.admin_engine.begin() as connection:
        connection.execute(sa.text("delete from ogf.external_events"))
        connection.execute(sa.text("delete from ogf.subscriptions"))
    return Shop(database)


@pytest.fixture
def add_person(database: Database) -> Callable[..., uuid.UUID]:
    """Adds a member without a password; returns its id."""

    def add(tenant: str, role: str, expires: str | None = None) -> uuid.UUID:
        person = uuid.uuid4()
        with database.admin_engine.begin() as connection:
            connection.execute(
                sa.text("insert into ogf.users (user_id, email, display_name) values (:id, :email, 'Ada')"),
                {"id": person, "email": f"{person.hex}@alder.example"},
            )
            connection.execute(
                sa.text(
                    "insert into ogf.memberships (tenant_id, user_id, role, granted_by, expires_at)"
                    " select tenant_id, :id, :role, 'system', cast(:expires as timestamptz)"
                    " from ogf.tenants where slug = :slug"
                ),
                {"id": person, "slug": tenant, "role": role, "expires": expires},
            )
        return person

    return add


@pytest.fixture
def tenant(new_tenant: Callable[[], str], add_person: Callable[..., uuid.UUID]) -> str:
    """A tenant with an owner."""
    slug = new_tenant()
    add_person(slug, "owner")
    return slug
