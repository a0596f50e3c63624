"""New recovery codes: for password and authenticator shown now, in place of the old ones, told to their person."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.identity import second_factor, sessions, sign_in
from offgridflow_pipeline.identity.rate_limits import RateLimiter
from offgridflow_pipeline.identity.rate_stores import MemoryStore
from offgridflow_pipeline.identity.refusals import RefusedError
from offgridflow_pipeline_tests.identity.people import (
    PASSWORD,
    PEPPER,
    TestMeans,
    audited,
    code_of,
    enrolled,
    mails,
    new_person,
    visitor,
)


class Holder:
    """A person with a second factor, their codes, and a session of theirs."""

    def __init__(self, means: TestMeans) -> None:
        self.means = means
        self.person, self.codes = enrolled(means, new_person(means.database))
        self.token = self.sign_in(self.codes[0])

    def sign_in(self, code: str) -> str:
        return sign_in.sign_in(self.means, visitor(), self.person.email, PASSWORD, code).token

    def renew(self, code: str, password: str = PASSWORD) -> list[str]:
        means, person = self.means, self.person
        with means.database.requests.by_session(sessions.token_hmac(self.token, PEPPER), sessions.IDLE) as found:
            session, bound = found
            return second_factor.renew_recovery_codes(
                means, bound, "", person.user_id, session.session_id, visitor(), password=password, code=code
            )

    def refused(self, code: str, password: str = PASSWORD) -> str:
        with pytest.raises(RefusedError) as refusal:
            self.renew(code, password)
        return refusal.value.code

    def is_signed_in(self, token: str) -> bool:
        with self.means.database.requests.by_session(sessions.token_hmac(token, PEPPER), sessions.IDLE) as found:
            return found is not None


@pytest.fixture
def means(api_database: Database) -> TestMeans:
    return TestMeans(api_database)


@pytest.fixture
def holder(means: TestMeans) -> Holder:
    return Holder(means)


def code_now(holder: Holder) -> str:
    return code_of(holder.person.secret)


def test_new_codes_take_the_place_of_the_old_ones_and_the_person_is_told(holder: Holder) -> None:
    new = holder.renew(code_now(holder))
    assert len(set(new)) == 8
    assert set(new).isdisjoint(holder.codes)
    with pytest.raises(RefusedError, match="wrong or was used"):
        holder.sign_in(holder.codes[1])
    assert holder.sign_in(new[0])
    database, person = holder.means.database, holder.person
    changes = [values["change"] for _, values in mails(database, to=person.email) if "change" in values]
    assert changes == ["enrolled", "recovery_code_used", "recovery_codes_renewed", "recovery_code_used"]
    assert ("auth:recovery_codes:renewed", "success") in audited(database, about=str(person.user_id))


def test_other_sessions_end_and_this_one_goes_on(holder: Holder) -> None:
    other = holder.sign_in(holder.codes[1])
    holder.renew(code_now(holder))
    assert (holder.is_signed_in(holder.token), holder.is_signed_in(other)) == (True, False)


def test_neither_password_nor_authenticator_alone_is_enough(holder: Holder) -> None:
    code = code_now(holder)
    assert holder.refused(code, "violet-lamp-lake") == "invalid_credentials"
    assert holder.refused("000000") == "invalid_code"
    assert holder.refused("") == "invalid_code"
    assert holder.refused(holder.codes[1]) == "invalid_code", "a found recovery code must not become eight"
    assert holder.sign_in(holder.codes[1]), "refused attempts use nothing up"
    assert holder.renew(code)
    assert holder.refused(code) == "invalid_code", "a code works once"


def test_of_two_who_show_the_same_code_at_once_one_gets_codes(holder: Holder) -> None:
    code = code_now(holder)

    def renew(_: int) -> int:
        try:
            return len(holder.renew(code))
        except RefusedError as refused:
            assert refused.code == "invalid_code"
            return 0

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(renew, range(2))) == [0, 8]


@pytest.mark.parametrize("policy", ["step_up", "second_factor"])
def test_guesses_are_counted_with_those_at_the_other_doors(holder: Holder, policy: str) -> None:
    holder.means.rate_limiter = RateLimiter(MemoryStore(), PEPPER)
    for _ in range(5):
        holder.means.rate_limiter.refusal(policy, str(holder.person.user_id))
    assert holder.refused(code_now(holder)) == "too_many_attempts"


def test_who_has_no_second_factor_has_no_codes_to_renew(means: TestMeans) -> None:
    person = new_person(means.database)
    begun = sign_in.sign_in(means, visitor(), person.email, PASSWORD)
    with means.database.requests.by_session(sessions.token_hmac(begun.token, PEPPER), sessions.IDLE) as found:
        session, bound = found
        with pytest.raises(RefusedError) as refused:
            second_factor.renew_recovery_codes(
                means, bound, "", person.user_id, session.session_id, visitor(), password=PASSWORD, code="000000"
            )
    assert refused.value.code == "not_enrolled"
