"""`offgridflow user erase`: nothing names the person any more, what they did stays, and the audit chains stay whole."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from offgridflow_pipeline import settings as settings_module
from offgridflow_pipeline.cli import user
from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.server import catalog
from offgridflow_pipeline.identity import accounts, api_keys, invitations, password_reset, sign_in
from offgridflow_pipeline.identity.chains import ChainWalk
from offgridflow_pipeline.identity.permissions import Permission, permissions_of
from offgridflow_pipeline.identity.refusals import RefusedError
from offgridflow_pipeline_tests.counterparts.postgres import settings
from offgridflow_pipeline_tests.identity.people import (
    PASSWORD,
    Person,
    TestMeans,
    audited,
    enrolled,
    new_account,
    new_person,
    visitor,
)

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    known = settings(tmp_path, database.admin_engine.url)
    monkeypatch.setattr(settings_module, "load_settings", lambda: known)

    def command(*arguments: str, answer: str | None = None) -> tuple[int, str]:
        result = CliRunner().invoke(user.app, ["erase", *arguments], input=answer)
        return result.exit_code, result.output

    return command


@pytest.fixture
def means(api_database: Database) -> TestMeans:
    return TestMeans(api_database)


@pytest.fixture
def tenant(means: TestMeans, new_tenant: Callable[[], str]) -> str:
    """A tenant with an owner who stays."""
    slug = new_tenant()
    new_person(means.database, slug, "owner")
    return slug


@pytest.fixture
def person(means: TestMeans, tenant: str) -> Person:
    """An owner who did what leaves traces: signed in, was mailed, made a key."""
    token = uuid.uuid4().hex
    email = f"{token}@alder.example"
    made, _ = enrolled(means, Person(new_account(means.database, email, f"Zdenka {token}").user_id, email))
    accounts.add_member(means.database, made.user_id, tenant, "owner")
    password_reset.request(means, visitor(), email)
    with means.database.tenant(tenant) as scope:
        api_keys.create(
            means.database.within(scope), tenant, "of an owner", [Permission.EMISSIONS_READ],
            creator=f"user:{made.user_id}", creator_permissions=permissions_of("owner"),
        )  # fmt: skip
    return made


def _token(person: Person) -> str:
    """What stands in the name and in the address of the person, and nowhere else."""
    return person.email.partition("@")[0]


def rows_that_name(database: Database, text: str) -> Iterator[str]:
    """Tables with a row that holds the text anywhere, also within bytes."""
    with database.admin_engine.connect() as connection:
        tables = connection.execute(
            sa.text(
                "select c.oid::regclass::text, array(select quote_ident(a.attname) from pg_attribute a where"
                " a.attrelid = c.oid and a.atttypid = 'bytea'::regtype and not a.attisdropped) from pg_class c"
                " where c.relnamespace = 'ogf'::regnamespace and c.relkind = 'r'"
            )
        ).all()
        for table, of_bytes in tables:
            parts = ", ".join(["t::text", *(f"encode(t.{column}, 'escape')" for column in of_bytes)])
            if connection.scalar(
                sa.text(
                    f"select exists (select from {table} t where concat_ws(' ', {parts}) ilike '%' || :text || '%')"
                ),
                {"text": text},
            ):
                yield table


@pytest.fixture
def event(database: Database, person: Person) -> Iterator[str]:
    """An event of Stripe whose body holds the address as it was typed, settled."""
    event_id = f"evt_{uuid.uuid4().hex}"
    with database.admin_engine.begin() as connection:
        connection.execute(
            sa.text(
                "insert into ogf.external_events (source, external_id, event_type, event_created, livemode, payload,"
                " payload_sha256, state, settled_at) values ('stripe', :id, 'invoice.paid', now(), false, :payload,"
                " sha256(:payload), 'done', now())"
            ),
            {"id": event_id, "payload": json.dumps({"customer_email": person.email.capitalize()}).encode()},
        )
    yield event_id
    with database.admin_engine.begin() as connection:
        connection.execute(sa.text("delete from ogf.external_events where external_id = :id"), {"id": event_id})


def rows_of(database: Database, person: Person) -> set[str]:
    """Tables of people with a row of the person."""
    with database.admin_engine.connect() as connection:
        return {
            table
            for table in catalog.user_tables(connection)
            if connection.scalar(
                sa.text(f"select exists (select from {table} where user_id = :user_id)"), {"user_id": person.user_id}
            )
        }


@pytest.mark.usefixtures("event")
def test_no_row_names_the_person_any_more_and_what_they_did_stays_under_their_id(
    run: Run, database: Database, means: TestMeans, tenant: str, person: Person, new_tenant: Callable[[], str]
) -> None:
    only_invited = new_tenant()
    invitations.invite_as_operator(
        means.database, only_invited, email=person.email, role="viewer", expires_at=None, language="en"
    )
    named = {"ogf.users", "ogf.email_outbox", "ogf.invitations", "ogf.external_events"}
    assert named <= set(rows_that_name(database, _token(person)))
    done_before = audited(means.database, tenant)
    assert ("keys:created", "success") in done_before
    assert run(person.email, "--yes") == (0, f"Erased; audit logs know the person as user:{person.user_id}.\n")
    assert list(rows_that_name(database, _token(person))) == []
    after = audited(means.database, tenant)
    assert after[: len(done_before)] == done_before
    assert after[len(done_before) :] == [("keys:revoked", "success"), ("members:removed", "success")]
    assert audited(means.database, about=str(person.user_id))[-1] == ("users:erased", "success")
    walk = ChainWalk(tenant)
    for event in means.database.audit_log.events(tenant, after=0, limit=100):
        walk.step(event)
    assert walk.seq == means.database.audit_log.head(tenant).seq


def test_credentials_sessions_and_links_are_gone(run: Run, database: Database, person: Person) -> None:
    assert rows_of(database, person) >= {"ogf.credentials", "ogf.recovery_codes", "ogf.password_resets", "ogf.sessions"}
    assert run(person.email, "--yes")[0] == 0
    assert rows_of(database, person) == {"ogf.users"}


def test_who_is_erased_is_out_and_their_address_is_free(
    run: Run, database: Database, means: TestMeans, tenant: str, person: Person
) -> None:
    assert run(person.email, "--yes")[0] == 0
    with pytest.raises(RefusedError):
        sign_in.sign_in(means, visitor(), person.email, PASSWORD)
    row = next(row for row in database.users.directory() if row.user_id == person.user_id)
    assert (row.status, row.tenants) == ("disabled", [])
    assert [row.live for row in means.database.api_keys.list(tenant)] == [False]
    assert person.user_id not in [member.user_id for member in means.database.memberships.list(tenant)]
    assert new_account(means.database, person.email, "Somebody Else").user_id != person.user_id


def test_the_last_owner_is_not_erased_and_nothing_is_changed(
    run: Run, means: TestMeans, tenant: str, person: Person, new_tenant: Callable[[], str]
) -> None:
    alone = new_tenant()
    accounts.add_member(means.database, person.user_id, alone, "owner")
    code, output = run(person.email, "--yes")
    assert (code, f"{alone} would have no owner left" in output) == (1, True)
    assert [row.live for row in means.database.api_keys.list(tenant)] == [True]
    assert {one.slug for one in means.database.users.tenants(person.user_id)} == {alone, tenant}


def test_the_only_owner_of_a_closed_tenant_is_erased_and_of_a_suspended_one_not(
    run: Run, database: Database, means: TestMeans, person: Person, new_tenant: Callable[[], str]
) -> None:
    alone = new_tenant()
    accounts.add_member(means.database, person.user_id, alone, "owner")
    _set_status(database, alone, "suspended")
    assert run(person.email, "--yes")[0] == 1
    _set_status(database, alone, "closed")
    assert run(person.email, "--yes")[0] == 0
    assert rows_of(database, person) == {"ogf.users"}


def _set_status(database: Database, tenant: str, status: str) -> None:
    with database.admin_engine.begin() as connection:
        connection.execute(
            sa.text("update ogf.tenants set status = :status where slug = :slug"), {"status": status, "slug": tenant}
        )


def test_the_platform_role_is_taken_back_before_the_address_is_unknown(
    run: Run, database: Database, means: TestMeans, person: Person, new_tenant: Callable[[], str]
) -> None:
    accounts.set_platform_role(database, person.user_id, "platform_operator")
    accounts.add_member(means.database, person.user_id, new_tenant(), "owner")
    code, output = run(person.email, "--yes")
    assert (code, f"{person.email} is platform_operator no more." in output) == (1, True)
    row = accounts.listed(database, person.email)
    assert (row.platform_role, row.status) == (None, "active")


def test_the_operator_is_asked_and_may_still_say_no(run: Run, means: TestMeans, person: Person) -> None:
    code, output = run(person.email, answer="n\n")
    assert (code, "cannot be undone" in output) == (1, True)
    assert accounts.find(means.database, person.email).user_id == person.user_id
    assert run(person.email, answer="y\n")[0] == 0


def test_a_disabled_person_and_staff_of_the_platform_can_be_erased(
    run: Run, database: Database, means: TestMeans, person: Person
) -> None:
    accounts.set_platform_role(database, person.user_id, "platform_operator")
    accounts.set_status(means.database, person.user_id, active=False)
    assert run(person.email, "--yes")[0] == 0
    row = next(row for row in database.users.directory() if row.user_id == person.user_id)
    assert (row.email, row.status, row.platform_role, row.tenants) == (
        f"erased-{person.user_id}@erased.invalid", "disabled", None, [],
    )  # fmt: skip
    assert run("nobody-of-that-name@alder.example", "--yes")[0] == 1
