"""`offgridflow db` and `offgridflow tenant`: one line per result, exit code 1 and the cure on a refusal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from offgridflow_pipeline import settings as settings_module
from offgridflow_pipeline.cli import db, tenant
from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.server import catalog
from offgridflow_pipeline_tests.counterparts.postgres import settings

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command against the session's database; returns exit code and output."""
    chosen = settings(tmp_path, database.admin_engine.url)
    monkeypatch.setattr(settings_module, "load_settings", lambda: chosen)

    def call(app, *arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, arguments)
        return result.exit_code, result.output

    return call


def test_a_migrated_database_verifies(run: Run, database: Database) -> None:
    with database.admin_engine.connect() as connection:
        tables = len(catalog.tenant_tables(connection))
    assert run(db.app, "migrate") == (0, "The schema is up to date.\n")
    code, output = run(db.app, "status")
    assert (code, output.splitlines()[0]) == (0, "applied  0001_tenants.sql")
    code, output = run(db.app, "verify")
    assert code == 0
    assert f"row level security enabled and forced on {tables} tenant tables" in output


def test_verify_fails_on_a_table_without_row_level_security(run: Run, database: Database) -> None:
    with database.admin_engine.begin() as connection:
        connection.exec_driver_sql("create table public.leak (tenant_id uuid not null)")
    try:
        code, output = run(db.app, "verify")
    finally:
        with database.admin_engine.begin() as connection:
            connection.exec_driver_sql("drop table public.leak")
    assert code == 1
    assert "row level security is not enabled on public.leak" in output


def test_tenants_are_added_and_listed(run: Run, new_tenant: Callable[[], str]) -> None:
    slug = f"{new_tenant()}-cli"
    code, output = run(tenant.app, "add", slug, "A & B", "--currency", "USD")
    assert (code, output.startswith(f"Added {slug}")) == (0, True)
    code, output = run(tenant.app, "list")
    assert code == 0
    assert [line.split()[1:] for line in output.splitlines() if line.startswith(f"{slug} ")] == [
        ["active", "USD", "-", "A", "&", "B"]
    ]


def test_a_refused_tenant_is_one_line_and_exit_code_1(run: Run) -> None:
    code, output = run(tenant.app, "add", "Not-A-Slug", "X")
    assert code == 1
    assert output.count("\n") == 1
    assert "lower-case letters" in output


def test_a_server_out_of_reach_is_one_line_and_exit_code_1(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlalchemy as sa

    nowhere = settings(tmp_path, sa.make_url("postgresql://u:hunter2@127.0.0.1:1/ogf"))
    monkeypatch.setattr(settings_module, "load_settings", lambda: nowhere)
    for command in ("migrate", "status", "verify"):
        code, output = run(db.app, command)
        assert code == 1
        assert "out of reach" in output
        assert "hunter2" not in output


def test_stop_without_a_server_says_so(run: Run) -> None:
    assert run(db.app, "stop") == (0, "No embedded server was running.\n")
