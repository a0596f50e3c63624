"""People for tests: means without limits, accounts with a known password, authenticators."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field
from functools import cache
from uuid import UUID

import pyotp
import pytest
import sqlalchemy as sa

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.identity import accounts, passwords, second_factor, sessions, sign_in
from offgridflow_pipeline.identity.rate_limits import RateLimiter
from offgridflow_pipeline.identity.rate_stores import MemoryStore
from offgridflow_pipeline.identity.visits import Visitor
from offgridflow_pipeline.settings import Settings

PASSWORD = "violet-lamp-river"
PEPPER = b"a pepper of tests"
_hashed = cache(passwords.hash_password)


class Unlimited(RateLimiter):
    """Counts nothing: tests of other things sign in often."""

    def refusal(self, policy: str, key: str) -> None:
        return None


@dataclass
class TestMeans:
    """What `Services` is to the sidecar."""

    __test__ = False
    database: Database
    settings: Settings = field(default_factory=lambda: Settings(_env_file=None, environment="test"))
    pepper: bytes = PEPPER
    rate_limiter: RateLimiter = field(default_factory=lambda: Unlimited(MemoryStore(), PEPPER))


@dataclass
class Person:
    user_id: UUID
    email: str
    password: str = PASSWORD
    secret: str = ""


def visitor(**changes: str) -> Visitor:
    values = {"ip": "203.0.113.7", "user_agent": "Firefox", "request_id": uuid.uuid4().hex}
    return Visitor(**{**values, **changes}, pepper=PEPPER)


def new_account(database: Database, email: str, name: str, password: str = PASSWORD) -> accounts.NewAccount:
    """`accounts.add`; equal passwords get one hash, which is as costly to make as many requests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "hash_password", _hashed)
        return accounts.add(database, email, name, password=password)


def new_person(database: Database, tenant: str = "", role: str = "viewer", password: str = PASSWORD) -> Person:
    email = f"p-{uuid.uuid4().hex[:12]}@alder.example"
    made = new_account(database, email, "Olga Owner", password)
    if tenant:
        accounts.add_member(database, made.user_id, tenant, role)
    return Person(made.user_id, email, password)


def enrolled(means: TestMeans, person: Person) -> tuple[Person, list[str]]:
    """The person with an authenticator; and their recovery codes. The code of the step before is used up."""
    begun = sign_in.sign_in(means, visitor(), person.email, person.password)
    with means.database.requests.by_session(sessions.token_hmac(begun.token, means.pepper), sessions.IDLE) as found:
        session, bound = found
        offered = second_factor.offer(means, bound, person.user_id)
        codes = second_factor.confirm(
            means, bound, session.slug or "", person.user_id, session.session_id, code_of(offered.secret, -1), visitor()
        )
    person.secret = offered.secret
    return person, codes


def code_of(secret: str, steps: int = 0) -> str:
    return pyotp.TOTP(secret).generate_otp(int(time.time()) // second_factor.STEP_SECONDS + steps)


def mails(database: Database, tenant: str = "platform", to: str = "") -> list[tuple[str, dict[str, str]]]:
    return [(mail.template, dict(mail.vars)) for mail in database.outbox.list(tenant) if to in ("", mail.to_addr)]


def audited(database: Database, tenant: str = "platform", about: str = "") -> list[tuple[str, str]]:
    """(action, outcome) of the events of a chain that name `about`."""
    slug = database.platform() if tenant == "platform" else database.tenant(tenant)
    with slug as scope:
        rows = scope.connection.execute(
            sa.text("select body from ogf.audit_events where tenant_id = :tenant_id order by seq"),
            {"tenant_id": scope.tenant_id},
        ).scalars()
        events = [json.loads(body) for body in rows if about in body]
    return [(event["action"], event["outcome"]) for event in events]


def age(database: Database, statement: str, **values: object) -> None:
    """Change rows as time would: as administrator, who is under no policy."""
    with database.admin_engine.begin() as connection:
        connection.execute(sa.text(statement), values)
