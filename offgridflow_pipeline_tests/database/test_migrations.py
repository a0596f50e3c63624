"""Migration runner: files apply once, in order, whole or not at all; anything that does not fit is refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.server import migrations
from offgridflow_pipeline.database.server.migrations import MigrationError, PendingMigrationError
from offgridflow_pipeline_tests.counterparts.postgres import empty_database


@pytest.fixture(scope="module")
def server(database: Database) -> Iterator[Database]:
    """A second database of the session's server."""
    with empty_database(database.admin_engine.url) as opened:
        opened.prepare()
        yield opened


@pytest.fixture
def blank(server: Database) -> Database:
    """The database without any trace of a migration."""
    with server.admin_engine.begin() as connection:
        connection.exec_driver_sql("drop schema if exists ogf cascade")
    return server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001_first.sql").write_text("create table ogf.first (x int);\n")
    (tmp_path / "0002_second.sql").write_text("create table ogf.second (x int);\n-- 100 % plain\n")
    return tmp_path


def _tables(database: Database) -> set[str]:
    with database.admin_engine.connect() as connection:
        return set(sa.inspect(connection).get_table_names(schema="ogf")) - {"schema_migration"}


def test_the_projects_own_migrations_apply_to_an_empty_database(blank: Database) -> None:
    applied = migrations.migrate(blank.admin_engine)
    assert applied == [file.name for file in migrations.read_migrations()]
    migrations.verify(blank.admin_engine)
    blank.require_ready()


def test_files_apply_once_and_in_order(blank: Database, folder: Path) -> None:
    assert migrations.migrate(blank.admin_engine, folder) == ["0001_first.sql", "0002_second.sql"]
    assert migrations.migrate(blank.admin_engine, folder) == []
    assert _tables(blank) == {"first", "second"}
    migrations.verify(blank.admin_engine, folder)


def test_tables_belong_to_the_owner_role_whoever_migrates(blank: Database, folder: Path) -> None:
    migrations.migrate(blank.admin_engine, folder)
    with blank.admin_engine.connect() as connection:
        owners = connection.scalars(sa.text("select distinct tableowner from pg_tables where schemaname = 'ogf'")).all()
    assert owners == ["ogf_owner"]


def test_an_added_file_is_pending_until_it_is_applied(blank: Database, folder: Path) -> None:
    migrations.migrate(blank.admin_engine, folder)
    (folder / "0003_third.sql").write_text("create table ogf.third (x int);")
    assert [s.state for s in migrations.status(blank.admin_engine, folder)] == [
        "applied",
        "applied",
        "pending",
    ]
    with pytest.raises(PendingMigrationError, match="0003_third.sql is pending"):
        migrations.verify(blank.admin_engine, folder)
    assert migrations.migrate(blank.admin_engine, folder) == ["0003_third.sql"]


def test_status_of_a_database_without_schema_changes_nothing(blank: Database, folder: Path) -> None:
    assert {s.state for s in migrations.status(blank.admin_engine, folder)} == {"pending"}
    with blank.admin_engine.connect() as connection:
        assert not sa.inspect(connection).has_schema("ogf")


def _edit(folder: Path) -> None:
    (folder / "0001_first.sql").write_text("create table ogf.first (x bigint);")


def _remove(folder: Path) -> None:
    (folder / "0001_first.sql").rename(folder / "0001_other.sql")


def _go_back(folder: Path) -> None:
    (folder / "0002_second.sql").unlink()


@pytest.mark.parametrize(
    ("change", "message", "states"),
    [
        (_edit, "0001_first.sql was edited after it was applied: restore it", ["edited", "applied"]),
        (
            _remove,
            "0001_first.sql was applied but its file is missing: restore it",
            ["missing", "pending", "applied"],
        ),
        (_go_back, "0002_second.sql, newer than this code: update the code", ["applied", "missing"]),
    ],
)
def test_files_that_do_not_fit_the_database_are_refused(
    blank: Database, folder: Path, change, message: str, states: list[str]
) -> None:
    migrations.migrate(blank.admin_engine, folder)
    change(folder)
    for attempt in (migrations.migrate, migrations.verify):
        with pytest.raises(MigrationError, match=message):
            attempt(blank.admin_engine, folder)
    assert [s.state for s in migrations.status(blank.admin_engine, folder)] == states
    assert _tables(blank) == {"first", "second"}


def test_a_number_applied_without_its_predecessor_is_out_of_order(blank: Database, folder: Path) -> None:
    migrations.migrate(blank.admin_engine, folder)
    with blank.admin_engine.begin() as connection:
        connection.exec_driver_sql("delete from ogf.schema_migration where version = 1")
    with pytest.raises(MigrationError, match="0001_first.sql is out of order"):
        migrations.migrate(blank.admin_engine, folder)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("0003-third.sql", "select 1", "NNNN_slug.sql"),
        ("0003_Third.sql", "select 1", "NNNN_slug.sql"),
        ("0004_gap.sql", "select 1", "expected number 0003"),
        ("0002_twice.sql", "select 1", "expected number 0003"),
        ("0003_own.sql", "select 1;\ncommit;", "line 2: the runner opens and closes the transaction"),
        ("0003_own.sql", "BEGIN;\nselect 1;", "line 1: the runner opens"),
    ],
)
def test_a_folder_that_cannot_be_ordered_is_refused(folder: Path, name: str, text: str, message: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(MigrationError, match=message):
        migrations.read_migrations(folder)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MigrationError, match="run from a checkout"):
        migrations.read_migrations(tmp_path)


def test_line_ends_of_the_checkout_do_not_change_a_checksum(folder: Path) -> None:
    before = migrations.read_migrations(folder)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert [m.sha256 for m in migrations.read_migrations(folder)] == [m.sha256 for m in before]


def test_a_failing_file_leaves_nothing_and_keeps_the_ones_before_it(blank: Database, folder: Path) -> None:
    (folder / "0003_broken.sql").write_text("create table ogf.third (x int);\nselect nonsense;\n")
    with pytest.raises(MigrationError, match=r"0003_broken.sql, line 2: column \"nonsense\" does not exist"):
        migrations.migrate(blank.admin_engine, folder)
    assert _tables(blank) == {"first", "second"}
    (folder / "0003_broken.sql").write_text("create table ogf.third (x int);")
    assert migrations.migrate(blank.admin_engine, folder) == ["0003_broken.sql"]


def test_a_data_migration_that_policies_would_reduce_to_nothing_fails(blank: Database, folder: Path) -> None:
    (folder / "0003_forced.sql").write_text(
        "alter table ogf.first enable row level security; alter table ogf.first force row level security;"
    )
    (folder / "0004_update.sql").write_text("update ogf.first set x = 1;")
    with pytest.raises(MigrationError, match="0004_update.sql.*row-level security"):
        migrations.migrate(blank.admin_engine, folder)


def test_of_runners_at_once_one_applies_and_all_succeed(blank: Database, folder: Path) -> None:
    (folder / "0003_slow.sql").write_text("select pg_sleep(0.2); create table ogf.third (x int);")
    results: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: results.append(migrations.migrate(blank.admin_engine, folder)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(len(names) for names in results) == [0, 0, 0, 3]


def test_a_runner_that_is_killed_leaves_the_old_version_and_no_lock(blank: Database, folder: Path) -> None:
    migrations.migrate(blank.admin_engine, folder)
    slow = folder / "0003_slow.sql"
    slow.write_text("create table ogf.third (x int); select pg_sleep(30);")
    failures: list[Exception] = []

    def run() -> None:
        try:
            migrations.migrate(blank.admin_engine, folder)
        except MigrationError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    with blank.admin_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        ended = 0
        while not ended:
            ended = connection.scalar(
                sa.text(
                    "select count(pg_terminate_backend(pid)) from pg_stat_activity"
                    " where query like '%pg_sleep(30)%' and state = 'active' and pid <> pg_backend_pid()"
                )
            )
    thread.join()
    assert failures
    assert _tables(blank) == {"first", "second"}
    slow.write_text("create table ogf.third (x int);")
    assert migrations.migrate(blank.admin_engine, folder) == ["0003_slow.sql"]


def test_without_roles_the_runner_says_what_to_run(blank: Database, folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(migrations, "OWNER_ROLE", "ogf_nobody")
    with pytest.raises(MigrationError, match="roles are missing: run `offgridflow db migrate`"):
        migrations.migrate(blank.admin_engine, folder)
