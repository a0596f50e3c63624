"""Rate limits: the generic cell rate algorithm over three stores. Policies are rows of `data/rate_limits.csv`.

A key may spend its quota at once; what it spent comes back evenly over the window (so a window sees at most the quota
plus what came back meanwhile). Stores keep one number per key, the theoretical arrival time of the next request:
in memory for one process, in PostgreSQL or Redis for several. All three decide alike, by their own clock.

When the store fails, policies of reads let requests through and those of sign-in refuse; both are logged and counted.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Protocol

from offgridflow_pipeline.data_rows import data_rows
from offgridflow_pipeline.identity.rate_stores import MemoryStore, PostgresStore, RedisStore, StoreError

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.settings import Settings

log = logging.getLogger("offgridflow.rate_limits")
DEFAULT_PLAN = "unlimited"
#: After a failure the store is left alone for this time: a dead store must not slow every request down.
PAUSE_AFTER_FAILURE_SECONDS = 5.0


class UnknownPolicyError(LookupError):
    """No row of `rate_limits.csv` has that name."""


@dataclass(frozen=True, slots=True)
class Limit:
    """`quota` requests per `window_seconds`; `closed`: refuse when the store fails."""

    policy: str
    quota: int
    window_seconds: int
    by_address: bool
    closed: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """A request too many. `store_failed`: nothing was counted, the store is out of reach."""

    policy: str
    quota: int
    window_seconds: int
    retry_after_seconds: float
    store_failed: bool = False


class RateStore(Protocol):
    """Counts requests; thread safe."""

    def hit(self, key: str, quota: int, window_seconds: int) -> float:
        """Count one request: 0.0 when it fits, else the seconds until one would (and nothing is counted).

        Raises:
            StoreError: the store is out of reach.
        """
        ...


class RateLimiter:
    """Limits of this installation."""

    def __init__(self, store: RateStore, pepper: bytes, clock: Callable[[], float] = time.monotonic) -> None:
        """Keys reach the store as HMACs under the pepper: addresses of people and machines stay out of it."""
        self._store = store
        self._pepper = hashlib.sha256(pepper).digest()
        self._clock = clock
        self._retry_store_at = float("-inf")
        self._lock = threading.Lock()

    @property
    def in_memory(self) -> bool:
        """Whether an answer needs no network: then an event loop may wait for it."""
        return isinstance(self._store, MemoryStore)

    def refusal(self, policy: str, key: str) -> Refused | None:
        """Count a request of the key under the policy; None when it fits, else what was exceeded.

        A policy ``<subject>.<plan>`` of a plan without a row of its own is that of the unlimited one.

        Raises:
            UnknownPolicyError: no such policy.
        """
        for limit in limits_of(policy):
            if (refused := self._refusal(limit, key)) is not None:
                _count(refused)
                return refused
        return None

    def _refusal(self, limit: Limit, key: str) -> Refused | None:
        if self._clock() < self._retry_store_at:
            return _without_store(limit)
        try:
            wait = self._store.hit(self._bucket(limit, key), limit.quota, limit.window_seconds)
        except StoreError as error:
            self._note_failure(error)
            return _without_store(limit)
        return Refused(limit.policy, limit.quota, limit.window_seconds, wait) if wait > 0 else None

    def _bucket(self, limit: Limit, key: str) -> str:
        subject = network_of(key) if limit.by_address else key
        text = f"{limit.policy}\0{limit.window_seconds}\0{subject}".encode()
        return hashlib.blake2b(text, key=self._pepper, digest_size=16).hexdigest()

    def _note_failure(self, error: StoreError) -> None:
        with self._lock:
            self._retry_store_at = self._clock() + PAUSE_AFTER_FAILURE_SECONDS
        log.error("The store of the rate limits fails; reads go on, sign-in is refused: %s", error)


def rate_limiter(settings: Settings, database: Database) -> RateLimiter:
    """The limiter of the settings."""
    stores: dict[str, Callable[[], RateStore]] = {
        "memory": MemoryStore,
        "postgresql": lambda: PostgresStore(database),
        "redis": lambda: RedisStore(settings.redis_url.get_secret_value()),
    }
    return RateLimiter(stores[settings.rate_limit_store](), settings.session_pepper.get_secret_value().encode())


def limits_of(policy: str) -> tuple[Limit, ...]:
    """Limits of the policy, all of which hold.

    Raises:
        UnknownPolicyError: no such policy.
    """
    known = _limits()
    subject = policy.partition(".")[0]
    found = known.get(policy) or known.get(f"{subject}.{DEFAULT_PLAN}")
    if found is None:
        raise UnknownPolicyError(f"rate_limits.csv has no policy {policy!r}.")
    return found


def policies() -> tuple[str, ...]:
    """Names of all policies."""
    return tuple(_limits())


@lru_cache(4096)
def network_of(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 network that one IPv6 subscriber has to itself."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
    return str(parsed)


def _without_store(limit: Limit) -> Refused | None:
    from offgridflow_pipeline.telemetry import counters

    counters.rate_limit_store_failed(limit.policy)
    if not limit.closed:
        return None
    return Refused(limit.policy, limit.quota, limit.window_seconds, PAUSE_AFTER_FAILURE_SECONDS, store_failed=True)


def _count(refused: Refused) -> None:
    from offgridflow_pipeline.telemetry import counters

    counters.rate_limit_refused(refused.policy)


@cache
def _limits() -> dict[str, tuple[Limit, ...]]:
    found: defaultdict[str, list[Limit]] = defaultdict(list)
    for row in data_rows(__file__, "rate_limits.csv"):
        found[row["policy"]].append(
            Limit(
                row["policy"],
                int(row["quota"]),
                int(row["window_seconds"]),
                by_address=row["key"] == "address",
                closed=row["store_failure"] == "closed",
            )
        )
    return {policy: tuple(limits) for policy, limits in found.items()}
