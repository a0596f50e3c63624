"""Attacks that once worked: by strangers, by a hostile tenant, with what somebody gave before they had to go."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.datastructures import Headers
from starlette.testclient import TestClient

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.identity import accounts
from offgridflow_pipeline.identity.rate_limits import RateLimiter, limits_of
from offgridflow_pipeline.identity.rate_stores import MemoryStore
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline.sidecar import run_requests
from offgridflow_pipeline.sidecar.answering import lake_reads
from offgridflow_pipeline.sidecar.app import create_app
from offgridflow_pipeline.sidecar.entrance.middleware import client_address
from offgridflow_pipeline.sidecar.entrance.problems import Problem
from offgridflow_pipeline.sidecar.routes.uploads import KnownSenderRoute
from offgridflow_pipeline_tests.sidecar.access_matrix import asked_routes
from offgridflow_pipeline_tests.sidecar.world import ORIGIN, PASSWORD, PEPPER, Someone, World

SYNC = {"type": "connector_sync", "payload": {"first": "2026-10-01", "last": "2026-10-31"}}


@pytest.fixture(scope="module")
def world(database: Database, api_database: Database, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(database, api_database, tmp_path_factory.mktemp("world"))


@pytest.fixture
def tenant(world: World) -> str:
    world.client.cookies.clear()
    return world.tenant()


@pytest.fixture
def owner(world: World, tenant: str) -> Someone:
    return world.someone(tenant, "owner")


def once(headers: dict[str, str]) -> dict[str, str]:
    return {**headers, "Idempotency-Key": uuid.uuid4().hex}


def test_one_network_cannot_use_up_everybodys_attempts_to_sign_in(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter = RateLimiter(MemoryStore(), PEPPER)
    monkeypatch.setattr(world.app.state.services, "rate_limiter", limiter)
    (of_address,), (of_all,) = limits_of("sign_in.address"), limits_of("sign_in.all")
    answers = [
        world.client.post("/v1/auth/login", json={"email": f"no address {number}", "password": "guess"}, headers=ORIGIN)
        for number in range(of_address.quota + 15)
    ]
    assert [answer.status_code for answer in answers].count(429) == 15
    left = 0
    while limiter.refusal("sign_in.all", "") is None:
        left += 1
    assert left >= of_all.quota - of_address.quota


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["203.0.113.99", "198.51.100.1"], "198.51.100.1"),  # the client's own line stands before the proxy's
        (["203.0.113.99, 198.51.100.1", "10.0.0.2"], "198.51.100.1"),
        (["198.51.100.1:40123"], "198.51.100.1"),
        (["[2001:db8::1]:40123"], "2001:db8::1"),
        (["[2001:db8::1]"], "2001:db8::1"),
    ],
)
def test_no_spelling_of_forwarded_addresses_makes_many_clients_of_one(lines: list[str], found: str) -> None:
    import ipaddress

    headers = Headers(raw=[(b"x-forwarded-for", line.encode()) for line in lines])
    assert client_address({"client": ("10.0.0.1", 1)}, headers, [ipaddress.ip_network("10.0.0.0/8")]) == found


async def _upload_without_body(app: Any, path: str, headers: dict[str, str]) -> int:
    """The status of an upload whose body nobody may ask for."""
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        sent.append(message)

    form = {"content-type": "multipart/form-data; boundary=x", "content-length": "20000000", "host": "testserver"}
    raw = [(name.lower().encode(), value.encode()) for name, value in {**form, **headers}.items()]
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": path, "raw_path": path.encode(),
        "query_string": b"", "headers": raw, "client": ("203.0.113.7", 1), "server": ("testserver", 80),
        "scheme": "http", "root_path": "", "app": app,
    }  # fmt: skip
    await app(scope, receive, send)
    status: int = sent[0]["status"]
    return status


@pytest.mark.parametrize("path", ["/v1/uploads", "/uploads"])
def test_a_file_of_somebody_who_may_not_send_one_is_not_even_received(world: World, tenant: str, path: str) -> None:
    viewer = world.someone(tenant, "viewer")
    turned_away = {401, 303} if path == "/uploads" else {401}
    assert asyncio.run(_upload_without_body(world.app, path, {"Authorization": "Bearer x"})) in turned_away
    forged = {"Cookie": "ogf_session=guess", **ORIGIN}
    assert asyncio.run(_upload_without_body(world.app, path, forged)) in turned_away
    assert asyncio.run(_upload_without_body(world.app, path, viewer.headers)) == 403


def test_every_route_that_takes_files_knows_its_sender_first(world: World) -> None:
    taking = [a for a in asked_routes(world.app) if a.method == "POST" and a.route.path.endswith("/uploads")]
    assert len(taking) == 2
    for asked in taking:
        assert isinstance(getattr(asked.route, "original_route", asked.route), KnownSenderRoute), asked.route.path


def test_a_tenant_does_not_fill_the_storage_of_all(world: World, tenant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = RateLimiter(MemoryStore(), PEPPER)
    monkeypatch.setattr(world.app.state.services, "rate_limiter", limiter)
    (limit,) = limits_of("uploads")
    for _ in range(limit.quota):
        assert limiter.refusal("uploads", tenant) is None
    file = {"file": ("fuel.csv", b"date\n", "text/csv")}
    answer = world.client.post("/v1/uploads", headers=world.key(tenant), data={"kind": "fuel"}, files=file)
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    elsewhere = world.client.post("/v1/uploads", headers=world.key(world.tenant()), data={"kind": "fuel"}, files=file)
    assert elsewhere.status_code == 201


def test_a_tenant_does_not_keep_the_sensor_of_all_busy(
    world: World, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_requests, "MAXIMUM_OPEN_RUNS", 3)
    key = world.key(tenant)
    jobs = [world.client.post("/v1/runs", headers=once(key), json=SYNC) for _ in range(4)]
    assert [job.status_code for job in jobs] == [202, 202, 202, 409]
    assert jobs[3].json()["code"] == "too_many_runs"
    page = world.client.post("/reports", headers=world.someone(tenant, "owner").headers, data={"month": "2026-09"})
    assert (page.status_code, "runs wait or go on" in page.text) == (422, True)
    assert world.client.post("/v1/runs", headers=once(world.key(world.tenant())), json=SYNC).status_code == 202
    assert world.client.post(f"/v1/runs/{jobs[0].json()['id']}/cancel", headers=key).status_code == 202
    assert world.client.post("/v1/runs", headers=once(key), json=SYNC).status_code == 202


def _exchanged(world: World, key: dict[str, str]) -> dict[str, str]:
    token = world.client.post("/v1/auth/token", headers=key).json()["access_token"]
    return {"Authorization": f"Bearer {token}"}


def test_a_token_ends_with_its_tenant(world: World, tenant: str) -> None:
    token = _exchanged(world, world.key(tenant))
    assert world.client.get("/v1/reports", headers=token).status_code == 200
    with world.operator.admin_engine.begin() as connection:
        connection.execute(sa.text("update ogf.tenants set status = 'closed' where slug = :slug"), {"slug": tenant})
    assert world.client.get("/v1/reports", headers=token).status_code == 401


def test_what_a_disabled_person_gave_ends_with_them(world: World, tenant: str, owner: Someone) -> None:
    elsewhere = world.tenant()
    accounts.add_member(world.api, owner.user_id, elsewhere, "admin")
    second = Someone(owner.user_id, owner.email, elsewhere, world.session(owner.user_id, elsewhere))
    keys = []
    for person in (owner, second):
        new = {"name": "reader", "permissions": ["reports:read"]}
        made = world.client.post("/v1/api-keys", headers=once(person.headers), json=new)
        keys.append({"Authorization": f"Bearer {made.json()['key']}"})
        world.client.post(
            "/v1/invitations", headers=once(person.headers), json={"email": "x@y.example", "role": "viewer"}
        )
    of_others = world.key(tenant)
    assert [world.client.get("/v1/reports", headers=key).status_code for key in keys] == [200, 200]
    accounts.set_status(world.api, owner.user_id, active=False)
    assert [world.client.get("/v1/reports", headers=key).status_code for key in keys] == [401, 401]
    assert [world.api.invitations.list(slug) for slug in (tenant, elsewhere)] == [[], []]
    assert world.client.get("/v1/reports", headers=of_others).status_code == 200


@pytest.mark.parametrize("name", ["two\nlines", "a\rb", "left\u202eright", "\u200b", " ", "see https://evil.example"])
def test_the_name_of_a_key_is_one_honest_line(world: World, owner: Someone, name: str) -> None:
    new = {"name": name, "permissions": ["reports:read"]}
    answer = world.client.post("/v1/api-keys", headers=once(owner.headers), json=new)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/body/name")
    page = world.client.post("/keys", headers=owner.headers, data=new)
    assert (page.status_code, "ogf_live_" in page.text.replace("ogf_live_…", "")) == (422, False)


@pytest.mark.parametrize(
    "name", ["Verify now: https://evil.example", "WWW.evil.example asks", "\u200b\u200d", "\u00ad"]
)
def test_an_organisation_sends_no_links_and_no_blanks_to_strangers(world: World, owner: Someone, name: str) -> None:
    answer = world.client.patch("/v1/settings", headers=owner.headers, json={"name": name})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_name")


@pytest.mark.parametrize("uri", ["s3://bucket/x\r\nHost: evil", "s3://bucket/\u202egpj", "s3://bucket/\x1b[2J"])
def test_a_connection_holds_no_control_characters(world: World, owner: Someone, uri: str) -> None:
    wanted = {"id": "aws-payer", "kind": "cur2", "uri": uri}
    answer = world.client.post("/v1/connectors", headers=once(owner.headers), json=wanted)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_connection")
    assert "control character" in answer.json()["detail"]


def test_over_https_every_cookie_is_for_https_alone(world: World) -> None:
    settings = Settings(_env_file=None, environment="test", data_dir=world.folder, public_url="https://ogf.example")
    app = create_app(settings, world.api)
    with TestClient(app, base_url="https://ogf.example") as client:
        cookie = client.get("/sign-in?language=de").headers["set-cookie"]
    assert cookie.startswith("ogf_language=de;")
    assert "; Secure" in cookie


def test_strangers_who_guess_lock_nobody_out_of_their_own_network(
    world: World, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = world.someone(tenant, "viewer")  # with a session from 203.0.113.7
    monkeypatch.setattr(world.app.state.services, "rate_limiter", RateLimiter(MemoryStore(), PEPPER))

    def sign_in(network: str, password: str) -> int:
        client = TestClient(world.app, client=(network, 1))
        body = {"email": victim.email, "password": password}
        return client.post("/v1/auth/login", json=body, headers=ORIGIN).status_code

    guesses = [sign_in(f"198.51.100.{number}", "guess") for number in range(12)]
    assert guesses == [401] * 5 + [429] * 7
    assert sign_in("203.0.113.200", PASSWORD) == 429
    assert sign_in("203.0.113.7", PASSWORD) == 200


def test_from_a_known_network_too_attempts_are_counted(
    world: World, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = world.someone(tenant, "viewer")
    monkeypatch.setattr(world.app.state.services, "rate_limiter", RateLimiter(MemoryStore(), PEPPER))
    client = TestClient(world.app, client=("203.0.113.7", 1))
    (limit,) = limits_of("sign_in.account")
    body = {"email": victim.email, "password": "guess"}
    answers = [client.post("/v1/auth/login", json=body, headers=ORIGIN) for _ in range(limit.quota + 2)]
    assert [answer.status_code for answer in answers] == [401] * limit.quota + [429] * 2


def test_the_text_of_a_database_error_holds_no_value(world: World, tenant: str) -> None:
    with pytest.raises(sa.exc.DataError) as told, world.api.tenant(tenant) as scope:
        scope.connection.execute(
            sa.text("select cast(:mail as text), 1 / :none"), {"mail": "olga@alder.example", "none": 0}
        )
    assert "division by zero" in str(told.value)
    assert "olga" not in str(told.value)


def test_a_tenant_does_not_take_every_place_for_reads_of_the_lake(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake_reads, "WAIT_SECONDS", 0.05)
    reads = lake_reads.LakeReads(world.settings)
    with reads.engine("hostile"):
        with pytest.raises(Problem, match="Too many evidence reads"), reads.engine("hostile"):
            pass
        with reads.engine("alder") as engine:
            assert engine.connection.raw_sql("select 1").fetchone() == (1,)
    with reads.engine("hostile"):
        pass


def test_requests_that_wait_for_such_a_place_leave_threads_for_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake_reads, "WAIT_SECONDS", 5.0)
    reads = lake_reads.LakeReads(world.settings)
    outcomes: list[str] = []

    def read() -> None:
        try:
            with reads.engine("hostile"):
                outcomes.append("read")
        except Problem as problem:
            outcomes.append(problem.code)

    threads = [threading.Thread(target=read) for _ in range(lake_reads.MAY_WAIT + 6)]
    with reads.engine("hostile"):
        for thread in threads:
            thread.start()
        for _ in range(500):
            if len(outcomes) == 6:
                break
            time.sleep(0.01)
        assert outcomes == ["busy"] * 6  # at once, while the others still wait
    for thread in threads:
        thread.join(10)
    assert outcomes == ["busy"] * 6 + ["read"] * lake_reads.MAY_WAIT


def test_a_stolen_key_does_not_hide_its_download_behind_that_of_the_owner(world: World, tenant: str) -> None:
    key, path = world.key(tenant), f"/v1/reports/rep_{world.report(tenant)}/artifacts/report.pdf"
    owner, thief = (TestClient(world.app, client=(address, 1)) for address in ("203.0.113.7", "198.51.100.9"))

    def noted() -> int:
        return len(world.operator.audit_log.newest(tenant, limit=50, action="report:artifact:download"))

    assert owner.get(path, headers=key).status_code == 200
    assert owner.get(path, headers={**key, "Range": "bytes=1-"}).status_code == 206
    assert noted() == 1
    assert thief.get(path, headers={**key, "Range": "bytes=1-"}).status_code == 206
    assert noted() == 2
