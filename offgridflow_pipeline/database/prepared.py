"""Statements of nearly every request: compiled once, executed by the driver itself.

SQLAlchemy's work around one execution costs four times what the statement costs the driver. Connection, transaction
and pool stay SQLAlchemy's, and so do its exceptions. Who listens to statements (traces, tests) is told of these too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg


class Prepared:
    """One statement; its values are named `:name`, as in `sa.text`. PostgreSQL keeps its plan per connection."""

    def __init__(self, text: str) -> None:
        self._text = str(sa.text(text).compile(dialect=PGDialect_psycopg()))  # type: ignore[no-untyped-call]

    def rows(self, connection: sa.Connection, values: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """All rows of the answer, in the open transaction.

        Raises:
            sqlalchemy.exc.DBAPIError: PostgreSQL refuses, or the connection is lost and no longer usable.
        """
        if connection.dispatch.before_cursor_execute:
            return connection.exec_driver_sql(self._text, dict(values)).all()
        driver: Any = connection.connection.dbapi_connection
        with driver.cursor() as cursor:
            try:
                connection.dialect.do_execute(cursor, self._text, values)
            except psycopg.Error as error:
                raise self._refusal(connection, driver, cursor, values, error) from error
            found: list[tuple[Any, ...]] = cursor.fetchall()
        return found

    def row(self, connection: sa.Connection, values: Mapping[str, Any]) -> Sequence[Any] | None:
        """The only row of the answer; None when there is none. Raises as `rows`."""
        found = self.rows(connection, values)
        if len(found) > 1:
            raise sa.exc.MultipleResultsFound(f"{len(found)} rows, where one was expected.")
        return found[0] if found else None

    def _refusal(
        self, connection: sa.Connection, driver: Any, cursor: Any, values: Mapping[str, Any], error: Any
    ) -> BaseException:
        """The error as SQLAlchemy raises it; a lost connection does not go back to the pool."""
        is_lost = connection.dialect.is_disconnect(error, driver, cursor)
        if is_lost:
            connection.invalidate(error)
        refusal: BaseException = sa.exc.DBAPIError.instance(
            self._text, dict(values), error, psycopg.Error, connection_invalidated=is_lost, dialect=connection.dialect
        )
        return refusal
