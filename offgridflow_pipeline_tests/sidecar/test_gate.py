"""The gate through real nginx, with the real app behind it and small webservers in Dagster's place: attacks replayed."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import uvicorn
from starlette.testclient import TestClient

from offgridflow_pipeline.database.engine import Database, open_database
from offgridflow_pipeline.identity import sessions
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline.sidecar.app import create_app
from offgridflow_pipeline_tests.counterparts.nginx import Proxy, nginx
from offgridflow_pipeline_tests.counterparts.postgres import settings as database_settings
from offgridflow_pipeline_tests.counterparts.processes import free_port
from offgridflow_pipeline_tests.counterparts.scripted_server import Response, ScriptedServer, scripted_server

SITE = Path(__file__).parents[2] / "deploy" / "proxy" / "nginx.conf"
READ_WRITE, READ_ONLY = "dagster.example.com", "dagster-view.example.com"
ORIGINS = [f"https://{READ_WRITE}", f"https://{READ_ONLY}"]
COOKIE = "ogf_session"


@dataclass
class Person:
    """Someone with a session."""

    user_id: uuid.UUID
    token: str


def person(
    database: Database, settings: Settings, role: str | None, *, second_factor: bool = True, tenant: str = ""
) -> Person:
    user_id, token = uuid.uuid4(), uuid.uuid4().hex
    tenant_id = database.tenants.get(tenant).tenant_id if tenant else None
    pepper = settings.session_pepper.get_secret_value().encode()
    statements = [
        "insert into ogf.users (user_id, email, display_name, platform_role)"
        " values (:user_id, :email, 'Someone', :role)",
        "insert into ogf.sessions (user_id, token_hmac, active_tenant, second_factor, expires_at)"
        " values (:user_id, :token_hmac, :tenant_id, :second_factor, clock_timestamp() + interval '1 day')",
    ]
    if tenant:
        statements.append(
            "insert into ogf.memberships (tenant_id, user_id, role, granted_by)"
            " values (:tenant_id, :user_id, 'owner', 'system')"
        )
    with database.admin_engine.begin() as connection:
        for statement in statements:
            connection.execute(
                sa.text(statement),
                {
                    "user_id": user_id,
                    "email": f"{user_id}@example.org",
                    "role": role,
                    "token_hmac": sessions.token_hmac(token, pepper),
                    "tenant_id": tenant_id,
                    "second_factor": second_factor,
                },
            )
    return Person(user_id, token)


def events(database: Database, who: Person) -> list[dict[str, Any]]:
    """Events of the platform's chain that the person caused."""
    with database.admin_engine.begin() as connection:
        bodies = connection.execute(
            sa.text("select body from ogf.audit_events where tenant_id = :nil order by seq"), {"nil": uuid.UUID(int=0)}
        ).scalars()
        found = [json.loads(body) for body in bodies]
    return [event for event in found if event["actor"]["id"] == str(who.user_id)]


@pytest.fixture(scope="module")
def settings(database: Database) -> Settings:
    return database_settings(Path("var"), database.admin_engine.url).model_copy(
        update={"gate_origins": ORIGINS, "trusted_proxies": ["127.0.0.1/32"]}
    )


@pytest.fixture(scope="module")
def served(settings: Settings) -> Iterator[Database]:
    opened = open_database(settings, role="ogf_api")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def client(settings: Settings, served: Database) -> TestClient:
    return TestClient(create_app(settings, served))


def knock(client: TestClient, who: Person | None, mode: str = "read-only", uri: str = "/", **headers: str) -> Any:
    stated = {"x-original-method": "GET", "x-original-uri": uri, "x-gate-mode": mode}
    if who is not None:
        stated["cookie"] = f"{COOKIE}={who.token}"
    return client.get("/gate", headers=stated | {name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    ("role", "mode", "status"),
    [
        ("platform_engineer", "read-write", 204),
        ("platform_engineer", "read-only", 204),
        ("platform_operator", "read-only", 204),
        ("platform_operator", "read-write", 403),
        (None, "read-only", 403),
        (None, "read-write", 403),
    ],
)
def test_roles_of_the_platform_enter_by_mode(
    database: Database, settings: Settings, client: TestClient, role: str | None, mode: str, status: int
) -> None:
    who = person(database, settings, role)
    answer = knock(client, who, mode)
    assert answer.status_code == status
    if status == 204:
        assert answer.content == b""
        assert answer.headers["x-offgridflow-user"] == str(who.user_id)
        assert answer.headers["x-offgridflow-role"] == role


def test_without_a_session_the_answer_names_the_sign_in(client: TestClient) -> None:
    answer = knock(client, None)
    assert answer.status_code == 401
    assert answer.headers["location"] == "/sign-in"


def test_an_owner_of_a_tenant_does_not_enter(
    database: Database, settings: Settings, client: TestClient, new_tenant: Any
) -> None:
    assert knock(client, person(database, settings, None, tenant=new_tenant())).status_code == 403


def test_without_a_second_factor_nobody_enters(database: Database, settings: Settings, client: TestClient) -> None:
    who = person(database, settings, "platform_engineer", second_factor=False)
    assert knock(client, who).status_code == 403
    assert [event["outcome"] for event in events(database, who)] == ["second_factor"]


def test_a_revoked_session_does_not_enter(database: Database, settings: Settings, client: TestClient) -> None:
    who = person(database, settings, "platform_engineer")
    assert knock(client, who).status_code == 204
    with database.admin_engine.begin() as connection:
        connection.execute(
            sa.text("update ogf.sessions set revoked_at = clock_timestamp() where user_id = :user_id"),
            {"user_id": who.user_id},
        )
    assert knock(client, who).status_code == 401


def test_keys_and_tokens_do_not_enter(database: Database, settings: Settings, client: TestClient) -> None:
    who = person(database, settings, "platform_engineer")
    assert knock(client, who, authorization="Bearer ogf_live_x").status_code == 403


def test_entering_is_one_event_per_session_and_mode_however_many_requests(
    database: Database, settings: Settings, client: TestClient
) -> None:
    who = person(database, settings, "platform_engineer")
    for _ in range(3):
        knock(client, who, "read-only")
    knock(client, who, "read-write")
    found = events(database, who)
    assert [(event["action"], event["target"]) for event in found] == [
        ("gate:entered", "dagster:read-only"),
        ("gate:entered", "dagster:read-write"),
    ]


def test_every_refusal_of_a_platform_person_is_an_event_with_its_reason(
    database: Database, settings: Settings, client: TestClient
) -> None:
    who = person(database, settings, "platform_engineer")
    knock(client, who, "read-write", "/report_asset_check/x")
    knock(client, who, "read-write", "/graphql?query=secret-query")
    knock(client, who, "everything")
    found = events(database, who)
    assert [event["outcome"] for event in found] == ["forges_records", "graphql_by_get", "unclear"]
    assert {event["action"] for event in found} == {"gate:refused"}
    assert "secret-query" not in json.dumps(found)


@dataclass
class Site:
    """nginx, and the two webservers behind it."""

    proxy: Proxy
    read_write: ScriptedServer
    read_only: ScriptedServer

    def ask(self, who: Person | None, method: str, target: str, host: str = READ_WRITE, **headers: str) -> HTTPResponse:
        stated = {name.replace("_", "-"): value for name, value in headers.items()}
        if who is not None:
            stated["Cookie"] = f"{COOKIE}={who.token}"
        body = b'{"query":"{__typename}"}' if method == "POST" else b""
        return self.proxy.ask(host, method, target, stated, body)

    @property
    def reached(self) -> int:
        """How many requests reached either webserver."""
        return len(self.read_write.requests) + len(self.read_only.requests)


@pytest.fixture(scope="module")
def site(settings: Settings, served: Database) -> Iterator[Site]:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(create_app(settings, served), port=port, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    try:
        with scripted_server() as read_write, scripted_server() as read_only:
            for name, behind in (("read-write", read_write), ("read-only", read_only)):
                behind.rules.append(lambda _request, _forward, name=name: Response(200, {}, name.encode()))
            with nginx(
                SITE,
                OGF_READ_WRITE_HOST=READ_WRITE,
                OGF_READ_ONLY_HOST=READ_ONLY,
                OGF_SIDECAR=f"127.0.0.1:{port}",
                OGF_DAGSTER_READ_WRITE=read_write.netloc,
                OGF_DAGSTER_READ_ONLY=read_only.netloc,
            ) as proxy:
                yield Site(proxy, read_write, read_only)
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def engineer(database: Database, settings: Settings) -> Person:
    return person(database, settings, "platform_engineer")


@pytest.fixture(scope="module")
def operator(database: Database, settings: Settings) -> Person:
    return person(database, settings, "platform_operator")


def test_the_host_decides_which_webserver_answers(site: Site, engineer: Person, operator: Person) -> None:
    assert site.ask(engineer, "GET", "/runs").body == b"read-write"
    assert site.ask(engineer, "GET", "/runs", READ_ONLY).body == b"read-only"
    assert site.ask(operator, "GET", "/runs", READ_ONLY).body == b"read-only"
    assert site.ask(operator, "GET", "/runs", READ_WRITE).status == 403


def test_dagster_sees_who_asks_and_neither_cookie_nor_credential(site: Site, engineer: Person) -> None:
    site.ask(engineer, "GET", "/who", x_offgridflow_user="someone else", x_gate_mode="read-write")
    seen = site.read_write.asked("GET", "/who")[-1].headers
    assert seen["x-offgridflow-user"] == str(engineer.user_id)
    assert "cookie" not in seen
    assert "authorization" not in seen


def test_a_visitor_is_led_to_the_sign_in_of_the_same_host_and_a_script_is_not(site: Site) -> None:
    page = site.ask(None, "GET", "/runs")
    assert page.status == 302
    assert page.headers["Location"].endswith("/sign-in")
    assert site.ask(None, "POST", "/graphql", origin=ORIGINS[0]).status == 401


def test_the_sign_in_is_served_on_the_uis_own_host_and_other_pages_are_not(site: Site, engineer: Person) -> None:
    page = site.ask(None, "GET", "/sign-in")
    assert page.status == 200
    assert b"<form" in page.body
    assert site.ask(engineer, "GET", "/v1/me").body == b"read-write"  # a path of Dagster here, not the API


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("GET", "/graphql?query=mutation{x}", {"origin": ORIGINS[0]}),
        ("GET", "/graphql", {}),
        ("GET", "/%67raphql?query=x", {}),
        ("GET", "/static/..%2fgraphql?query=x", {}),
        ("GET", "/static/../graphql?query=x", {}),
        ("GET", "/sign-in/../graphql?query=x", {}),
        ("GET", "//graphql?query=x", {}),
        ("POST", "/report_asset_materialization/alder", {"origin": ORIGINS[0]}),
        ("POST", "/report%5fasset_check/alder", {"origin": ORIGINS[0]}),
        ("POST", "/report_asset_observation/alder", {"origin": ORIGINS[0]}),
        ("POST", "/static/../report_asset_check/alder", {"origin": ORIGINS[0]}),
        ("POST", "/graphql", {"origin": "https://evil.example"}),
        ("POST", "/graphql", {"origin": ORIGINS[0], "sec_fetch_site": "cross-site"}),
        ("POST", "/graphql", {}),
        ("GET", "/graphql", {"origin": "https://evil.example", "upgrade": "websocket", "connection": "upgrade"}),
        ("GET", "/graphql?query=x", {"origin": ORIGINS[0], "upgrade": "websocket", "connection": "upgrade"}),
        ("POST", "/graphql", {"x_original_method": "GET", "x_original_uri": "/"}),
        ("GET", "/graphql?query=x", {"x_original_uri": "/", "x_forwarded_uri": "/", "x_gate_mode": "read-only"}),
        ("DELETE", "/runs", {"origin": ORIGINS[0]}),
    ],
)
def test_an_attack_with_the_engineers_session_never_reaches_dagster(
    site: Site, engineer: Person, method: str, target: str, headers: dict[str, str]
) -> None:
    before = site.reached
    answer = site.ask(engineer, method, target, **headers)
    assert answer.status in {400, 403, 404, 405}
    assert site.reached == before


def test_a_mode_that_the_client_states_does_not_count(site: Site, operator: Person) -> None:
    before = site.reached
    assert site.ask(operator, "GET", "/runs", READ_WRITE, x_gate_mode="read-only").status == 403
    assert site.ask(operator, "GET", "/runs?mode=read-only", READ_WRITE).status == 403
    assert site.reached == before


def test_a_host_that_is_not_ours_gets_no_answer(site: Site, engineer: Person) -> None:
    with pytest.raises(OSError):  # the connection ends without a word
        site.ask(engineer, "GET", "/", "dagster.evil.example")


def test_the_uis_own_post_and_websocket_pass(site: Site, engineer: Person) -> None:
    posted = site.ask(engineer, "POST", "/graphql?op=Runs", origin=ORIGINS[0], sec_fetch_site="same-origin")
    assert (posted.status, posted.body) == (200, b"read-write")
    assert site.read_write.asked("POST", "/graphql")[-1].body == b'{"query":"{__typename}"}'
    site.ask(engineer, "GET", "/graphql", origin=ORIGINS[0], upgrade="websocket", connection="upgrade")
    seen = site.read_write.asked("GET", "/graphql")[-1].headers
    assert (seen["upgrade"], seen["connection"]) == ("websocket", "upgrade")


def test_with_the_sidecar_away_nothing_passes(settings: Settings, engineer: Person) -> None:
    with (
        scripted_server() as behind,
        nginx(
            SITE,
            OGF_READ_WRITE_HOST=READ_WRITE,
            OGF_READ_ONLY_HOST=READ_ONLY,
            OGF_SIDECAR=f"127.0.0.1:{free_port()}",
            OGF_DAGSTER_READ_WRITE=behind.netloc,
            OGF_DAGSTER_READ_ONLY=behind.netloc,
        ) as proxy,
    ):
        site = Site(proxy, behind, behind)
        assert site.ask(engineer, "GET", "/runs").status == 500
        assert behind.requests == []
