"""Sessions end in time, rotate with rights, belong to one person; break-glass reads a tenant and says so there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.statements import RecordError
from offgridflow_pipeline.identity import accounts, break_glass, sessions, sign_in
from offgridflow_pipeline.identity.refusals import RefusedError
from offgridflow_pipeline_tests.identity.people import (
    PASSWORD,
    PEPPER,
    Person,
    TestMeans,
    age,
    audited,
    new_person,
    visitor,
)


@pytest.fixture
def means(api_database: Database) -> TestMeans:
    return TestMeans(api_database)


@pytest.fixture
def person(means: TestMeans) -> Person:
    return new_person(means.database)


def token_of(means: TestMeans, person: Person) -> str:
    return sign_in.sign_in(means, visitor(), person.email, PASSWORD).token


def is_live(means: TestMeans, token: str) -> bool:
    with means.database.requests.by_session(sessions.token_hmac(token, PEPPER), sessions.IDLE) as found:
        return found is not None


@pytest.mark.parametrize(
    "passed",
    [
        "last_seen_at = now() - interval '12 hours 1 second'",
        "expires_at = now() - interval '1 second'",
        "revoked_at = now()",
    ],
)
def test_a_session_ends_idle_after_its_life_or_when_revoked(means: TestMeans, person: Person, passed: str) -> None:
    token = token_of(means, person)
    assert is_live(means, token)
    age(means.database, f"update ogf.sessions set {passed} where user_id = :u", u=person.user_id)
    assert not is_live(means, token)


def test_a_session_lives_seven_days_at_most_and_is_touched_once_a_minute(means: TestMeans, person: Person) -> None:
    token = token_of(means, person)
    with means.database.requests.by_session(sessions.token_hmac(token, PEPPER), sessions.IDLE) as found:
        session, bound = found
        (row,) = sessions.live(bound, person.user_id)
        assert row.expires_at - row.created_at == pytest.approx(timedelta(days=7), abs=timedelta(seconds=1))
        sessions.touch(bound, session)
        assert sessions.live(bound, person.user_id)[0].last_seen_at == row.last_seen_at
    age(
        means.database,
        "update ogf.sessions set last_seen_at = now() - interval '2 minutes' where user_id = :u",
        u=person.user_id,
    )
    with means.database.requests.by_session(sessions.token_hmac(token, PEPPER), sessions.IDLE) as found:
        session, bound = found
        sessions.touch(bound, session)
        assert sessions.live(bound, person.user_id)[0].last_seen_at > session.last_seen_at


def test_a_rotated_token_opens_nothing_any_more(means: TestMeans, person: Person) -> None:
    old = token_of(means, person)
    with means.database.requests.by_session(sessions.token_hmac(old, PEPPER), sessions.IDLE) as found:
        session, bound = found
        new = sessions.rotate(bound, person.user_id, session.session_id, PEPPER)
    assert (is_live(means, old), is_live(means, new)) == (False, True)


def test_nobody_ends_or_sees_sessions_of_others(means: TestMeans, person: Person) -> None:
    other = new_person(means.database)
    token, others = token_of(means, person), token_of(means, other)
    with means.database.requests.by_session(sessions.token_hmac(others, PEPPER), sessions.IDLE) as found:
        target = found[0].session_id
    with means.database.requests.by_session(sessions.token_hmac(token, PEPPER), sessions.IDLE) as found:
        _, bound = found
        with pytest.raises(RefusedError, match="nothing here"):
            sessions.revoke(bound, "", person.user_id, target, visitor())
        with bound.user(person.user_id) as scope:
            seen = scope.connection.execute(sa.text("select distinct user_id from ogf.sessions")).scalars().all()
    assert seen == [person.user_id]
    assert is_live(means, others)


def test_signing_in_again_ends_the_session_that_is_replaced(means: TestMeans, person: Person) -> None:
    token = token_of(means, person)
    sessions.discard(means.database, token, PEPPER)
    sessions.discard(means.database, "no token", PEPPER)
    assert not is_live(means, token)


def test_a_tenant_that_is_not_ones_own_cannot_be_entered(
    means: TestMeans, person: Person, new_tenant: Callable[[], str]
) -> None:
    foreign, token = new_tenant(), token_of(means, person)
    with means.database.requests.by_session(sessions.token_hmac(token, PEPPER), sessions.IDLE) as found:
        session, bound = found
        for slug in (foreign, "there-is-none"):
            with pytest.raises(RefusedError, match="nothing here"):
                sessions.switch_tenant(bound, person.user_id, session.session_id, slug, visitor())


def test_break_glass_reads_as_an_auditor_for_hours_and_stands_in_the_tenants_log(
    means: TestMeans, database: Database, person: Person, new_tenant: Callable[[], str]
) -> None:
    tenant = new_tenant()
    give = lambda **how: break_glass.grant(database, tenant, person.user_id, **how)  # noqa: E731
    with pytest.raises(RefusedError, match="nothing here"):
        give(reason="look", lifetime=timedelta(hours=1))
    accounts.set_platform_role(database, person.user_id, "platform_engineer")
    for refused in ({"reason": " ", "lifetime": timedelta(hours=1)}, {"reason": "x", "lifetime": timedelta(hours=25)}):
        with pytest.raises(RefusedError):
            give(**refused)
    give(reason="ticket 7: totals differ", lifetime=timedelta(hours=1))
    token = token_of(means, person)
    with means.database.requests.by_session(sessions.token_hmac(token, PEPPER), sessions.IDLE) as found:
        session, bound = found
        assert session.tenant_id is None  # never entered by itself
        token, entered = sessions.switch_tenant(bound, person.user_id, session.session_id, tenant, visitor())
    assert entered.break_glass
    with means.database.requests.by_session(sessions.token_hmac(token, PEPPER), sessions.IDLE) as found:
        assert (found[0].slug, found[0].role, found[0].break_glass) == (tenant, "auditor", True)
    assert break_glass.revoke(database, tenant, person.user_id) == 1
    with means.database.requests.by_session(sessions.token_hmac(token, PEPPER), sessions.IDLE) as found:
        assert found[0].tenant_id is None
    assert [action for action, _ in audited(database, tenant)] == [
        "access:break_glass:granted", "access:break_glass:used", "access:break_glass:revoked",
    ]  # fmt: skip


def test_the_sidecar_can_neither_break_glass_nor_raise_anybody(
    api_database: Database, person: Person, new_tenant: Callable[[], str]
) -> None:
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        api_database.users.set_platform_role(person.user_id, "platform_operator")
    with pytest.raises((sa.exc.ProgrammingError, RecordError), match="permission denied"):
        api_database.break_glass.add(
            new_tenant(), person.user_id, reason="x", granted_by="me", lifetime=timedelta(hours=1)
        )
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        api_database.users.directory()


def test_the_pipeline_reads_no_credentials_and_no_sessions(database: Database, person: Person) -> None:
    for table in ("credentials", "sessions", "recovery_codes", "password_resets", "sign_in_failures"):
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied"), database.user(person.user_id) as scope:
            scope.connection.exec_driver_sql(f"select * from ogf.{table}")
