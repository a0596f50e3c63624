"""The oldest supported server, Debian's PostgreSQL 15: same migrations, same isolation, restricted administrators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from offgridflow_pipeline.database.engine import DatabaseError, connect
from offgridflow_pipeline.database.server import catalog
from offgridflow_pipeline_tests.counterparts.postgres import (
    DEBIAN_BINARIES,
    debian_server,
    migrated_database,
    server_url,
    settings,
)

needs_debian = pytest.mark.skipif(
    not (DEBIAN_BINARIES / "postgres").exists(),
    reason="Debian's PostgreSQL 15 is not installed (apt: postgresql-15)",
)


@pytest.fixture(scope="module")
def debian() -> Iterator[sa.URL]:
    with debian_server() as url:
        yield url


@needs_debian
def test_the_migrations_apply_and_tenants_are_kept_apart_on_postgresql_15(debian: sa.URL) -> None:
    with migrated_database(debian) as database:
        with database.admin_engine.connect() as connection:
            assert connection.scalar(sa.text("show server_version")).startswith("15.")
            assert catalog.findings(connection) == []
        database.tenants.add("one", "One")
        database.tenants.add("two", "Two")
        database.check_ledger.record(run_id="r", check_name="c", partition_keys=["d|one", "d|two"], failing={})
        with database.tenant("one") as scope:
            seen = scope.connection.scalars(sa.text("select partition_key from ogf.check_ledger")).all()
        assert seen == ["d|one"]
        assert sa.make_url(database.dagster_url()).database == f"{database.admin_engine.url.database}_dagster"


@pytest.fixture(params=["debian", "default"])
def restricted(request: pytest.FixtureRequest, database) -> Iterator[sa.URL]:
    """The URL of an administrator as managed servers give: CREATEROLE and CREATEDB, no superuser."""
    if request.param == "debian":
        if not (DEBIAN_BINARIES / "postgres").exists():
            pytest.skip("Debian's PostgreSQL 15 is not installed (apt: postgresql-15)")
        url = request.getfixturevalue("debian")
    elif server_url() is not None:
        pytest.skip("makes roles on the server, which DATABASE_URL shares with others")
    else:
        url = database.admin_engine.url.set(database="postgres")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    created = ("ogf_owner", "ogf_definer", "ogf_pipeline", "ogf_api", "ogf_dagster")
    with engine.connect() as connection:
        connection.exec_driver_sql("create role managed login createrole createdb")
        known = connection.scalars(
            sa.text("select rolname from pg_roles where rolname = any(:r)"), {"r": list(created)}
        ).all()
        for role in known:  # as if the administrator had made them
            grant = f"grant {role} to managed with admin option"
            connection.exec_driver_sql(grant)
    yield url.set(username="managed")
    with engine.connect() as connection:
        connection.exec_driver_sql("reassign owned by managed to current_user")
        connection.exec_driver_sql("drop owned by managed")
        for role in known:
            connection.exec_driver_sql(f"revoke {role} from managed cascade")
        connection.exec_driver_sql("drop role managed")
    engine.dispose()


def test_an_administrator_without_superuser_can_prepare_everything(restricted: sa.URL) -> None:
    with migrated_database(restricted) as database:
        with database.admin_engine.connect() as connection:
            assert connection.scalar(sa.text("show is_superuser")) == "off"
            assert catalog.findings(connection) == []
        database.tenants.add("acme", "Acme")
        assert [t.slug for t in database.tenants.list()] == ["acme"]
        dagster = sa.create_engine(database.dagster_url())
        with dagster.connect() as connection:
            assert connection.exec_driver_sql("select current_user").scalar() == "ogf_dagster"
        dagster.dispose()


@needs_debian
def test_an_administrator_who_may_not_make_roles_is_told_what_is_needed(debian: sa.URL, tmp_path: Path) -> None:
    engine = sa.create_engine(debian, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("create role weak login")
    try:
        with pytest.raises(DatabaseError, match="'weak' of DATABASE_URL may not .*CREATEROLE"):
            connect(settings(tmp_path, debian.set(username="weak", database="ogf_of_weak")))
    finally:
        with engine.connect() as connection:
            connection.exec_driver_sql("drop role weak")
        engine.dispose()
