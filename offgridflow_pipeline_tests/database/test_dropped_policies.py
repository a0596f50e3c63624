"""Mutants: each policy of each table is dropped in turn, and something turns red.

What may turn red is what the other suites look at: the catalog gate, what each role sees of two tenants, and the
functions that look across tenants. In one transaction that is rolled back.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from offgridflow_pipeline.database.engine import Database, enter, enter_user
from offgridflow_pipeline.database.server import catalog
from offgridflow_pipeline_tests.database.filled import Filled
from offgridflow_pipeline_tests.database.test_definer_functions import CALLS, FIGURES, prepared

ROLES = ("ogf_pipeline", "ogf_api")


@pytest.fixture(scope="module")
def guarded(database: Database) -> Iterator[tuple[sa.Connection, list[Filled]]]:
    with prepared(database, "mutant") as both, database.admin_engine.connect() as connection:
        transaction = connection.begin()
        yield connection, both
        transaction.rollback()


def test_whatever_policy_is_dropped_something_turns_red(guarded: tuple[sa.Connection, list[Filled]]) -> None:
    connection, both = guarded
    readable = {role: _readable(connection, role) for role in ROLES}

    def gate() -> bool:
        return not catalog.findings(connection)

    def sight() -> bool:
        return all(_sees_its_own(connection, role, readable[role], both[0]) for role in ROLES)

    def lookups() -> bool:
        return _finds(connection, both)

    assert gate()
    assert sight()
    assert lookups()
    # Where a loss shows first, to be quick; each is looked at before a policy counts as one nobody misses.
    order = {"application": [sight, gate, lookups], "lookup": [lookups, gate, sight], "append": [lookups, gate, sight]}
    policies = connection.execute(
        sa.text("select polname, cast(cast(polrelid as regclass) as text) from pg_policy order by 2, 1")
    ).all()
    assert len(policies) > 60
    unnoticed = []
    for name, table in policies:
        kept = connection.begin_nested()
        connection.exec_driver_sql(f"drop policy {name} on {table}")
        if all(look() for look in order.get(name, [gate, sight, lookups])):
            unnoticed.append(f"{name} on {table}")
        kept.rollback()
    assert unnoticed == []


def _readable(connection: sa.Connection, role: str) -> dict[str, list[str]]:
    """Tables that the role may read, by the column that says whose a row is."""
    tables = {"tenant_id": catalog.tenant_tables(connection), "user_id": catalog.user_tables(connection)}
    may = sa.text("select has_any_column_privilege(cast(:role as name), :table, 'select')")
    return {
        column: [table for table in named if connection.scalar(may, {"role": role, "table": table})]
        for column, named in tables.items()
    }


def _sees_its_own(connection: sa.Connection, role: str, readable: dict[str, list[str]], one: Filled) -> bool:
    """Whether the role sees rows of its tenant, or of its person, in every table that it may read, and no others."""
    for tables, column, own, scope in (
        (readable["tenant_id"], "tenant_id", one.tenant_id, enter),
        (["ogf.users"], "user_id", one.user_id, enter),
        (readable["user_id"], "user_id", one.user_id, enter_user),
    ):
        kept = connection.begin_nested()
        connection.exec_driver_sql(f"set local role {role}")
        scope(connection, one.tenant_id if scope is enter else one.user_id)
        union = " union ".join(f"select distinct '{table}', {column} from {table}" for table in tables)
        seen = sorted((row[0], row[1]) for row in connection.execute(sa.text(union)))
        kept.rollback()
        if seen != sorted((table, own) for table in tables):
            return False
    return True


def _finds(connection: sa.Connection, both: list[Filled]) -> bool:
    """Whether every function that looks across tenants finds each of the two tenants, and counts both."""
    for statement, one, least in [
        *((statement, one, 1) for statement in CALLS.values() for one in both),
        *((statement, both[0], 2) for statement in FIGURES.values()),
    ]:
        text = sa.text(statement)
        kept = connection.begin_nested()
        try:
            found = connection.scalar(text, {name: getattr(one, name) for name in text._bindparams})
        except sa.exc.DBAPIError:  # a policy that lets a function write is gone
            found = None
        kept.rollback()
        if found is None or found < least:
            return False
    return True
