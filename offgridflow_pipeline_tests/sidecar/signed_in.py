"""A person of a role with a session in a tenant, for tests of routes that keys may not use."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import sqlalchemy as sa

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.identity import accounts, sessions
from offgridflow_pipeline.identity.visits import Visitor
from offgridflow_pipeline.settings import DEVELOPMENT_SECRET
from offgridflow_pipeline_tests.identity.people import new_person

ORIGIN = "http://127.0.0.1:8000"


@dataclass(frozen=True)
class Session:
    """Whose session it is; `headers` are those of a browser on our own pages."""

    tenant: str
    user_id: UUID
    token: str

    @property
    def headers(self) -> dict[str, str]:
        """Cookie and origin."""
        return {"Cookie": f"ogf_session={self.token}", "Origin": ORIGIN}


def signed_in(
    database: Database, tenant: str, role: str, *, second_factor: bool = True, stepped_up: bool = True
) -> Session:
    """A new member of that role, signed in a moment ago; `database` is connected as ogf_api."""
    person = new_person(database)
    ends = datetime.now(UTC) + timedelta(days=9) if role == "auditor" else None
    accounts.add_member(database, person.user_id, tenant, role, expires_at=ends)
    visitor = Visitor(ip="203.0.113.7", user_agent="Firefox", request_id="r", pepper=DEVELOPMENT_SECRET.encode())
    with database.tenant(tenant) as scope:
        tenant_id = scope.tenant_id
    with database.user(person.user_id) as scope:
        bound = database.within(scope)
        token = sessions.start(bound, person.user_id, visitor, active_tenant=tenant_id, second_factor=second_factor)
    if not stepped_up:
        with database.admin_engine.begin() as connection:
            connection.execute(
                sa.text(
                    "update ogf.sessions set stepped_up_at = now() - interval '16 minutes' where user_id = :user_id"
                ),
                {"user_id": person.user_id},
            )
    return Session(tenant, person.user_id, token)
