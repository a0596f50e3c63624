"""Stores of the rate limits: one theoretical arrival time (tat) per key, in memory, PostgreSQL or Redis.

With ``interval = window / quota`` a request fits when ``max(tat, now) + interval <= now + window``; that sum is the new
tat. A tat in the past is the same as none: such keys are dropped. Times are whole units (ns, µs): a full quota at one
instant fits exactly.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database

NANOSECONDS = 1_000_000_000
MICROSECONDS = 1_000_000
#: About 20 MiB of keys. More clients than that at once in one process: the ones nearest to a full quota are forgotten.
MAXIMUM_KEYS = 100_000
CLEAN_EVERY_SECONDS = 600.0
REDIS_TIMEOUT_SECONDS = 1.0


class StoreError(RuntimeError):
    """The store is out of reach or refuses."""


class MemoryStore:
    """For one process; bounded in keys."""

    def __init__(self, clock_ns: Callable[[], int] = time.monotonic_ns, maximum_keys: int = MAXIMUM_KEYS) -> None:
        self._clock_ns = clock_ns
        self._maximum_keys = maximum_keys
        self._tats: dict[str, int] = {}
        self._lock = threading.Lock()

    def hit(self, key: str, quota: int, window_seconds: int) -> float:
        """As `RateStore.hit`."""
        window = window_seconds * NANOSECONDS
        interval = window // quota
        with self._lock:
            now = self._clock_ns()
            tat = max(self._tats.get(key, now), now) + interval
            if tat > now + window:
                return (tat - window - now) / NANOSECONDS
            if key not in self._tats and len(self._tats) >= self._maximum_keys:
                self._make_room(now)
            self._tats[key] = tat
            return 0.0

    def __len__(self) -> int:
        """Number of keys kept."""
        return len(self._tats)

    def _make_room(self, now: int) -> None:
        """Drop what has expired; when that is too little, a tenth: those that had spent least."""
        self._tats = {key: tat for key, tat in self._tats.items() if tat > now}
        surplus = len(self._tats) - self._maximum_keys * 9 // 10
        if surplus > 0:
            for key in heapq.nsmallest(surplus, self._tats, key=self._tats.__getitem__):
                del self._tats[key]


class PostgresStore:
    """For several processes; counts in transactions of their own, beside those of the requests."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._buckets = database.rate_buckets
        self._clock = clock
        self._clean_at = clock() + CLEAN_EVERY_SECONDS

    def hit(self, key: str, quota: int, window_seconds: int) -> float:
        """As `RateStore.hit`."""
        from offgridflow_pipeline.database.rate_buckets import RateBucketsError

        window = timedelta(seconds=window_seconds)
        interval = timedelta(microseconds=window_seconds * MICROSECONDS // quota)
        try:
            self._clean()
            return self._buckets.hit(key, interval, window)
        except RateBucketsError as error:
            raise StoreError(str(error)) from error

    def _clean(self) -> None:
        """Now and then, drop what has expired; two threads that do it at once are no harm."""
        if self._clock() >= self._clean_at:
            self._clean_at = self._clock() + CLEAN_EVERY_SECONDS
            self._buckets.remove_expired()


#: Redis runs a script as one step; its clock is the one of all processes. Keys vanish by themselves.
_SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval = tonumber(ARGV[1])
local window = tonumber(ARGV[2])
local tat = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now) + interval
if tat > now + window then
  return tat - window - now
end
redis.call('SET', KEYS[1], string.format('%.0f', tat), 'PX', math.ceil((tat - now) / 1000))
return 0
"""


class RedisStore:
    """For several processes and hosts."""

    PREFIX = "ogf:rate:"

    def __init__(self, url: str) -> None:
        self._url = url

    def hit(self, key: str, quota: int, window_seconds: int) -> float:
        """As `RateStore.hit`."""
        import redis

        window = window_seconds * MICROSECONDS
        try:
            wait = self._client.eval(_SCRIPT, 1, self.PREFIX + key, window // quota, window)
        except (redis.RedisError, OSError, ValueError) as error:
            raise StoreError(f"Redis: {error}") from error
        return int(wait) / MICROSECONDS

    @cached_property
    def _client(self) -> Any:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        return redis.Redis.from_url(
            self._url,
            socket_timeout=REDIS_TIMEOUT_SECONDS,
            socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 1),  # a connection that went stale; the library itself would wait for seconds
        )
