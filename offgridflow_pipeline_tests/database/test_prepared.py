"""Statements that the driver executes itself: same rows, same exceptions, same pool as through SQLAlchemy."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.prepared import Prepared

VALUES = {"text": "%s of Zürich", "number": 7, "day": date(2026, 10, 1), "id": uuid.UUID(int=5), "raw": b"\0\xff"}
TEXT = (
    "select :text || '' as a, :number + 1, cast(:day as date), cast(:id as uuid), cast(:raw as bytea),"
    " cast('1.50' as numeric), array['x', null], null, '100 %' as per_cent"
)


@pytest.fixture
def own(database: Database) -> Iterator[Database]:
    """The same database with a pool of this test alone."""
    opened = database.connected_as("ogf_api")
    yield opened
    opened.close()


def test_the_rows_are_those_of_sqlalchemy(own: Database) -> None:
    prepared = Prepared(TEXT)
    with own.application_engine.begin() as connection:
        found = [tuple(row) for row in prepared.rows(connection, VALUES)]
        assert found == [tuple(row) for row in connection.execute(sa.text(TEXT), VALUES)]
    assert found[0][5] == Decimal("1.50")


def test_it_runs_in_the_open_transaction(own: Database) -> None:
    setting = Prepared("select current_setting('offgridflow.tenant', true)")
    with own.application_engine.begin() as connection:
        Prepared("select set_config('offgridflow.tenant', :tenant, true)").row(connection, {"tenant": "inside"})
        assert setting.row(connection, {}) == ("inside",)
    with own.application_engine.begin() as connection:
        assert setting.row(connection, {}) in {(None,), ("",)}


def test_no_row_is_none_and_more_than_one_is_refused(own: Database) -> None:
    numbers = Prepared("select n from generate_series(1, :last) n")
    with own.application_engine.begin() as connection:
        assert numbers.row(connection, {"last": 0}) is None
        with pytest.raises(sa.exc.MultipleResultsFound):
            numbers.row(connection, {"last": 2})


def test_a_refusal_is_the_exception_of_sqlalchemy_and_the_connection_stays(own: Database) -> None:
    pid = Prepared("select pg_backend_pid()")
    with own.application_engine.begin() as connection:
        before = pid.row(connection, {})
    with pytest.raises(sa.exc.DataError) as caught, own.application_engine.begin() as connection:
        Prepared("select cast(:text as integer)").row(connection, {"text": "seven"})
    assert not caught.value.connection_invalidated
    with own.application_engine.begin() as connection:
        assert pid.row(connection, {}) == before


def test_a_connection_that_is_lost_on_the_way_is_told_and_replaced(own: Database) -> None:
    pid = Prepared("select pg_backend_pid()")
    with pytest.raises(sa.exc.OperationalError) as caught, own.application_engine.begin() as connection:
        lost = pid.row(connection, {})
        assert lost is not None
        with own.admin_engine.begin() as administrator:
            administrator.execute(sa.text("select pg_terminate_backend(:pid, 5000)"), {"pid": lost[0]})
        pid.row(connection, {})
    assert caught.value.connection_invalidated
    with own.application_engine.begin() as connection:
        assert pid.row(connection, {}) != lost


def test_who_listens_to_statements_is_told_of_it_and_may_rewrite_it(own: Database) -> None:
    seen: list[str] = []

    def rewritten(_c: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> tuple[str, Any]:
        seen.append(statement)
        return statement.replace("1", "2"), parameters

    with own.application_engine.begin() as connection:
        sa.event.listen(connection, "before_cursor_execute", rewritten, retval=True)
        assert Prepared("select 1").row(connection, {}) == (2,)
    assert seen == ["select 1"]
