"""`connect`: ready in one call outside of production, refused with a cure where policies would not bind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from offgridflow_pipeline.database.engine import Database, DatabaseError, connect
from offgridflow_pipeline.database.server import migrations
from offgridflow_pipeline.database.server.migrations import MigrationError, PendingMigrationError
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline_tests.counterparts.postgres import empty_database, server_url, settings


@pytest.fixture
def fresh(database: Database) -> Iterator[Settings]:
    """Settings of a database nobody has prepared, on a server whose roles exist."""
    with empty_database(database.admin_engine.url) as opened:
        yield settings(Path("/nowhere"), opened.admin_engine.url)


def test_several_processes_can_be_the_first_on_a_new_server() -> None:
    results: list[object] = []

    def run(chosen: Settings) -> None:
        try:
            database = connect(chosen)
            results.append(database.tenants.list())
            database.close()
        except Exception as error:  # noqa: BLE001  shown by the assertion
            results.append(error)

    with empty_database() as opened:
        chosen = settings(Path("/nowhere"), opened.admin_engine.url)
        threads = [threading.Thread(target=run, args=[chosen]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [[], [], [], []]


def test_production_does_not_migrate_by_itself(fresh: Settings) -> None:
    production = fresh.model_copy(update={"environment": "production"})
    with pytest.raises(DatabaseError, match="Run `offgridflow db migrate`"):
        connect(production)
    connect(fresh).close()
    connect(production).close()


def test_production_refuses_the_embedded_server(tmp_path: Path) -> None:
    production = settings(tmp_path, None).model_copy(update={"environment": "production"})
    with pytest.raises(DatabaseError, match="not for production: set DATABASE_URL"):
        connect(production)
    assert list(tmp_path.iterdir()) == []


def test_a_database_newer_than_the_code_is_refused_everywhere(fresh: Settings) -> None:
    database = connect(fresh)
    with database.admin_engine.begin() as connection:
        connection.exec_driver_sql(
            "insert into ogf.schema_migration (version, name, sha256, app_version, duration_ms)"
            " values (999, '0999_future.sql', '', '', 0)"
        )
    database.close()
    with pytest.raises(MigrationError, match=r"0999_future.sql, newer than this code"):
        connect(fresh)


@pytest.mark.parametrize("power", ["superuser", "bypassrls"])
def test_an_application_role_that_ignores_policies_is_refused(fresh: Settings, power: str) -> None:
    if server_url() is not None:
        pytest.skip("changes a role that other workers of the shared server use")
    database = connect(fresh)
    with database.admin_engine.begin() as connection:
        connection.exec_driver_sql(f"alter role ogf_pipeline {power}")
    try:
        for refusing in (database.require_ready, lambda: connect(fresh)):
            with pytest.raises(DatabaseError, match="alter role ogf_pipeline nosuperuser nobypassrls"):
                refusing()
    finally:
        with database.admin_engine.begin() as connection:
            connection.exec_driver_sql(f"alter role ogf_pipeline no{power}")
        database.close()


def test_an_application_role_that_owns_tables_is_refused(fresh: Settings) -> None:
    database = connect(fresh)
    with database.admin_engine.begin() as connection:
        connection.exec_driver_sql("alter table ogf.check_ledger owner to ogf_pipeline")
    with pytest.raises(DatabaseError, match="owns tables"):
        database.require_ready()
    database.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://root@localhost/ogf", "needs PostgreSQL 15 or newer"),
        ("not a url", "DATABASE_URL is no URL"),
        ("postgresql://u:hunter2@127.0.0.1:1/ogf", "out of reach"),
    ],
)
def test_an_unusable_url_is_refused_without_showing_its_password(tmp_path: Path, url: str, message: str) -> None:
    chosen = settings(tmp_path, None).model_copy(update={"database_url": SecretStr(url)})
    with pytest.raises(DatabaseError, match=message) as refused:
        connect(chosen)
    assert "hunter2" not in str(refused.value)


def test_an_older_schema_is_migrated_on_the_way(fresh: Settings, tmp_path: Path, monkeypatch) -> None:
    first, *later = migrations.read_migrations()
    (tmp_path / first.name).write_text(first.text)
    database = connect(fresh)
    with database.admin_engine.begin() as connection:
        connection.exec_driver_sql("drop schema ogf cascade")
    migrations.migrate(database.admin_engine, tmp_path)
    with pytest.raises(PendingMigrationError, match=later[0].name):
        database.require_ready()
    database.close()
    connect(fresh).close()


def test_text_folds_and_sorts_alike_on_every_machine(database: Database) -> None:
    with database.application_engine.connect() as connection:
        version = int(connection.scalar(sa.text("show server_version_num"))) // 10_000
        if version < 17:
            pytest.skip("the built-in locale exists since PostgreSQL 17")
        assert connection.scalar(sa.text("select upper('straße é')")) == "STRAßE É"
        assert connection.scalar(sa.text("select array_agg(x order by x) from unnest(array['b', 'Z', 'a']) x")) == [
            "Z",
            "a",
            "b",
        ]


def test_times_are_utc_and_statements_are_limited(database: Database) -> None:
    with database.application_engine.connect() as connection:
        shown = {
            name: connection.scalar(sa.text(f"show {name}"))
            for name in ("timezone", "statement_timeout", "lock_timeout", "application_name")
        }
    assert shown == {
        "timezone": "UTC",
        "statement_timeout": "5min",
        "lock_timeout": "1min",
        "application_name": "offgridflow",
    }


def test_dagster_has_a_database_of_its_own_with_its_own_driver(database: Database) -> None:
    url = sa.make_url(database.dagster_url())
    assert url.drivername == "postgresql+psycopg2"
    assert url == sa.make_url(database.dagster_url())
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        assert connection.exec_driver_sql("select current_user").scalar() == "ogf_dagster"
        connection.exec_driver_sql("create table proof (x int)")
        connection.exec_driver_sql("drop table proof")
    engine.dispose()


def test_sqlalchemy_stays_below_2_1() -> None:
    """2.1 reads ``postgresql://`` as psycopg 3, and dagster-postgres breaks on its first event."""
    assert sa.__version__.startswith("2.0.")
    assert sa.create_engine("postgresql://u@h/d").driver == "psycopg2"
