"""Signing in: what fits, what does not, and that a wrong guess tells nothing about who there is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from argon2 import PasswordHasher

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.scopes import of_person
from offgridflow_pipeline.identity import accounts, passwords, sessions, sign_in
from offgridflow_pipeline.identity.envelope import KeyRing
from offgridflow_pipeline.identity.keyed_hashes import keyed_hash
from offgridflow_pipeline.identity.rate_limits import RateLimiter
from offgridflow_pipeline.identity.rate_stores import MemoryStore, StoreError
from offgridflow_pipeline.identity.refusals import RefusedError
from offgridflow_pipeline.identity.sign_in import SecondFactorNeededError
from offgridflow_pipeline_tests.identity.people import (
    PASSWORD,
    PEPPER,
    TestMeans,
    age,
    audited,
    code_of,
    enrolled,
    mails,
    new_person,
    visitor,
)
from offgridflow_pipeline_tests.sidecar.serving import statements

WRONG = "violet-lamp-rivers"


@pytest.fixture
def means(api_database: Database) -> TestMeans:
    return TestMeans(api_database)


def refusal_of(act: Callable[[], object]) -> RefusedError:
    with pytest.raises(RefusedError) as refused:
        act()
    return refused.value


def test_a_person_works_in_the_tenant_they_worked_in_last(means: TestMeans, new_tenant: Callable[[], str]) -> None:
    first, second = sorted([new_tenant(), new_tenant()])
    person = new_person(means.database, first)
    accounts.add_member(means.database, person.user_id, second, "viewer")
    begun = sign_in.sign_in(means, visitor(), person.email.upper(), PASSWORD)
    assert begun.tenant.slug == first
    with means.database.requests.by_session(sessions.token_hmac(begun.token, PEPPER), sessions.IDLE) as found:
        session, bound = found
        sessions.switch_tenant(bound, person.user_id, session.session_id, second, visitor())
    assert sign_in.sign_in(means, visitor(), person.email, PASSWORD).tenant.slug == second
    assert ("auth:sign_in", "success") in audited(means.database, first, str(person.user_id))
    assert ("auth:tenant:switched", "success") in audited(means.database, second, str(person.user_id))


def test_an_unknown_address_costs_and_says_what_a_wrong_password_does(
    means: TestMeans, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = new_person(means.database)
    hashes: list[str] = []
    verify = PasswordHasher.verify

    def counted(self: PasswordHasher, password_hash: str, password: bytes) -> bool:
        hashes.append(password_hash.rpartition("$")[0].rpartition("$")[0])
        return verify(self, password_hash, password)

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    seen = []
    for email in (person.email, "nobody@alder.example", "no address at all"):
        hashes.clear()
        with statements(means.database) as executed:
            refused = refusal_of(lambda email=email: sign_in.sign_in(means, visitor(), email, WRONG))
        seen.append((refused.code, refused.message, refused.field, tuple(hashes), tuple(executed)))
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][0] == "invalid_credentials"
    assert seen[0][3] == ("$argon2id$v=19$m=19456,t=2,p=1",)


@pytest.mark.slow
def test_wall_time_of_an_unknown_address_is_that_of_a_wrong_password(means: TestMeans) -> None:
    person = new_person(means.database)
    taken: dict[str, list[float]] = {person.email: [], "nobody@alder.example": []}
    for run in range(200):
        for email, times in taken.items():
            age(means.database, "delete from ogf.sign_in_failures")
            begun = time.perf_counter()
            refusal_of(lambda email=email: sign_in.sign_in(means, visitor(), email, WRONG))
            times.append(time.perf_counter() - begun)
        known, unknown = (statistics.median(times) for times in taken.values())
        if run >= 40 and abs(known - unknown) < 0.05 * known:
            return
    pytest.fail(f"Medians differ: {known * 1000:.2f} ms for a known address, {unknown * 1000:.2f} ms for an unknown.")


def test_a_disabled_person_is_as_unknown_as_anybody(means: TestMeans) -> None:
    person = new_person(means.database)
    begun = sign_in.sign_in(means, visitor(), person.email, PASSWORD)
    accounts.set_status(means.database, person.user_id, active=False)
    with means.database.requests.by_session(sessions.token_hmac(begun.token, PEPPER), sessions.IDLE) as found:
        assert found is None
    assert refusal_of(lambda: sign_in.sign_in(means, visitor(), person.email, PASSWORD)).code == "invalid_credentials"
    accounts.set_status(means.database, person.user_id, active=True)
    assert sign_in.sign_in(means, visitor(), person.email, PASSWORD)


@pytest.mark.parametrize("known", [True, False])
def test_several_failures_delay_an_address_whether_or_not_somebody_has_it(means: TestMeans, known: bool) -> None:
    person = new_person(means.database)
    email = person.email if known else f"x{person.email}"
    for _ in range(sign_in.FREE_FAILURES + 1):
        assert refusal_of(lambda: sign_in.sign_in(means, visitor(), email, WRONG)).code == "invalid_credentials"
    delayed = refusal_of(lambda: sign_in.sign_in(means, visitor(), email, PASSWORD))
    assert delayed.code == "too_many_attempts"
    assert 0 < delayed.retry_after_seconds <= 2
    notices = [name for name, _ in mails(means.database, to=email)]
    assert notices == (["login_notice"] if known else [])


def test_the_delay_ends_by_itself_and_success_forgets_the_failures(means: TestMeans) -> None:
    person = new_person(means.database)
    for _ in range(sign_in.FREE_FAILURES + 1):
        refusal_of(lambda: sign_in.sign_in(means, visitor(), person.email, WRONG))
    age(means.database, "update ogf.sign_in_failures set failed_at = failed_at - interval '3 seconds'")
    assert sign_in.sign_in(means, visitor(), person.email, PASSWORD)
    refusal_of(lambda: sign_in.sign_in(means, visitor(), person.email, WRONG))
    assert sign_in.sign_in(means, visitor(), person.email, PASSWORD)


def test_delays_grow_to_a_minute_and_never_lock_out() -> None:
    assert [sign_in.delay_seconds(n) for n in (0, 4, 5, 6, 7, 9, 10, 10_000)] == [0, 0, 2, 4, 8, 32, 60, 60]


def test_a_forgotten_failure_does_not_count_and_is_swept(means: TestMeans) -> None:
    age(means.database, "delete from ogf.sign_in_failures")  # a sweep takes a few at a time: those of this test
    person = new_person(means.database)
    refusal_of(lambda: sign_in.sign_in(means, visitor(), "swept@alder.example", WRONG))
    refusal_of(lambda: sign_in.sign_in(means, visitor(), person.email, WRONG))
    age(means.database, "update ogf.sign_in_failures set failures = 9, failed_at = failed_at - interval '2 days'")
    refusal_of(lambda: sign_in.sign_in(means, visitor(), person.email, WRONG))
    with means.database.admin_engine.connect() as connection:
        rows = connection.exec_driver_sql("select address_hmac, failures from ogf.sign_in_failures").all()
    assert (keyed_hash("sign_in_address", person.email, PEPPER), 1) in rows
    assert keyed_hash("sign_in_address", "swept@alder.example", PEPPER) not in [row[0] for row in rows]


def test_each_limit_of_sign_in_refuses(api_database: Database) -> None:
    means = TestMeans(api_database, rate_limiter=RateLimiter(MemoryStore(), PEPPER))
    codes = [
        refusal_of(lambda n=n: sign_in.sign_in(means, visitor(), f"n{n}@alder.example", WRONG)).code for n in range(11)
    ]
    assert codes == ["invalid_credentials"] * 10 + ["too_many_attempts"]
    person = new_person(api_database)
    for n in range(10):
        assert sign_in.sign_in(means, visitor(ip=f"198.51.100.{n}"), person.email, PASSWORD)
    refused = refusal_of(lambda: sign_in.sign_in(means, visitor(ip="198.51.100.99"), person.email, PASSWORD))
    assert refused.code == "too_many_attempts"


def test_more_than_two_verifications_at_once_are_put_off(means: TestMeans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "PATIENCE_SECONDS", 0.01)
    person = new_person(means.database)
    with passwords._turn(), passwords._turn():
        refused = refusal_of(lambda: sign_in.sign_in(means, visitor(), person.email, PASSWORD))
    assert (refused.code, refused.retry_after_seconds) == ("busy", passwords.RETRY_AFTER_SECONDS)
    assert sign_in.sign_in(means, visitor(), person.email, PASSWORD)


def test_a_hash_of_older_parameters_is_renewed_at_sign_in(means: TestMeans) -> None:
    person = new_person(means.database)
    weak = PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(PASSWORD)
    age(means.database, "update ogf.credentials set password_hash = :h where user_id = :u", h=weak, u=person.user_id)
    assert sign_in.sign_in(means, visitor(), person.email, PASSWORD)
    renewed = means.database.credentials.get(person.user_id).password_hash
    assert renewed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert passwords.verify(renewed, PASSWORD)


def test_a_new_browser_from_a_new_network_is_told_to_the_person(means: TestMeans) -> None:
    person = new_person(means.database)
    sign_in.sign_in(means, visitor(), person.email, PASSWORD)
    sign_in.sign_in(means, visitor(ip="198.51.100.1"), person.email, PASSWORD)
    assert mails(means.database, to=person.email) == []
    sign_in.sign_in(means, visitor(ip="192.0.2.1", user_agent="curl"), person.email, PASSWORD)
    assert [name for name, _ in mails(means.database, to=person.email)] == ["login_notice"]


def test_the_second_factor_is_asked_for_after_the_password_and_a_code_works_once(means: TestMeans) -> None:
    person, _ = enrolled(means, new_person(means.database))
    assert refusal_of(lambda: sign_in.sign_in(means, visitor(), person.email, WRONG)).code == "invalid_credentials"
    assert isinstance(
        refusal_of(lambda: sign_in.sign_in(means, visitor(), person.email, PASSWORD)), SecondFactorNeededError
    )
    code = code_of(person.secret)
    assert sign_in.sign_in(means, visitor(), person.email, PASSWORD, code).second_factor
    assert refusal_of(lambda: sign_in.sign_in(means, visitor(), person.email, PASSWORD, code)).code == "invalid_code"
    stale = refusal_of(lambda: sign_in.sign_in(means, visitor(), person.email, PASSWORD, code_of(person.secret, -1)))
    assert stale.code == "invalid_code"
    assert ("auth:sign_in", "second_factor_failure") in audited(means.database, about=str(person.user_id))


def test_a_recovery_code_works_once_and_its_person_is_told(means: TestMeans) -> None:
    person, codes = enrolled(means, new_person(means.database))
    assert len(set(codes)) == 8
    spelled = codes[0].upper().replace("-", " ")
    assert sign_in.sign_in(means, visitor(), person.email, PASSWORD, spelled).second_factor
    again = refusal_of(lambda: sign_in.sign_in(means, visitor(), person.email, PASSWORD, codes[0]))
    assert again.code == "invalid_code"
    changes = [values["change"] for name, values in mails(means.database, to=person.email) if "change" in values]
    assert changes == ["enrolled", "recovery_code_used"]


def test_the_challenge_stands_for_the_password_until_it_changes_or_ends(
    means: TestMeans, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, codes = enrolled(means, new_person(means.database))
    challenge = refusal_of(lambda: sign_in.sign_in(means, visitor(), person.email, PASSWORD)).challenge
    assert sign_in.answer_challenge(means, visitor(), challenge, codes[0]).second_factor
    user, ends, mac = challenge.split(".")
    other = new_person(means.database)
    for forged in (
        f"{other.user_id.hex}.{ends}.{mac}", f"{user}.{int(ends) + 60}.{mac}", f"{user}.{ends}.", "x.y.z", "", "a.é.b",
        f"{user}.{ends}.{mac}=", f"{user}.{ends}é.{mac}",
    ):  # fmt: skip
        refused = refusal_of(lambda forged=forged: sign_in.answer_challenge(means, visitor(), forged, codes[1]))
        assert refused.code == "invalid_token", forged
    accounts.set_password(means.database, person.user_id, "amber-kite-field")
    refused = refusal_of(lambda: sign_in.answer_challenge(means, visitor(), challenge, codes[1]))
    assert refused.code == "invalid_token"
    later = time.time() + sign_in.CHALLENGE_SECONDS + 1
    monkeypatch.setattr(sign_in.time, "time", lambda: later)
    assert refusal_of(lambda: sign_in.answer_challenge(means, visitor(), challenge, codes[1])).code == "invalid_token"


def test_codes_of_one_person_are_limited(api_database: Database) -> None:
    means = TestMeans(api_database)
    person, _ = enrolled(means, new_person(api_database))
    means.rate_limiter = RateLimiter(MemoryStore(), PEPPER)
    age(api_database, "delete from ogf.sign_in_failures")
    codes = []
    for n in range(6):
        age(api_database, "delete from ogf.sign_in_failures")
        act = lambda n=n: sign_in.sign_in(means, visitor(ip=f"192.0.2.{n}"), person.email, PASSWORD, "000000")  # noqa: E731
        codes.append(refusal_of(act).code)
    assert codes == ["invalid_code"] * 5 + ["too_many_attempts"]


def test_without_a_store_for_limits_nobody_signs_in(api_database: Database) -> None:
    class Dead:
        def hit(self, key: str, quota: int, window_seconds: int) -> float:
            raise StoreError("gone")

    means = TestMeans(api_database, rate_limiter=RateLimiter(Dead(), PEPPER))
    person = new_person(api_database)
    refused = refusal_of(lambda: sign_in.sign_in(means, visitor(), person.email, PASSWORD))
    assert refused.code == "busy"
    assert refused.retry_after_seconds > 0


def test_a_password_set_while_somebody_signs_in_ends_that_session_too(means: TestMeans) -> None:
    person = new_person(means.database)
    with ThreadPoolExecutor(1) as other:
        with of_person(means.database, person.user_id) as bound:
            credential = bound.credentials.get(person.user_id)
            address_hmac = keyed_hash("sign_in_address", person.email, PEPPER)
            begun = sign_in._start(bound, visitor(), person.user_id, credential, None, address_hmac)
            changing = other.submit(accounts.set_password, means.database, person.user_id, "amber-kite-field")
            with pytest.raises(TimeoutError):
                changing.result(timeout=0.3)  # it waits for the sign-in that is under way
        changing.result(timeout=5)
    with means.database.requests.by_session(sessions.token_hmac(begun.token, PEPPER), sessions.IDLE) as found:
        assert found is None


def test_second_factors_open_after_their_keys_were_rotated(means: TestMeans) -> None:
    from offgridflow_pipeline.identity import envelope, second_factor

    person, _ = enrolled(means, new_person(means.database))
    old = KeyRing.of(means.settings)
    new = KeyRing("next", {"next": b"n" * 32, **old.keys})
    assert second_factor.rotate_keys(means.database, new, [person.user_id]) == 1
    assert second_factor.rotate_keys(means.database, new, [person.user_id]) == 0
    sealed = means.database.credentials.get(person.user_id).totp_secret
    with pytest.raises(envelope.EnvelopeError, match=str(person.user_id)):
        second_factor.rotate_keys(means.database, old, [person.user_id])
    only_new = KeyRing("next", {"next": b"n" * 32})
    place = ("second factor", str(person.user_id))
    assert envelope.unseal(only_new, place, sealed).get_secret_value() == person.secret
    with pytest.raises(envelope.EnvelopeError, match="does not open"):
        envelope.unseal(only_new, ("second factor", "somebody else"), sealed)
    assert accounts.remove_second_factor(means.database, person.user_id)


def test_no_credential_is_stored_in_clear(means: TestMeans) -> None:
    # A password of its own: other tests call organisations by the usual one.
    person, codes = enrolled(means, new_person(means.database, password="copper-heron-meadow"))
    begun = sign_in.sign_in(means, visitor(), person.email, person.password, code_of(person.secret))
    with means.database.admin_engine.connect() as connection:
        stored = "".join(
            str(connection.exec_driver_sql(f"select array_agg(t::text) from ogf.{table} t").scalar())
            for table in ("credentials", "recovery_codes", "sessions", "audit_events", "email_outbox")
        )
    for secret in (person.password, person.secret, codes[1], codes[1].replace("-", ""), begun.token):
        assert secret not in stored
