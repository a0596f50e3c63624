"""Health: alive without I/O, ready only with database, schema and artefact store."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from offgridflow_pipeline.database.engine import Database, Login
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline.sidecar.readiness import Readiness
from offgridflow_pipeline_tests.sidecar.serving import Api, served_api, statements

OUT_OF_REACH = sa.make_url("postgresql+psycopg://nobody@127.0.0.1:1/none")


def test_a_live_process_says_so_without_asking_anything(api: Api) -> None:
    with statements(api.served) as seen:
        answer = api.client.get("/livez")
    assert (answer.status_code, answer.json(), seen) == (200, {"status": "ok"}, [])
    assert answer.headers["cache-control"] == "no-store"


def test_a_process_with_everything_it_needs_is_ready(api: Api) -> None:
    assert api.client.get("/readyz").json() == {"status": "ok"}


def test_without_its_database_a_process_is_alive_and_not_ready(database: Database, tmp_path: Path) -> None:
    gone = Database(OUT_OF_REACH, [Login("ogf_api", "")])
    with served_api(database, gone, tmp_path, ["health"]) as api:
        assert api.client.get("/livez").status_code == 200
        answer = api.client.get("/readyz")
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert answer.json()["detail"] == "Not ready: the database is out of reach."
    assert "127.0.0.1" not in answer.text


def test_a_schema_of_another_release_is_not_ready(
    api_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from offgridflow_pipeline.database.server import migrations

    newer = [*migrations.read_migrations(), migrations.Migration(9999, "9999_newer.sql", "0" * 64, "")]
    monkeypatch.setattr(migrations, "read_migrations", lambda *_: newer)
    readiness = Readiness(Settings(_env_file=None, environment="test", data_dir=tmp_path), api_database)
    assert readiness.missing() == ["the database schema does not fit this release"]


@pytest.mark.parametrize(
    ("environment", "missing"), [("test", []), ("production", ["the artefact store is out of reach"])]
)
def test_a_lake_folder_that_is_not_there_is_a_mount_that_is_missing_in_production_only(
    api_database: Database, tmp_path: Path, environment: str, missing: list[str]
) -> None:
    settings = Settings(_env_file=None, environment=environment, lake_uri=str(tmp_path / "lake"))
    assert Readiness(settings, api_database).missing() == missing


def test_what_was_found_is_told_again_for_a_second(api_database: Database, tmp_path: Path) -> None:
    readiness = Readiness(Settings(_env_file=None, environment="test", data_dir=tmp_path), api_database)
    with statements(api_database) as seen:
        readiness.missing()
        asked = len(seen)
        readiness.missing()
    assert len(seen) == asked > 0
