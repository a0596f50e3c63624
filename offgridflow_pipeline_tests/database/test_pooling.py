"""Pooled connections: one that died is replaced unseen, a living one costs no round trip."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.server import pooling


@pytest.fixture
def own(database: Database) -> Iterator[Database]:
    """The same database with a pool of this test alone."""
    opened = database.connected_as("ogf_api")
    yield opened
    opened.close()


def backend(database: Database) -> int:
    with database.application_engine.begin() as connection:
        return int(connection.scalar(sa.text("select pg_backend_pid()")))


def end(database: Database, pid: int) -> None:
    """End the backend, and wait until it is gone."""
    with database.admin_engine.begin() as connection:
        connection.execute(sa.text("select pg_terminate_backend(:pid, 5000)"), {"pid": pid})


@pytest.fixture
def pings(own: Database, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The pings that are sent meanwhile."""
    seen: list[Any] = []
    dialect = own.application_engine.dialect
    ping = dialect.do_ping
    monkeypatch.setattr(dialect, "do_ping", lambda connection: seen.append(connection) or ping(connection))
    return seen


def test_a_connection_is_used_again_without_a_round_trip(own: Database, pings: list[Any]) -> None:
    assert backend(own) == backend(own)
    assert pings == []


def test_a_connection_that_the_server_ended_is_replaced_unseen(own: Database) -> None:
    first = backend(own)
    end(own, first)
    assert backend(own) != first


def test_every_pooled_connection_that_the_server_ended_is_replaced(own: Database) -> None:
    engine = own.application_engine
    opened = [engine.connect() for _ in range(3)]
    pids = [int(connection.scalar(sa.text("select pg_backend_pid()"))) for connection in opened]
    for connection in opened:
        connection.close()
    for pid in pids:
        end(own, pid)
    again = [engine.connect() for _ in range(3)]
    assert not set(pids) & {int(connection.scalar(sa.text("select pg_backend_pid()"))) for connection in again}
    for connection in again:
        connection.close()


def test_a_connection_that_lay_still_is_asked_whether_it_lives(
    own: Database, pings: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = backend(own)
    monkeypatch.setattr(pooling, "STILL_SECONDS", -1.0)
    assert backend(own) == first
    assert len(pings) == 1
