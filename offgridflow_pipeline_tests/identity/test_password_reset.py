"""A new password by mail: the token is made for the mail, works once, for half an hour, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.identity import invitations, password_reset, sessions, sign_in, single_use
from offgridflow_pipeline.identity.rate_limits import RateLimiter, limits_of
from offgridflow_pipeline.identity.rate_stores import MemoryStore
from offgridflow_pipeline.identity.refusals import RefusedError
from offgridflow_pipeline_tests.identity.people import (
    PASSWORD,
    PEPPER,
    Person,
    TestMeans,
    age,
    audited,
    mails,
    new_person,
    visitor,
)

NEW = "amber-kite-field"
#: Seconds after which the strangers of a person may cause a mail again.
PAUSE = 900


@pytest.fixture
def means(api_database: Database) -> TestMeans:
    return TestMeans(api_database)


@pytest.fixture
def person(means: TestMeans) -> Person:
    return new_person(means.database)


def asked(means: TestMeans, person: Person) -> UUID:
    """Ask for a reset; returns the id that the last mail holds."""
    password_reset.request(means, visitor(), person.email)
    name, values = mails(means.database, to=person.email)[-1]
    assert name == "password_reset"
    return UUID(values["reset_id"])


def code_of(act: Callable[[], object]) -> str:
    with pytest.raises(RefusedError) as refused:
        act()
    return refused.value.code


def test_the_link_sets_a_password_once_and_ends_every_session(means: TestMeans, person: Person) -> None:
    begun = sign_in.sign_in(means, visitor(), person.email, PASSWORD)
    token = single_use.mint_reset(means.database, person.user_id, asked(means, person), PEPPER)
    assert password_reset.is_good(means, token)
    password_reset.reset(means, visitor(), token, NEW)
    with means.database.requests.by_session(sessions.token_hmac(begun.token, PEPPER), sessions.IDLE) as found:
        assert found is None
    assert code_of(lambda: sign_in.sign_in(means, visitor(), person.email, PASSWORD)) == "invalid_credentials"
    assert sign_in.sign_in(means, visitor(), person.email, NEW)
    assert code_of(lambda: password_reset.reset(means, visitor(), token, PASSWORD)) == "invalid_token"
    assert not password_reset.is_good(means, token)
    assert [name for name, _ in mails(means.database, to=person.email)] == ["password_reset", "password_changed"]
    assert ("auth:password:reset", "success") in audited(means.database, about=str(person.user_id))


def test_one_of_many_threads_uses_the_token(means: TestMeans, person: Person) -> None:
    token = single_use.mint_reset(means.database, person.user_id, asked(means, person), PEPPER)

    def reset(number: int) -> str:
        try:
            password_reset.reset(means, visitor(), token, f"{NEW}-{number}")
        except RefusedError as refused:
            return refused.code
        return f"{NEW}-{number}"

    with ThreadPoolExecutor(4) as threads:
        outcomes = list(threads.map(reset, range(8)))
    used = [outcome for outcome in outcomes if outcome.startswith(NEW)]
    assert len(used) == 1
    assert set(outcomes) - set(used) == {"invalid_token"}
    assert sign_in.sign_in(means, visitor(), person.email, used[0])


def test_a_weak_password_does_not_use_the_token_up(means: TestMeans, person: Person) -> None:
    token = single_use.mint_reset(means.database, person.user_id, asked(means, person), PEPPER)
    local = person.email.partition("@")[0]
    assert code_of(lambda: password_reset.reset(means, visitor(), token, f"{local}-2026")) == "weak_password"
    password_reset.reset(means, visitor(), token, NEW)


def test_asking_or_mailing_again_voids_the_link_before(means: TestMeans, person: Person) -> None:
    first = asked(means, person)
    old = single_use.mint_reset(means.database, person.user_id, first, PEPPER)
    newer = single_use.mint_reset(means.database, person.user_id, first, PEPPER)
    assert not password_reset.is_good(means, old)
    assert password_reset.is_good(means, newer)
    asked(means, person)
    assert not password_reset.is_good(means, newer)
    with pytest.raises(single_use.NothingToMintError):
        single_use.mint_reset(means.database, person.user_id, first, PEPPER)


def test_the_link_ends_after_half_an_hour(means: TestMeans, person: Person) -> None:
    token = single_use.mint_reset(means.database, person.user_id, asked(means, person), PEPPER)
    age(
        means.database,
        "update ogf.password_resets set expires_at = expires_at - interval '30 minutes' where user_id = :u",
        u=person.user_id,
    )
    assert code_of(lambda: password_reset.reset(means, visitor(), token, NEW)) == "invalid_token"


class Clock:
    """Seconds that tests let pass."""

    def __init__(self) -> None:
        self.seconds = 0

    def __call__(self) -> int:
        return self.seconds * 1_000_000_000


@pytest.fixture
def clock(means: TestMeans) -> Clock:
    """The clock of the rate limits, which count from now on."""
    found = Clock()
    means.rate_limiter = RateLimiter(MemoryStore(found), PEPPER)
    return found


def ask(means: TestMeans, email: str, ip: str) -> str:
    """As the routes ask: first counted and answered, then done. Returns what the visitor is told."""
    try:
        known = password_reset.require_request_rate(means, visitor(ip=ip), email)
    except RefusedError as refused:
        return refused.code
    password_reset.request(means, visitor(ip=ip), known)
    return "accepted"


def last_link(means: TestMeans, person: Person) -> str:
    """The token that the newest mail brings."""
    _, values = mails(means.database, to=person.email)[-1]
    return single_use.mint_reset(means.database, person.user_id, UUID(values["reset_id"]), PEPPER)


@pytest.mark.usefixtures("clock")
def test_a_stranger_uses_up_the_allowance_of_their_own_network_and_of_no_other(
    means: TestMeans, person: Person
) -> None:
    for email in (person.email, "nobody-at-all@alder.example"):
        told = [ask(means, email, f"2001:db8:7::{number}") for number in range(7)]
        assert told == ["accepted"] * 5 + ["too_many_attempts"] * 2, "one subscriber, whatever the address"
        assert ask(means, email, "198.51.100.9") == "accepted"


def test_strangers_of_many_networks_keep_nobody_out_and_fill_no_mailbox(
    means: TestMeans, person: Person, clock: Clock
) -> None:
    sign_in.sign_in(means, visitor(ip="203.0.113.7"), person.email, PASSWORD)
    strangers = iter(range(1, 200))

    def attacked(times: int) -> int:
        """Mails that so many requests bring, each from another network."""
        before = len(mails(means.database, to=person.email))
        told = {ask(means, person.email, f"198.51.100.{next(strangers)}") for _ in range(times)}
        assert told == {"accepted"}, "nobody learns that the person exists"
        return len(mails(means.database, to=person.email)) - before

    assert attacked(20) == 5
    assert ("auth:password:reset_requested", "too_many") in audited(means.database, about=str(person.user_id))
    # From where they signed in before, the person is not held up; elsewhere, what strangers asked for opens their door.
    assert ask(means, person.email, "203.0.113.7") == "accepted"
    assert len(mails(means.database, to=person.email)) == 6
    assert attacked(1) == 0
    assert password_reset.is_good(means, last_link(means, person))
    clock.seconds += PAUSE - 1
    assert attacked(20) == 0
    clock.seconds += 1
    assert attacked(20) == 1
    password_reset.reset(means, visitor(), last_link(means, person), NEW)


@pytest.mark.usefixtures("clock")
def test_an_ipv6_subscriber_is_known_again_under_the_address_of_another_day(means: TestMeans, person: Person) -> None:
    sign_in.sign_in(means, visitor(ip="2001:db8:1:2::aaaa"), person.email, PASSWORD)
    for number in range(6):
        ask(means, person.email, f"198.51.100.{number}")

    def brings_a_mail(ip: str) -> bool:
        before = len(mails(means.database, to=person.email))
        assert ask(means, person.email, ip) == "accepted"
        return len(mails(means.database, to=person.email)) > before

    assert brings_a_mail("2001:db8:1:2::bbbb")
    assert not brings_a_mail("2001:db8:1:3::aaaa"), "another subscriber"


def test_a_link_of_the_last_mail_still_works_for_a_while_when_strangers_used_the_allowance_up() -> None:
    (limit,) = limits_of("password_reset.elsewhere")
    assert limit.window_seconds / limit.quota == PAUSE
    assert password_reset.LIFETIME.total_seconds() >= 2 * PAUSE


def test_an_address_without_account_gets_no_mail_and_the_log_holds_no_address(means: TestMeans) -> None:
    password_reset.request(means, visitor(), "stranger-of-resets@alder.example")
    assert mails(means.database, to="stranger-of-resets@alder.example") == []
    assert audited(means.database, about="stranger-of-resets") == []
    assert audited(means.database)[-1] == ("auth:password:reset_requested", "unknown_address")


def test_requests_are_limited_alike_for_every_address(api_database: Database, person: Person) -> None:
    for email in (person.email, "nobody-asks@alder.example"):
        means = TestMeans(api_database, rate_limiter=RateLimiter(MemoryStore(), PEPPER))
        for _ in range(5):
            assert password_reset.require_request_rate(means, visitor(), email.upper()) == email
        refused = code_of(lambda m=means, e=email: password_reset.require_request_rate(m, visitor(), e))
        assert refused == "too_many_attempts"


def test_a_token_of_one_kind_is_none_of_the_other(means: TestMeans, person: Person) -> None:
    token = single_use.mint_reset(means.database, person.user_id, asked(means, person), PEPPER)
    assert code_of(lambda: invitations.look(means, visitor(), token)) == "invalid_token"


def test_changing_the_password_ends_the_others_and_rotates_this_session(means: TestMeans, person: Person) -> None:
    here, there = (sign_in.sign_in(means, visitor(), person.email, PASSWORD) for _ in range(2))
    with means.database.requests.by_session(sessions.token_hmac(here.token, PEPPER), sessions.IDLE) as found:
        session, bound = found
        token = password_reset.change(
            means, bound, "", person.user_id, session.session_id, visitor(), current=PASSWORD, new=NEW
        )
    for ended in (here.token, there.token):
        with means.database.requests.by_session(sessions.token_hmac(ended, PEPPER), sessions.IDLE) as found:
            assert found is None
    with means.database.requests.by_session(sessions.token_hmac(token, PEPPER), sessions.IDLE) as found:
        assert found[0].session_id == session.session_id
    assert sign_in.sign_in(means, visitor(), person.email, NEW)
