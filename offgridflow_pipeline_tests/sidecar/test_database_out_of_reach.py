"""A database that cannot be reached, or has no connection to spare: 503 and when to come back, never a 500."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from offgridflow_pipeline.database.engine import Database, Login
from offgridflow_pipeline.identity import api_keys
from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline.sidecar.app import create_app
from offgridflow_pipeline.sidecar.entrance.problems import MEDIA_TYPE
from offgridflow_pipeline_tests.sidecar.portal.house import words
from offgridflow_pipeline_tests.sidecar.world import ORIGIN

NOWHERE = sa.make_url("postgresql+psycopg://nobody@127.0.0.1:1/none")
SESSION = {"Cookie": "ogf_session=" + "a" * 43, **ORIGIN}


def client_of(database: Database, folder: Path) -> TestClient:
    settings = Settings(_env_file=None, environment="test", data_dir=folder, metrics_port=0)
    return TestClient(create_app(settings, database), follow_redirects=False, raise_server_exceptions=False)


@pytest.fixture
def cut_off(tmp_path: Path) -> TestClient:
    """An app whose database is nowhere."""
    return client_of(Database(NOWHERE, [Login("ogf_api", "")]), tmp_path)


@pytest.fixture
def key(api_database: Database, new_tenant: object) -> dict[str, str]:
    """Headers of a key of a new tenant."""
    tenant = str(new_tenant())  # type: ignore[operator]
    granted = [Permission.EMISSIONS_READ]
    with api_database.tenant(tenant) as scope:
        made = api_keys.create(
            api_database.within(scope), tenant, "k", granted, creator="system", creator_permissions=frozenset(granted)
        )
    return {"Authorization": f"Bearer {made.text}"}


@pytest.fixture
def exhausted(api_database: Database, database: Database, tmp_path: Path) -> Iterator[TestClient]:
    """An app whose only connection somebody else holds."""
    small = database.connected_as("ogf_api")
    engine = sa.create_engine(
        api_database.application_engine.url, pool_size=1, max_overflow=0, pool_timeout=0.05, hide_parameters=True
    )
    small.__dict__["application_engine"] = engine  # the cached engine, with a pool of one
    with engine.connect():
        yield client_of(small, tmp_path)
    small.close()


def test_the_api_says_when_to_come_back_and_nothing_of_the_cause(
    cut_off: TestClient, key: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    for method, path in (("GET", "/v1/tenant"), ("POST", "/v1/auth/token"), ("GET", "/v1/emissions/series")):
        answer = cut_off.request(method, path, headers=key, params={"from": "2026-10-01", "to": "2026-10-02"})
        assert (answer.status_code, answer.headers["content-type"]) == (503, MEDIA_TYPE), answer.text
        assert answer.json()["code"] == "unavailable"
        assert answer.headers["retry-after"] == "5"
        assert "127.0.0.1" not in answer.text
    assert "the database cannot answer" in caplog.text
    assert key["Authorization"].partition(" ")[2] not in caplog.text


def test_a_page_says_it_in_words(cut_off: TestClient) -> None:
    answer = cut_off.get("/reports", headers=SESSION)
    assert answer.status_code == 503
    assert "Try again in a moment." in words(answer)
    assert cut_off.get("/livez").status_code == 200


def test_no_connection_to_spare_is_the_same(exhausted: TestClient, key: dict[str, str]) -> None:
    answer = exhausted.get("/v1/tenant", headers=key)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


def test_a_statement_that_takes_too_long_is_the_same(
    api_database: Database, tmp_path: Path, key: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(_self: object, _tenant: str) -> None:
        with api_database.application_engine.begin() as connection:
            connection.execute(sa.text("set local statement_timeout = '5ms'"))
            connection.execute(sa.text("select pg_sleep(1)"))

    monkeypatch.setattr("offgridflow_pipeline.database.tenants.Tenants.get", slow)
    answer = client_of(api_database, tmp_path).get("/v1/tenant", headers=key)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
