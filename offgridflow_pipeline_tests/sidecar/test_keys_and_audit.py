"""API keys, the audit log and the public keys over HTTP: who may, what is shown, and what the log says afterwards."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.testclient import TestClient

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.identity import api_keys
from offgridflow_pipeline.identity.audit_export import verify
from offgridflow_pipeline.identity.rate_stores import MemoryStore
from offgridflow_pipeline.identity.signing import PublicKeys
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline.sidecar import app as factory
from offgridflow_pipeline.sidecar.entrance.middleware import RequestFrame
from offgridflow_pipeline.sidecar.entrance.problems import Problem
from offgridflow_pipeline.sidecar.routes import audit, jwks, keys
from offgridflow_pipeline.sidecar.services import Services
from offgridflow_pipeline_tests.identity.people import PEPPER, Unlimited
from offgridflow_pipeline_tests.sidecar.signed_in import Session, signed_in

NEW = {"name": "dashboard", "permissions": ["emissions:read"]}


@pytest.fixture(scope="module")
def client(api_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = Settings(_env_file=None, environment="test", data_dir=tmp_path_factory.mktemp("data"))
    app = FastAPI(redirect_slashes=False)
    app.state.services = Services(settings, api_database)
    app.state.services.rate_limiter = Unlimited(MemoryStore(), PEPPER)
    for module, prefix in ((keys, "/v1"), (audit, "/v1"), (jwks, "")):
        app.include_router(module.router, prefix=prefix)
    app.add_exception_handler(Problem, factory._problem)
    app.add_exception_handler(RequestValidationError, factory._invalid)
    app.add_middleware(RequestFrame, services=app.state.services, answer=factory.answer)
    with TestClient(app) as opened:
        yield opened


@pytest.fixture
def owner(database: Database, api_database: Database) -> Session:
    tenant = database.tenants.add(f"t-{uuid.uuid4().hex[:16]}", "Tenant of a test", currency="EUR").slug
    return signed_in(api_database, tenant, "owner")


def _create(client: TestClient, session: Session, body: dict[str, Any] = NEW, once: str = "") -> Any:
    return client.post(
        "/v1/api-keys", json=body, headers={**session.headers, "Idempotency-Key": once or uuid.uuid4().hex}
    )


def _actions(database: Database, session: Session) -> list[str]:
    return [json.loads(event.body)["action"] for event in database.audit_log.newest(session.tenant, limit=50)][::-1]


def test_a_new_key_is_shown_once_and_works(client: TestClient, owner: Session) -> None:
    answer = _create(client, owner)
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert api_keys.parse(body["key"]) is not None
    assert answer.headers["location"] == f"/v1/api-keys/{body['key_id']}"
    listed = client.get("/v1/api-keys", headers=owner.headers)
    assert [item["state"] for item in listed.json()["items"]] == ["live"]
    assert body["key"] not in listed.text


def test_a_repeated_request_makes_no_second_key_and_shows_the_first_again(client: TestClient, owner: Session) -> None:
    once = uuid.uuid4().hex
    first, again = _create(client, owner, once=once), _create(client, owner, once=once)
    assert first.json() == again.json()
    assert len(client.get("/v1/api-keys", headers=owner.headers).json()["items"]) == 1


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": "k", "permissions": ["members:write"]}, "/body/permissions"),
        ({"name": "k", "permissions": ["emissions:read"], "expires_at": "2001-01-01T00:00:00Z"}, "/body/expires_at"),
        ({"name": "k", "permissions": ["nonsense"]}, "/body/permissions/0"),
        ({"name": "k", "permissions": []}, "/body/permissions"),
        ({"name": " ", "permissions": ["emissions:read"]}, "/body/name"),
        ({"name": "k", "permissions": ["emissions:read"], "tenant": "other"}, "/body/tenant"),
        ({"name": "k", "permissions": ["emissions:read"], "expires_at": "2027-01-01T00:00:00"}, "/body/expires_at"),
    ],
)
def test_a_key_that_may_not_be_is_refused_with_its_field(
    client: TestClient, owner: Session, body: dict[str, Any], pointer: str
) -> None:
    answer = _create(client, owner, body)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


def test_keys_need_the_permission_the_second_factor_and_a_fresh_sign_in(
    client: TestClient, api_database: Database, owner: Session
) -> None:
    viewer = signed_in(api_database, owner.tenant, "viewer")
    assert _create(client, viewer).json()["code"] == "forbidden"
    for changes, code in (
        ({"second_factor": False}, "second_factor_required"),
        ({"stepped_up": False}, "step_up_required"),
    ):
        admin = signed_in(api_database, owner.tenant, "admin", **changes)
        answer = _create(client, admin)
        assert (answer.status_code, answer.json()["code"]) == (403, code)
    key = {"Authorization": f"Bearer {_create(client, owner).json()['key']}"}
    assert client.get("/v1/api-keys", headers=key).json()["code"] == "forbidden"
    assert "access:denied" in _actions(api_database, owner)


def test_rotation_keeps_the_old_key_until_it_is_revoked(
    client: TestClient, api_database: Database, owner: Session
) -> None:
    old = _create(client, owner).json()
    path = f"/v1/api-keys/{old['key_id']}"
    rotated = client.post(f"{path}/rotate", headers={**owner.headers, "Idempotency-Key": uuid.uuid4().hex})
    assert rotated.status_code == 201
    again = client.post(f"{path}/rotate", headers={**owner.headers, "Idempotency-Key": uuid.uuid4().hex})
    assert (again.status_code, again.json()["code"]) == (409, "key_not_rotatable")
    for _ in range(2):
        revoked = client.delete(path, headers=owner.headers)
        assert (revoked.status_code, revoked.json()["state"]) == (200, "revoked")
    states = {
        item["key_id"]: item["state"] for item in client.get("/v1/api-keys", headers=owner.headers).json()["items"]
    }
    assert states == {old["key_id"]: "revoked", rotated.json()["key_id"]: "live"}
    assert _actions(api_database, owner) == ["members:added", "keys:created", "keys:rotated", "keys:revoked"]


def test_a_full_organisation_is_told_what_to_do_and_can_still_rotate(
    client: TestClient, owner: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = client.app.state.services
    monkeypatch.setattr(services, "settings", services.settings.model_copy(update={"maximum_live_keys": 1}))
    key_id = _create(client, owner).json()["key_id"]
    refused = _create(client, owner, {**NEW, "name": "second"})
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_keys")
    assert "revoke one that is not used" in refused.json()["detail"]
    once = {"Idempotency-Key": uuid.uuid4().hex}
    assert client.post(f"/v1/api-keys/{key_id}/rotate", headers={**owner.headers, **once}).status_code == 201


def test_another_tenants_key_is_not_there(
    client: TestClient, database: Database, api_database: Database, owner: Session
) -> None:
    other = signed_in(
        api_database, database.tenants.add(f"t-{uuid.uuid4().hex[:16]}", "Other", currency="EUR").slug, "owner"
    )
    path = f"/v1/api-keys/{_create(client, owner).json()['key_id']}"
    once = {"Idempotency-Key": uuid.uuid4().hex}
    unknown = client.delete("/v1/api-keys/AAAAAAAAAA", headers=other.headers)
    foreign = client.delete(path, headers=other.headers)
    assert (unknown.status_code, foreign.status_code) == (404, 404)
    assert unknown.json()["detail"] == foreign.json()["detail"]
    assert client.post(f"{path}/rotate", headers={**other.headers, **once}).status_code == 404


def test_whoever_finds_a_key_may_end_it_and_learns_nothing(
    client: TestClient, api_database: Database, owner: Session
) -> None:
    key = _create(client, owner).json()
    answers = [
        client.post("/v1/api-keys/revoke-by-value", json={"key": text})
        for text in (key["key"], key["key"], api_keys.generate()[0], "nonsense")
    ]
    assert {(answer.status_code, answer.text) for answer in answers} == {(202, '{"status":"received"}')}
    assert api_database.api_keys.get(owner.tenant, key["key_id"]).state == "revoked"
    assert _actions(api_database, owner)[-1] == "keys:leaked"


def test_the_use_of_a_key_is_noted(client: TestClient, api_database: Database, owner: Session) -> None:
    key = _create(client, owner, {"name": "reader", "permissions": ["audit:read"]}).json()
    assert client.get("/v1/audit", headers={"Authorization": f"Bearer {key['key']}"}).status_code == 200
    assert api_database.api_keys.get(owner.tenant, key["key_id"]).last_used_at is not None


def test_the_log_is_read_newest_first_page_by_page(client: TestClient, owner: Session) -> None:
    for number in range(5):
        _create(client, owner, {"name": f"k{number}", "permissions": ["emissions:read"]})
    seen: list[int] = []
    cursor: str | None = None
    while True:
        page = client.get(
            "/v1/audit", headers=owner.headers, params={"limit": 2, **({"cursor": cursor} if cursor else {})}
        ).json()
        seen += [item["seq"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [6, 5, 4, 3, 2, 1]


def test_the_log_is_filtered_by_action_and_actor(client: TestClient, owner: Session) -> None:
    key_id = _create(client, owner).json()["key_id"]
    client.delete(f"/v1/api-keys/{key_id}", headers=owner.headers)

    def seen(**asked: str) -> list[str]:
        page = client.get("/v1/audit", headers=owner.headers, params=asked).json()
        return [item["action"] for item in page["items"]]

    assert seen(action="keys:revoked") == ["keys:revoked"]
    assert seen(actor=f"user:{owner.user_id}") == ["keys:revoked", "keys:created"]
    assert seen(actor="system") == ["members:added"]
    assert client.get("/v1/audit", headers=owner.headers, params={"action": "x"}).status_code == 422


def test_the_log_is_not_sent_again_while_nothing_happened(client: TestClient, owner: Session) -> None:
    _create(client, owner)
    first = client.get("/v1/audit", headers=owner.headers)
    same = client.get("/v1/audit", headers={**owner.headers, "If-None-Match": first.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    _create(client, owner, {"name": "second", "permissions": ["emissions:read"]})
    later = client.get("/v1/audit", headers={**owner.headers, "If-None-Match": first.headers["etag"]})
    assert later.status_code == 200


def test_an_export_verifies_and_holds_itself_as_its_last_event(
    client: TestClient, api_database: Database, owner: Session
) -> None:
    _create(client, owner)
    answer = client.get("/v1/audit/export", headers=owner.headers)
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["content-disposition"].startswith(f'attachment; filename="audit-{owner.tenant}-')
    public = PublicKeys.of_jwks(client.get("/.well-known/jwks.json").json())
    found = verify(answer.content.splitlines(keepends=True), public)
    assert (found.tenant, found.events) == (owner.tenant, 3)
    assert _actions(api_database, owner)[-1] == "audit:exported"


def test_only_roles_with_the_permission_read_or_export_the_log(
    client: TestClient, api_database: Database, owner: Session
) -> None:
    auditor, viewer = (signed_in(api_database, owner.tenant, role) for role in ("auditor", "viewer"))
    assert [client.get(path, headers=auditor.headers).status_code for path in ("/v1/audit", "/v1/audit/export")] == [
        200,
        200,
    ]
    assert [client.get(path, headers=viewer.headers).status_code for path in ("/v1/audit", "/v1/audit/export")] == [
        403,
        403,
    ]


def test_the_public_keys_are_for_everybody_and_may_be_cached(client: TestClient) -> None:
    answer = client.get("/.well-known/jwks.json")
    assert answer.headers["cache-control"] == "public, max-age=300"
    assert [key["crv"] for key in answer.json()["keys"]] == ["Ed25519"]
    assert "d" not in answer.json()["keys"][0]
