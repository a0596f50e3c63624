"""Writing in a tenant transaction: refusals with a place and a cure, and writers held back one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from offgridflow_pipeline.database.engine import TenantScope


class RecordError(ValueError):
    """A record cannot be written as asked; names table, row, column and cure. Nothing was written."""


def one_at_a_time(scope: TenantScope, table: str, *parts: str) -> None:
    """Hold back other writers of the same rows until this transaction ends."""
    key = "|".join((table, str(scope.tenant_id), *parts))
    scope.connection.execute(sa.text("select pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": key})


def write(scope: TenantScope, table: str, statement: str, values: Mapping[str, Any]) -> sa.CursorResult[Any]:
    """Execute one writing statement.

    Raises:
        RecordError: PostgreSQL refuses a value; names table and column or constraint.
    """
    try:
        return scope.connection.execute(sa.text(statement), values)
    except (sa.exc.IntegrityError, sa.exc.DataError) as error:
        diagnosis = getattr(error.orig, "diag", None)
        place = getattr(diagnosis, "column_name", None) or getattr(diagnosis, "constraint_name", None) or "value"
        message = getattr(diagnosis, "message_primary", None) or str(error.orig)
        raise RecordError(f"{table}, {place}: {message}. Nothing was written.") from error
    except sa.exc.StatementError as error:
        raise RecordError(f"{table}: {error.args[0]}. Nothing was written.") from error
