"""Pooled connections that died are replaced before a transaction begins on them, without a round trip per request.

A server that ends a connection (restart, crash, terminated backend) leaves its socket readable: that is looked at on
every checkout and costs microseconds. A real ping is sent only then, and after a pause in which a firewall may have
forgotten the connection.
"""

from __future__ import annotations

import select
import time
from typing import Any

import sqlalchemy as sa

#: A connection that lay still for longer is asked whether it lives.
STILL_SECONDS = 30.0
_RETURNED_AT = "offgridflow_returned_at"


def replace_dead_connections(engine: sa.Engine) -> sa.Engine:
    """The engine, whose pool looks at every connection that it gives out."""

    def returned(_connection: Any, record: sa.pool.ConnectionPoolEntry) -> None:
        record.info[_RETURNED_AT] = time.monotonic()

    def given_out(connection: Any, record: sa.pool.ConnectionPoolEntry, _proxy: Any) -> None:
        returned_at = record.info.get(_RETURNED_AT)
        if returned_at is None:
            return  # just made
        is_still = time.monotonic() - returned_at > STILL_SECONDS
        if (is_still or _said_something(connection)) and not _lives(engine, connection):
            # The pool makes this one and every other of its age anew, and goes on.
            raise sa.exc.InvalidatePoolError

    sa.event.listen(engine, "checkin", returned)
    sa.event.listen(engine, "checkout", given_out)
    return engine


def _said_something(connection: Any) -> bool:
    if connection.closed:
        return True
    watched = select.poll()
    watched.register(connection.fileno(), select.POLLIN)
    return bool(watched.poll(0))


def _lives(engine: sa.Engine, connection: Any) -> bool:
    try:
        return not connection.closed and engine.dialect.do_ping(connection)
    except engine.dialect.loaded_dbapi.Error:
        return False
