"""Connections over HTTP: secrets go in and never come out, no place is reached that the settings do not allow."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from offgridflow_pipeline.connectors.secrets.sealing import KeyRing, unseal
from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline_tests.sidecar.serving import Api, pages, statements
from offgridflow_pipeline_tests.sidecar.signed_in import signed_in

ROLE = "arn:aws:iam::123456789012:role/offgridflow"
SECRET = json.dumps({"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "canary-3f9d1c"})


@pytest.fixture
def owner(api: Api, new_tenant: Callable[[], str]) -> tuple[str, dict[str, str]]:
    """A tenant and the headers of its owner: keys may not write connections."""
    tenant = new_tenant()
    return tenant, signed_in(api.served, tenant, "owner").headers


def new(**values: Any) -> dict[str, Any]:
    return {"id": "aws-payer", "kind": "cur2", "uri": "s3://acme-billing/exports"} | values


def add(api: Api, key: dict[str, str], body: dict[str, Any], idempotency: str = "") -> Any:
    return api.client.post("/v1/connectors", json=body, headers=key | {"Idempotency-Key": idempotency or uuid4().hex})


def act(api: Api, key: dict[str, str], path: str, body: Any = None) -> Any:
    return api.client.post(f"/v1/connectors/{path}", json=body, headers=key | {"Idempotency-Key": uuid4().hex})


def test_a_connection_is_added_with_an_external_id_made_here(api: Api, owner: tuple[str, dict[str, str]]) -> None:
    tenant, key = owner
    answer = add(api, key, new(aws={"role_arn": ROLE, "region": "eu-west-1"}))
    assert (answer.status_code, answer.headers["location"]) == (201, "/v1/connectors/aws-payer")
    shown = answer.json()
    assert (shown["provider"], shown["status"], shown["secret"]) == ("aws", "active", "ambient")
    assert shown["config"]["aws"]["external_id"].startswith("ogf-")
    stored = api.pipeline.connections.get(tenant, "aws-payer")
    assert stored.config["aws"]["external_id"] == shown["config"]["aws"]["external_id"]


def test_nobody_chooses_the_external_id(api: Api, owner: tuple[str, dict[str, str]]) -> None:
    answer = add(api, owner[1], new(aws={"role_arn": ROLE, "external_id": "ogf-of-somebody-else"}))
    assert answer.status_code == 422


def test_a_secret_is_sealed_and_shown_nowhere(
    api: Api, owner: tuple[str, dict[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    tenant, key = owner
    answers = [
        add(api, key, new(secret=SECRET)),
        add(api, key, new(secret=SECRET)),
        add(api, key, new(id="other", secret='{"secret_access_key": "canary-3f9d1c"}')),
        add(api, key, new(id="other", secret=SECRET, surprise="canary-3f9d1c")),
        add(api, key, new(id="other", uri="s3://b/canary-3f9d1c", secret=SECRET, secret_ref="env:X")),
        api.get("/v1/connectors", key),
        api.get("/v1/connectors/aws-payer", key),
    ]
    assert [answer.status_code for answer in answers] == [201, 409, 422, 422, 422, 200, 200]
    assert not any("canary-3f9d1c" in answer.text for answer in answers)
    assert "canary-3f9d1c" not in caplog.text
    assert answers[-1].json()["secret"] == "sealed"
    sealed = api.pipeline.connections.secret(tenant, "aws-payer")
    assert sealed is not None
    ring = KeyRing.of(Settings(_env_file=None, environment="test"))
    assert unseal(ring, tenant, "aws-payer", sealed).get_secret_value() == SECRET


def test_no_audit_event_or_kept_answer_holds_the_secret(api: Api, owner: tuple[str, dict[str, str]]) -> None:
    tenant, key = owner
    add(api, key, new(secret=SECRET))
    api.client.patch("/v1/connectors/aws-payer", json={"secret": SECRET}, headers=key)
    assert not leaks(api.pipeline, "canary-3f9d1c")
    actions = [action for action in audited(api, tenant) if action.startswith("connectors:")]
    assert actions == ["connectors:added", "connectors:secret:changed"]


def audited(api: Api, tenant: str) -> list[str]:
    import sqlalchemy as sa

    with api.pipeline.admin_engine.connect() as connection:
        bodies = connection.scalars(
            sa.text(
                "select body from ogf.audit_events e join ogf.tenants t using (tenant_id) where t.slug = :slug order by seq"
            ),
            {"slug": tenant},
        ).all()
    return [json.loads(body)["action"] for body in bodies]


def leaks(database: Database, canary: str) -> list[str]:
    """Tables of which any row holds the text, as the superuser sees them."""
    import sqlalchemy as sa

    with database.admin_engine.connect() as connection:
        tables = connection.scalars(sa.text("select tablename from pg_tables where schemaname = 'ogf'")).all()
        return [
            name
            for name in tables
            if connection.scalar(
                sa.text(f"select count(*) from ogf.{name} r where r::text like :canary"), {"canary": f"%{canary}%"}
            )
        ]


EVIL = [
    new(uri="https://169.254.169.254/latest/meta-data/iam", kind="focus"),
    new(uri="https://metadata.google.internal/computeMetadata/v1/", kind="focus"),
    new(uri="https://127.0.0.1/bill.csv", kind="focus"),
    new(uri="https://localhost:5432/bill.csv", kind="focus"),
    new(uri="https://[::1]/bill.csv", kind="focus"),
    new(uri="https://[::ffff:169.254.169.254]/bill.csv", kind="focus"),
    new(uri="https://2852039166/bill.csv", kind="focus"),
    new(uri="https://0x7f.1/bill.csv", kind="focus"),
    new(uri="https://evil.example/bill.csv", kind="focus"),
    new(uri="https://bills.example.org.evil.example/bill.csv", kind="focus"),
    new(uri="https://bills.example.org@evil.example/bill.csv", kind="focus"),
    new(uri="https://bills.example.org:8443/bill.csv", kind="focus"),
    new(uri="https://evil.example#bills.example.org/bill.csv", kind="focus"),
    new(uri="https://evil.example\\bills.example.org/bill.csv", kind="focus"),
    new(uri="https://bills.example.org/bill.csv?signature=1", kind="focus"),
    new(uri="http://bills.example.org/bill.csv", kind="focus"),
    new(uri="HTTPS://EVIL.EXAMPLE/bill.csv", kind="focus"),
    new(uri="ftp://bills.example.org/bill.csv", kind="focus"),
    new(uri="file:///etc/passwd", kind="focus"),
    new(uri="/etc/passwd", kind="focus"),
    new(uri="../../etc/passwd", kind="focus"),
    new(uri="gopher://127.0.0.1:6379/_FLUSHALL", kind="focus"),
    new(uri="https://bills.example.org/b.csv", kind="focus", https={"allowed_hosts": ["169.254.169.254"]}),
    new(aws={"endpoint_url": "http://169.254.169.254/"}),
    new(aws={"endpoint_url": "https://evil.example"}),
    new(aws={"endpoint_url": "https://amazonaws.com.evil.example"}),
    new(aws={"endpoint_url": "https://s3.amazonaws.com@evil.example"}),
    new(uri="az://acme/container/path", kind="azure_actual", azure={"account_url": "https://evil.example"}),
    new(uri="", kind="azure_carbon", azure={
        "management_url": "https://evil.example", "subscriptions": ["11111111-1111-1111-1111-111111111111"],
    }),
    new(uri="gs://bucket/path", kind="gcp_detailed", gcp={"api_endpoint": "https://evil.example"}),
    new(uri="gs://bucket/path", kind="gcp_detailed", gcp={"api_endpoint": "http://metadata.google.internal"}),
]  # fmt: skip


@pytest.mark.parametrize("body", EVIL, ids=lambda body: str(body["uri"] or body.get("aws") or body["kind"])[:60])
def test_a_place_that_is_not_allowed_is_refused_before_anything_is_kept(
    api: Api, owner: tuple[str, dict[str, str]], body: dict[str, Any]
) -> None:
    tenant, key = owner
    answer = add(api, key, body)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert api.pipeline.connections.list(tenant) == []


@pytest.mark.parametrize(
    "body",
    [
        new(uri="https://bills.example.org/2026/bill.csv", kind="focus"),
        new(aws={"role_arn": ROLE, "region": "eu-west-1"}),
        new(aws={"endpoint_url": "https://bills.example.org"}),
        new(uri="gs://bucket/path", kind="gcp_detailed", gcp={"api_endpoint": "https://bigquery.googleapis.com"}),
        new(uri="az://acmebilling/container/path", kind="azure_actual"),
        new(uri="gs://bucket/path", kind="gcp_detailed"),
    ],
)
def test_the_clouds_themselves_and_hosts_of_the_settings_are_allowed(
    api: Api, owner: tuple[str, dict[str, str]], body: dict[str, Any]
) -> None:
    answer = add(api, owner[1], body)
    assert answer.status_code == 201, answer.text


def test_the_lake_itself_is_no_source(api: Api, owner: tuple[str, dict[str, str]]) -> None:
    settings = api.app.state.services.settings
    assert add(api, owner[1], new(kind="focus", uri=f"{settings.lake_root}/acme")).status_code == 422


def test_pausing_resuming_and_removing_are_told_and_audited(api: Api, owner: tuple[str, dict[str, str]]) -> None:
    tenant, key = owner
    add(api, key, new())
    path = "/v1/connectors/aws-payer"
    assert api.client.patch(path, json={"status": "paused"}, headers=key).json()["status"] == "paused"
    assert api.client.patch(path, json={"status": "active"}, headers=key).json()["status"] == "active"
    assert api.client.delete(path, headers=key).status_code == 204
    assert api.client.delete(path, headers=key).status_code == 404
    assert [action for action in audited(api, tenant) if action.startswith("connectors:")] == [
        "connectors:added", "connectors:paused", "connectors:resumed", "connectors:removed",
    ]  # fmt: skip


@pytest.mark.parametrize("body", [{}, {"status": "failing"}, {"uri": "s3://x/y"}, {"status": None}])
def test_only_status_and_secret_can_be_changed(
    api: Api, owner: tuple[str, dict[str, str]], body: dict[str, Any]
) -> None:
    add(api, owner[1], new())
    assert api.client.patch("/v1/connectors/aws-payer", json=body, headers=owner[1]).status_code == 422


def test_a_secret_that_lies_elsewhere_is_not_replaced_here(api: Api, owner: tuple[str, dict[str, str]]) -> None:
    add(api, owner[1], new(secret_ref="aws-sm:acme/billing"))
    answer = api.client.patch("/v1/connectors/aws-payer", json={"secret": SECRET}, headers=owner[1])
    assert (answer.status_code, answer.json()["code"]) == (409, "not_sealed")


def test_a_sync_and_a_test_are_jobs(api: Api, owner: tuple[str, dict[str, str]]) -> None:
    tenant, key = owner
    add(api, key, new())
    sync = act(api, key, "aws-payer/sync", {"first": "2026-10-01", "last": "2026-10-03"})
    test = act(api, key, "aws-payer/test")
    assert (sync.status_code, test.status_code) == (202, 202), (sync.text, test.text)
    jobs = {job.type: job.payload for job in api.pipeline.jobs.list(tenant, limit=5)}
    assert jobs == {
        "connector_sync": {"first": "2026-10-01", "last": "2026-10-03", "connection_id": "aws-payer"},
        "connector_test": {"connection_id": "aws-payer"},
    }
    assert sync.headers["location"] == sync.json()["_links"]["self"]


def test_a_job_of_a_connection_that_is_not_there_is_not_found(api: Api, owner: tuple[str, dict[str, str]]) -> None:
    days = {"first": "2026-10-01", "last": "2026-10-03"}
    assert act(api, owner[1], "nobody/sync", days).status_code == 404
    assert act(api, owner[1], "nobody/test").status_code == 404


@pytest.mark.parametrize(
    "days",
    [{}, {"first": "2026-10-03", "last": "2026-10-01"}, {"first": "2026-09-30", "last": "2026-10-01"},
     {"first": "2999-01-01", "last": "2999-01-02"}],
)  # fmt: skip
def test_days_that_cannot_be_read_are_refused(
    api: Api, owner: tuple[str, dict[str, str]], days: dict[str, str]
) -> None:
    add(api, owner[1], new())
    assert act(api, owner[1], "aws-payer/sync", days).status_code == 422


def test_the_same_key_adds_once_and_with_another_secret_it_is_refused(
    api: Api, owner: tuple[str, dict[str, str]]
) -> None:
    body = new(secret=SECRET)
    first = add(api, owner[1], body, "once")
    assert add(api, owner[1], body, "once").json() == first.json()
    other = add(api, owner[1], body | {"secret": SECRET.replace("canary", "other")}, "once")
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")


def test_connections_are_paged_and_of_one_tenant(
    api: Api, owner: tuple[str, dict[str, str]], new_tenant: Callable[[], str]
) -> None:
    _, key = owner
    names = ["a", "a-b", "a_b", "a1", "b"]
    for name in names:
        add(api, key, new(id=name))
    seen = [
        row["id"]
        for page in pages(lambda cursor: api.get("/v1/connectors", key, limit=2, cursor=cursor))
        for row in page
    ]
    assert seen == sorted(names)
    stranger = signed_in(api.served, new_tenant(), "owner").headers
    assert api.get("/v1/connectors", stranger).json()["items"] == []
    assert api.get("/v1/connectors/a", stranger).status_code == 404
    assert api.client.patch("/v1/connectors/a", json={"status": "paused"}, headers=stranger).status_code == 404
    assert api.client.delete("/v1/connectors/a", headers=stranger).status_code == 404


def test_every_route_needs_its_permission(api: Api, owner: tuple[str, dict[str, str]]) -> None:
    tenant, key = owner
    add(api, key, new())
    auditor = signed_in(api.served, tenant, "auditor").headers
    assert add(api, auditor, new(id="b")).status_code == 403
    assert api.client.patch("/v1/connectors/aws-payer", json={"status": "paused"}, headers=auditor).status_code == 403
    assert api.client.delete("/v1/connectors/aws-payer", headers=auditor).status_code == 403
    assert act(api, auditor, "aws-payer/test").status_code == 403
    viewer = signed_in(api.served, tenant, "viewer").headers
    assert api.get("/v1/connectors", viewer).status_code == 403
    assert api.get("/v1/connectors/aws-payer", viewer).status_code == 403
    for reader in (auditor, api.key(tenant, [Permission.CONNECTORS_READ])):
        api.get("/v1/connectors", reader)  # the first use of a minute is noted
        with statements(api.served) as seen:
            assert api.get("/v1/connectors", reader).status_code == 200
        assert len(seen) <= 3, seen
