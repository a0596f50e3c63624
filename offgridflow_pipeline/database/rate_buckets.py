"""Rate limits counted in PostgreSQL: the generic cell rate algorithm in one statement (service reference, section 8).

Counted outside of the request's transaction, on connections of its own: a request that fails has counted too, no bucket
stays locked while a request works, and requests that wait for a count do not wait for each other's connections.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database

REMOVED_AT_ONCE = 10_000

_HIT = sa.text(
    "insert into ogf.rate_buckets as b (key, tat) values (:key, clock_timestamp() + :interval)"
    " on conflict (key) do update set tat = greatest(b.tat, clock_timestamp()) + :interval"
    " where greatest(b.tat, clock_timestamp()) + :interval <= clock_timestamp() + :window"
    " returning 1"
)
_WAIT = sa.text(
    "select extract(epoch from tat + :interval - :window - clock_timestamp()) from ogf.rate_buckets where key = :key"
)
#: A bucket whose time has passed is the same as none.
_REMOVE = sa.text(
    "delete from ogf.rate_buckets where key in (select key from ogf.rate_buckets where tat < clock_timestamp()"
    " limit :at_once for update skip locked)"
)
#: The shortest wait that is told: the bucket may have refilled between the refusal and the question.
SHORTEST_WAIT_SECONDS = 0.001


class RateBucketsError(RuntimeError):
    """PostgreSQL does not answer in time or refuses."""


class RateBuckets:
    """Theoretical arrival times by key; belong to no tenant and hold no personal data."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def hit(self, key: str, interval: timedelta, window: timedelta) -> float:
        """Count one request: 0.0 when it fits, else the seconds until one would.

        Raises:
            RateBucketsError: PostgreSQL does not answer in time or refuses.
        """
        values = {"key": key, "interval": interval, "window": window}
        try:
            with self._database.counting_engine.connect() as connection:
                if connection.scalar(_HIT, values):
                    return 0.0
                wait = connection.scalar(_WAIT, values)
        except sa.exc.SQLAlchemyError as error:
            raise RateBucketsError(_cause(error)) from error
        return max(float(wait or 0), SHORTEST_WAIT_SECONDS)

    def remove_expired(self) -> int:
        """Remove buckets that count nothing any more; returns how many.

        Raises:
            RateBucketsError: PostgreSQL does not answer in time or refuses.
        """
        try:
            with self._database.counting_engine.connect() as connection:
                return int(connection.execute(_REMOVE, {"at_once": REMOVED_AT_ONCE}).rowcount)
        except sa.exc.SQLAlchemyError as error:
            raise RateBucketsError(_cause(error)) from error


def _cause(error: sa.exc.SQLAlchemyError) -> str:
    """The server's words alone: SQLAlchemy's text shows statement and values."""
    return str(getattr(error, "orig", None) or type(error).__name__).strip()
