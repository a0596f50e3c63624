"""A mail server, settings that name it, and people with mails."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import UUID

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline_tests.counterparts.smtp import MailServer, smtp_server


@pytest.fixture(scope="module")
def running_smtp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailServer]:
    with smtp_server(tmp_path_factory.mktemp("smtp")) as server:
        yield server


@pytest.fixture
def smtp(running_smtp: MailServer) -> MailServer:
    """A mail server with STARTTLS that has received nothing yet and follows no script."""
    running_smtp.start_over()
    return running_smtp


def settings_for(server: MailServer | None, environment: str = "test") -> Settings:
    """Settings of a test that send to the server; without one they send nowhere."""
    return Settings(
        _env_file=None,
        environment=environment,
        public_url="https://ogf.example",
        mail_from="OffGridFlow <noreply@ogf.example>",
        smtp_url=SecretStr(server.url if server else ""),
        smtp_ca_bundle=server.ca_bundle if server else None,
    )


@pytest.fixture
def settings(smtp: MailServer) -> Settings:
    return settings_for(smtp)


@pytest.fixture
def outbox(api_database: Database, database: Database) -> Database:
    """The database as the sidecar sees it, with no mail of other tests."""
    with database.admin_engine.begin() as connection:
        connection.execute(sa.text("delete from ogf.email_outbox"))
    return api_database


@dataclass(frozen=True)
class Person:
    user_id: UUID
    email: str


@pytest.fixture
def new_person(database: Database) -> Callable[..., Person]:
    """Adds a person; with a tenant, as its member; `muted` are templates they declined."""

    def add(tenant: str | None = None, muted: tuple[str, ...] = ()) -> Person:
        person = Person(uuid.uuid4(), f"p-{uuid.uuid4().hex[:12]}@example.org")
        with database.admin_engine.begin() as connection:
            connection.execute(
                sa.text(
                    "insert into ogf.users (user_id, email, display_name, muted_mail)"
                    " values (:user_id, :email, 'Ada', :muted)"
                ),
                {"user_id": person.user_id, "email": person.email, "muted": list(muted)},
            )
            if tenant is not None:
                connection.execute(
                    sa.text(
                        "insert into ogf.memberships (tenant_id, user_id, role, granted_by)"
                        " select tenant_id, :user_id, 'analyst', 'system' from ogf.tenants where slug = :slug"
                    ),
                    {"user_id": person.user_id, "slug": tenant},
                )
        return person

    return add


@pytest.fixture
def pass_time(database: Database) -> Callable[[str], None]:
    """Makes every mail older, and due sooner, by an interval such as '5 minutes'."""

    def older(interval: str) -> None:
        with database.admin_engine.begin() as connection:
            connection.execute(
                sa.text(
                    "update ogf.email_outbox set created_at = created_at - cast(:interval as interval),"
                    " next_at = next_at - cast(:interval as interval)"
                ),
                {"interval": interval},
            )

    return older
