"""Rate limits: the algorithm against an independent model, the stores against each other, and what their failure does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from fractions import Fraction

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from offgridflow_pipeline.database.engine import POOL_SIZE, Database, Login
from offgridflow_pipeline.identity import rate_limits, rate_stores
from offgridflow_pipeline.identity.rate_limits import RateLimiter, UnknownPolicyError, limits_of, network_of
from offgridflow_pipeline.identity.rate_stores import MemoryStore, PostgresStore, RedisStore, StoreError
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline_tests.counterparts.processes import free_port
from offgridflow_pipeline_tests.counterparts.redis import redis_server

PEPPER = b"pepper of a test"
SECOND = 1_000_000_000


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns

    def seconds(self) -> float:
        return self.ns / SECOND


class Buckets:
    """The reference: tokens in a bucket that fills evenly, in exact fractions; not the way the stores count."""

    def __init__(self, quota: int, window_ns: int) -> None:
        self._quota = quota
        self._per_ns = Fraction(quota, window_ns)
        self._state: dict[str, tuple[Fraction, int]] = {}

    def accepts(self, key: str, now: int) -> bool:
        tokens, since = self._state.get(key, (Fraction(self._quota), now))
        tokens = min(Fraction(self._quota), tokens + (now - since) * self._per_ns)
        accepted = tokens >= 1
        self._state[key] = (tokens - 1 if accepted else tokens, now)
        return accepted


class FailingStore:
    """A store that is out of reach."""

    def __init__(self) -> None:
        self.asked = 0

    def hit(self, _key: str, _quota: int, _window_seconds: int) -> float:
        self.asked += 1
        raise StoreError("connection refused")


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with redis_server() as url:
        yield url


@pytest.fixture(params=["memory", "postgresql", "redis"])
def store(request: pytest.FixtureRequest) -> rate_limits.RateStore:
    """Each store in turn."""
    makers: dict[str, Callable[[], rate_limits.RateStore]] = {
        "memory": MemoryStore,
        "postgresql": lambda: PostgresStore(request.getfixturevalue("api_database")),
        "redis": lambda: RedisStore(request.getfixturevalue("redis_url")),
    }
    return makers[request.param]()


#: Window and quota where the window is a whole number of intervals: there the reference is exact.
_LIMITS = st.integers(1, 12).flatmap(
    lambda quota: st.tuples(st.just(quota), st.integers(1, 5).map(lambda n: n * quota))
)
_STEPS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3 * SECOND)), max_size=60)


@given(limit=_LIMITS, steps=_STEPS)
def test_the_store_accepts_what_a_bucket_that_fills_evenly_accepts(
    limit: tuple[int, int], steps: list[tuple[str, int]]
) -> None:
    quota, window_seconds = limit
    clock = Clock()
    store, reference = MemoryStore(clock), Buckets(quota, window_seconds * SECOND)
    for key, pause in steps:
        clock.ns += pause
        assert (store.hit(key, quota, window_seconds) == 0) == reference.accepts(key, clock.ns)


@given(quota=st.integers(1, 50), window_seconds=st.integers(1, 100), spent=st.integers(0, 60))
def test_the_wait_that_is_told_is_the_shortest_that_helps(quota: int, window_seconds: int, spent: int) -> None:
    clock = Clock()
    store = MemoryStore(clock)
    for _ in range(spent):
        store.hit("k", quota, window_seconds)
    wait = store.hit("k", quota, window_seconds)
    assert (wait > 0) == (spent >= quota)
    if wait:
        clock.ns += round(wait * SECOND) - 1
        assert store.hit("k", quota, window_seconds) > 0
        clock.ns += 1
        assert store.hit("k", quota, window_seconds) == 0


def test_of_eight_requests_at_once_five_fit_a_quota_of_five(store: rate_limits.RateStore) -> None:
    waits = [store.hit("burst", 5, 60) for _ in range(8)]
    assert [wait == 0 for wait in waits] == [True] * 5 + [False] * 3
    assert all(11 < wait <= 12 for wait in waits[5:])  # a fifth of the window gives one back


def test_eight_threads_at_once_do_not_spend_more_than_the_quota(store: rate_limits.RateStore) -> None:
    barrier = threading.Barrier(8)

    def hits(_number: int) -> list[bool]:
        barrier.wait()
        return [store.hit("threads", 20, 3600) == 0 for _ in range(5)]

    with ThreadPoolExecutor(8) as pool:
        accepted = [one for some in pool.map(hits, range(8)) for one in some]
    assert (len(accepted), sum(accepted)) == (40, 20)


def test_keys_do_not_share_a_quota(store: rate_limits.RateStore) -> None:
    assert [store.hit("own-a", 1, 60) > 0, store.hit("own-a", 1, 60) > 0] == [False, True]
    assert store.hit("own-b", 1, 60) == 0


def test_memory_forgets_expired_keys_first_and_never_holds_more_than_its_bound() -> None:
    clock = Clock()
    store = MemoryStore(clock, maximum_keys=100)
    store.hit("spent", 1, 3600)
    for number in range(1000):
        clock.ns += SECOND
        store.hit(f"passing-{number}", 10, 100)  # expires after ten seconds
        assert len(store) <= 100
    assert store.hit("spent", 1, 3600) > 0


def test_a_flood_of_keys_costs_those_that_had_spent_least() -> None:
    store = MemoryStore(Clock(), maximum_keys=100)
    for _ in range(5):
        store.hit("guesser", 5, 300)
    for number in range(5000):
        store.hit(f"flood-{number}", 5, 300)
    assert len(store) <= 100
    assert store.hit("guesser", 5, 300) > 0


def test_postgresql_drops_expired_buckets_and_keeps_the_others(api_database: Database, database: Database) -> None:
    clock = Clock()
    store = PostgresStore(api_database, clock.seconds)
    store.hit("clean-kept", 1, 3600)
    store.hit("clean-gone", 1, 3600)
    with database.admin_engine.begin() as connection:
        connection.execute(sa.text("update ogf.rate_buckets set tat = now() - interval '1 s' where key = 'clean-gone'"))
    store.hit("clean-other", 1, 3600)
    assert {"clean-kept", "clean-gone"} <= _buckets(database)
    clock.ns += round(rate_stores.CLEAN_EVERY_SECONDS) * SECOND
    store.hit("clean-another", 1, 3600)
    assert {"clean-kept", "clean-other"} <= _buckets(database)
    assert "clean-gone" not in _buckets(database)


def _buckets(database: Database) -> set[str]:
    with database.admin_engine.begin() as connection:
        return set(connection.scalars(sa.text("select key from ogf.rate_buckets")))


def test_a_request_that_holds_all_connections_can_still_be_counted(api_database: Database) -> None:
    store = PostgresStore(api_database)
    with ExitStack() as held:
        for _ in range(POOL_SIZE):
            held.enter_context(api_database.platform())
        assert store.hit("beside", 1, 60) == 0


def test_addresses_and_accounts_never_reach_the_store_as_they_are(api_database: Database, database: Database) -> None:
    limiter = RateLimiter(PostgresStore(api_database), PEPPER)
    before = _buckets(database)
    limiter.refusal("sign_in.account", "ada@example.org")
    (key,) = _buckets(database) - before
    assert "ada" not in key
    assert RateLimiter(MemoryStore(), b"another")._bucket(limits_of("sign_in.account")[0], "ada@example.org") != key


def test_every_limit_of_a_policy_holds() -> None:
    clock = Clock()
    limiter = RateLimiter(MemoryStore(clock), PEPPER)
    refused: list[rate_limits.Refused] = []
    for _ in range(12):  # an hour, five codes at a time
        refused += [found for _ in range(5) if (found := limiter.refusal("second_factor", "user:1")) is not None]
        clock.ns += 300 * SECOND
    assert {found.window_seconds for found in refused} == {3600}
    accepted = 60 - len(refused)
    assert 20 <= accepted <= 40  # twenty at once, and what an hour gives back


def test_an_unknown_plan_has_the_limits_of_the_unlimited_plan() -> None:
    assert limits_of("principal.gold") == limits_of("principal.unlimited")
    assert limits_of("tenant.enterprise") != limits_of("tenant.unlimited")


@pytest.mark.parametrize("policy", ["", "sign_in", "sign_in.nowhere", "standard"])
def test_a_policy_that_does_not_exist_is_an_error_of_the_program(policy: str) -> None:
    with pytest.raises(UnknownPolicyError):
        RateLimiter(MemoryStore(), PEPPER).refusal(policy, "k")


def test_a_refusal_says_policy_quota_window_and_wait() -> None:
    limiter = RateLimiter(MemoryStore(Clock()), PEPPER)
    answers = [limiter.refusal("sign_in.account", "ada") for _ in range(11)]
    assert answers[:10] == [None] * 10
    assert answers[10] == rate_limits.Refused("sign_in.account", 10, 300, 30.0)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("unknown", "unknown", True),
    ],
)
def test_an_ipv6_subscriber_counts_as_one_client(one: str, other: str, same: bool) -> None:
    assert (network_of(one) == network_of(other)) is same


def test_when_the_store_fails_reads_go_on_and_sign_in_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    limiter = RateLimiter(FailingStore(), PEPPER)
    with caplog.at_level(logging.ERROR, "offgridflow.rate_limits"):
        assert limiter.refusal("address", "192.0.2.1") is None
        assert limiter.refusal("principal.unlimited", "key:1") is None
        refused = limiter.refusal("sign_in.account", "ada")
    assert refused is not None
    assert refused.store_failed
    assert len(caplog.records) == 1


def test_every_policy_of_credentials_closes_when_the_store_fails() -> None:
    closed = {policy for policy, limits in rate_limits._limits().items() if all(limit.closed for limit in limits)}
    opened = {policy for policy, limits in rate_limits._limits().items() if not any(limit.closed for limit in limits)}
    assert closed | opened == rate_limits._limits().keys()
    assert {policy.partition(".")[0] for policy in opened} == {"address", "principal", "tenant", "uploads", "webhook"}


def test_a_failed_store_is_left_alone_for_a_while_and_then_asked_again() -> None:
    clock, store = Clock(), FailingStore()
    limiter = RateLimiter(store, PEPPER, clock.seconds)
    for _ in range(100):
        limiter.refusal("address", "192.0.2.1")
    assert store.asked == 1
    clock.ns += round(rate_limits.PAUSE_AFTER_FAILURE_SECONDS) * SECOND
    limiter.refusal("address", "192.0.2.1")
    assert store.asked == 2


def test_failures_and_refusals_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[tuple[str, str]] = []
    for name in ("rate_limit_refused", "rate_limit_store_failed"):
        monkeypatch.setattr(f"offgridflow_pipeline.telemetry.counters.{name}", lambda p, n=name: counted.append((n, p)))
    RateLimiter(FailingStore(), PEPPER).refusal("address", "192.0.2.1")
    limiter = RateLimiter(MemoryStore(Clock()), PEPPER)
    for _ in range(6):
        limiter.refusal("step_up", "user:1")
    assert counted == [("rate_limit_store_failed", "address"), ("rate_limit_refused", "step_up")]


def test_postgresql_out_of_reach_is_a_failed_store() -> None:
    url = sa.make_url(f"postgresql+psycopg://nobody:wrong@127.0.0.1:{free_port()}/ogf")
    with pytest.raises(StoreError, match="refused"):
        PostgresStore(Database(url, [Login("ogf_api", "wrong")])).hit("k", 1, 1)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:{port}/0", "", "http://nothing"])
def test_redis_out_of_reach_or_not_configured_is_a_failed_store(url: str) -> None:
    with pytest.raises(StoreError):
        RedisStore(url.format(port=free_port())).hit("k", 1, 1)


@pytest.mark.parametrize("choice", ["memory", "postgresql", "redis"])
def test_the_settings_choose_the_store(choice: str, api_database: Database, redis_url: str) -> None:
    settings = Settings(_env_file=None, environment="test", rate_limit_store=choice, redis_url=SecretStr(redis_url))
    limiter = rate_limits.rate_limiter(settings, api_database)
    assert limiter.in_memory is (choice == "memory")
    assert limiter.refusal("key_revocation.address", "192.0.2.77") is None
