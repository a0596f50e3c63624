"""Connections: what may be configured, what is refused with which cure, and that nothing secret gets in or out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from offgridflow_pipeline.connectors.connections import (
    Connection,
    connection,
    connections_of,
    from_row,
    record_outcome,
    to_row,
)
from offgridflow_pipeline.connectors.errors import ConnectionConfigError
from offgridflow_pipeline.connectors.feeds import FEEDS
from offgridflow_pipeline.connectors.secrets.shapes import BLACKED_OUT, redacted, secret_shape
from offgridflow_pipeline.database.engine import Database

GUID = "0f8fad5b-d9cb-469f-a165-70867728950e"
S3 = {"id": "a", "kind": "cur", "uri": "s3://b"}
AZ = {"id": "a", "kind": "azure_amortized", "uri": "az://account/exports"}
#: Made of parts, so that scanners of this repository do not take them for real ones.
PLANTED = {
    "aws_access_key_id": "AKIA" + "Q7ZX2M4N8B5V1C3L",
    "aws_secret_access_key": "wJa1rXUtnFEMI" + "K7MDENGbPxRfiCYzzzzTHEKEY0ab"[:27],
    "azure_storage_key": "Ab1+" * 21 + "Zz==",
    "azure_client_secret": "a~b" + "8Q~" + "x" * 34,
    "azure_shared_access_signature": "sv=2026&si" + "g=Zm9vYmFyYmF6Zm9vYmFyYmF6",
    "named_secret": "Account" + "Key=hunter2hunter2",
    "private_key": "-----BEGIN " + "PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----",
    "json_web_token": "eyJ" + "hbGciOiJFZERTQSJ9.eyJzdWIiOiJ4In0x.c2lnbmF0dXJl",
    "google_access_token": "ya29" + ".a0AfB_byC-dEfGhIjKl",
    "google_api_key": "AIza" + "SyA1234567890abcdefghijklmnopqrstuv",
    "signed_url": "https://h/x?X-Amz-" + "Signature=0123456789abcdef",
    "bearer_token": "Bearer " + "abcdefghijklmnop0123",
    "password_in_url": "https://user:" + "hunter2@h/x",
    "stripe_key": "rk_" + "live_51N0tAReal0ne",
    "stripe_webhook_secret": "whsec" + "_N0tAReal0ne/+=",
    "stripe_client_secret": "pi_3N0tAReal0ne" + "_secret_N0tAReal0ne",
    "stripe_session_address": "https://billing.stripe.com" + "/p/session/test_YWNjdF8x?x=1",
}


@pytest.mark.parametrize(
    ("values", "provider"),
    [
        ({"kind": "cur", "uri": "bills/2026"}, "local"),
        ({"kind": "cur2", "uri": "s3://b/k"}, "aws"),
        ({"kind": "azure_actual", "uri": "az://account/container"}, "azure"),
        ({"kind": "azure_actual", "uri": "abfss://container@account.dfs.core.windows.net/x"}, "azure"),
        ({"kind": "focus", "uri": "https://account.blob.core.windows.net/container/x"}, "azure"),
        ({"kind": "focus", "uri": "https://bills.example.org/x.csv"}, "https"),
        ({"kind": "focus", "uri": "gs://b/k"}, "gcp"),
        ({"kind": "gcp_detailed", "uri": "bigquery://p.d.t"}, "gcp"),
        ({"kind": "aws_sustainability"}, "aws"),
        ({"kind": "aws_carbon_export", "uri": "s3://b/carbon"}, "aws"),
        ({"kind": "azure_carbon", "azure": {"subscriptions": [GUID.upper()]}}, "azure"),
        ({"kind": "gcp_carbon", "uri": "bigquery://p.d.carbon_footprint"}, "gcp"),
        ({"kind": "gcp_carbon", "uri": "gs://bucket/carbon"}, "gcp"),
    ],
)
def test_kind_and_uri_tell_whose_service_is_asked(values: dict[str, Any], provider: str) -> None:
    made = Connection(id="a", **values)
    assert made.provider == provider
    assert made.is_feed == (made.kind in FEEDS)


@pytest.mark.parametrize(
    ("values", "cure"),
    [
        (S3 | {"kind": "oracle"}, "kind is written as one of focus, cur2, "),
        (S3 | {"id": "../a"}, "id is written as lower-case letters"),
        (S3 | {"uri": "ftp://b"}, "uri begins with ftp://; known are s3://"),
        (S3 | {"uri": ""}, "cur needs a uri"),
        (S3 | {"uri": "bigquery://p.d.t"}, "cur is read from files"),
        (S3 | {"uri": "https://h/x.csv?token=1"}, "signed URLs are secrets that expire"),
        (AZ | {"uri": "az://account"}, "uri is written as az://ACCOUNT/CONTAINER/PATH"),
        (S3 | {"kind": "gcp_focus", "uri": "bigquery://p.d"}, "uri is written as bigquery://PROJECT.DATASET.TABLE"),
        (S3 | {"kind": "aws_sustainability"}, "leave the uri empty"),
        ({"id": "a", "kind": "azure_carbon"}, "azure.subscriptions is missing"),
        (S3 | {"role": "spare"}, "role"),
        (S3 | {"azure": {"scope": "/subscriptions/x"}}, "azure.scope is of no use: this cur is read from aws"),
        (S3 | {"uri": "/bills", "aws": {"region": "eu-west-1"}}, "aws.region is of no use: this cur is read from local"),
        (S3 | {"uri": "/bills", "secret_ref": "env:X"}, "secret_ref is of no use for local files"),
        (S3 | {"reconcile": "cost_management"}, "reconcile=cost_management asks azure, but .* is to aws"),
        (AZ | {"reconcile": "cost_management"}, "azure.scope is missing"),
        (AZ | {"azure": {"client_id": GUID}, "secret_ref": "sealed"}, "azure.client_id needs azure.directory_id"),
        (AZ | {"azure": {"client_id": "mine"}}, "azure.client_id is written as a GUID"),
        (S3 | {"aws": {"external_id": "x" * 8}}, "belongs to a role: add aws.role_arn"),
        (S3 | {"aws": {"role_arn": "arn:aws:iam::1:user/x"}}, "aws.role_arn is written as arn:aws:iam::123456789012:role/"),
        (S3 | {"aws": {"account_ids": ["12345"]}}, "account_ids.* 12 digits each"),
        (S3 | {"aws": {"endpoint_url": "https://u@h"}}, "endpoint_url is written as an address such as"),
        ({"id": "a", "kind": "focus", "uri": "gs://b", "gcp": {"anonymous": True}, "secret_ref": "sealed"}, "anonymous"),
        (S3 | {"secret_ref": "hush"}, "secret_ref is written as env:NAME, file:/PATH"),
        (S3 | {"secret_access_key": "hush"}, "secret_access_key is no setting .* --secret-stdin or --secret-ref"),
        (S3 | {"aws": {"secret_access_key": "hush"}}, "aws.secret_access_key is no setting of a connection"),
    ],
)  # fmt: skip
def test_a_wrong_configuration_is_refused_with_its_cure_and_without_its_values(
    values: dict[str, Any], cure: str
) -> None:
    with pytest.raises(ConnectionConfigError, match=cure) as refused:
        connection(values)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("shape", "place"),
    [
        (shape, place)
        for shape in PLANTED
        for place in ("uri", "external_id", "secret_ref", "unknown")
        # 40 letters inside of a longer text are no mark
        if shape != "aws_secret_access_key" or place not in ("uri", "secret_ref")
    ],
)
def test_a_secret_in_the_configuration_is_refused_and_never_repeated(shape: str, place: str) -> None:
    secret = PLANTED[shape]
    values: dict[str, Any] = {
        "uri": S3 | {"uri": f"https://h/{secret}" if "://" not in secret else secret},
        "external_id": S3 | {"aws": {"role_arn": "arn:aws:iam::123456789012:role/x", "external_id": secret}},
        "secret_ref": S3 | {"secret_ref": f"aws-sm:{secret}"},
        "unknown": S3 | {"key": secret},
    }[place]
    with pytest.raises(ConnectionConfigError) as refused:
        connection(values)
    assert secret not in str(refused.value)
    assert secret not in repr(refused.value.__cause__)


@pytest.mark.parametrize("shape", PLANTED)
def test_every_shape_of_a_secret_is_known_and_blacked_out(shape: str) -> None:
    assert secret_shape(PLANTED[shape]) is not None
    told = redacted(f'the service said "{PLANTED[shape]}" and stopped')
    assert PLANTED[shape] not in told
    assert told.startswith("the service said")
    assert told.endswith("and stopped")


@pytest.mark.parametrize(
    "harmless",
    [
        "s3://my-exports/reports/acme-cur2/20261001-20261101/8f14e45fceea167a5a36dedd4bea2543/acme-1.csv.gz",
        "arn:aws:iam::123456789012:role/OffGridFlowBillingReaderForTheWholeOrganisation",
        f"/providers/Microsoft.Billing/billingAccounts/{GUID}:{GUID}_2019-05-31",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "bigquery://my-project.billing.gcp_billing_export_resource_v1_0123AB_456CDE_789F01",
        "s3:GetObject on reports/x.csv.gz is not allowed (AccessDenied). Allow it to the role of the connection.",
        "aws-sm:offgridflow/acme/my_app_secret_v1",
        "https://invoice.stripe.com/i/acct_1/test_a?s=ap",
    ],
)
def test_names_of_real_sources_are_no_secrets(harmless: str) -> None:
    assert secret_shape(harmless) is None
    assert redacted(harmless) == harmless


@given(
    st.text(min_size=1).filter(lambda s: not set(s) <= set(BLACKED_OUT)),
    st.text(),
    st.text(),
)
def test_a_known_secret_never_survives_redaction(secret: str, before: str, after: str) -> None:
    parts = redacted(f"{before}{secret}{after}", [SecretStr(secret)]).split(BLACKED_OUT)
    assert not [part for part in parts if secret in part]


def test_a_connection_survives_its_row(database: Database, new_tenant: Callable[[], str]) -> None:
    tenant = new_tenant()
    made = [
        connection(AZ | {
            "id": "azure", "role": "reconciliation", "reconcile": "cost_management", "secret_ref": "sealed",
            "azure": {"directory_id": "contoso.com", "client_id": GUID, "scope": f"/subscriptions/{GUID}"},
        }),
        connection(S3 | {"id": "aws", "aws": {"account_ids": ["012345678901"], "region": "eu-west-1"}}),
        connection({"id": "gcp", "kind": "gcp_detailed", "uri": "bigquery://p.d.t", "gcp": {"project": "payer"}}),
    ]  # fmt: skip
    for one in made:
        database.connections.add(tenant, one.id, **to_row(one))
    assert connections_of(database, tenant) == sorted(made, key=lambda c: c.id)
    assert database.connections.get(tenant, "aws").config == {
        "aws": {"account_ids": ["012345678901"], "region": "eu-west-1"}
    }
    database.connections.pause(tenant, "aws")
    assert [c.id for c in connections_of(database, tenant)] == ["azure", "gcp"]


def test_a_stored_connection_that_is_not_known_is_named(database: Database, new_tenant: Callable[[], str]) -> None:
    tenant = new_tenant()
    database.connections.add(tenant, "old", provider="aws", kind="cur9", uri="s3://b")
    with pytest.raises(ConnectionConfigError, match="Connection 'old': kind is written as"):
        connections_of(database, tenant)


def test_the_reason_of_a_failure_is_stored_without_secrets(database: Database, new_tenant: Callable[[], str]) -> None:
    tenant = new_tenant()
    database.connections.add(tenant, "a", provider="aws", kind="cur", uri="s3://b")
    planted = " ".join(PLANTED.values())
    record_outcome(database, tenant, "a", RuntimeError(f"canary-17 and {planted} failed"), [SecretStr("canary-17")])
    stored = database.connections.get(tenant, "a")
    assert stored.status == "failing"
    assert stored.last_error is not None
    assert stored.last_error.startswith(f"{BLACKED_OUT} and ")
    assert not [name for name, secret in PLANTED.items() if secret in stored.last_error]
    record_outcome(database, tenant, "a")
    assert database.connections.get(tenant, "a").status == "active"


def test_a_row_holds_no_member_that_is_not_needed() -> None:
    row = to_row(Connection(id="a", kind="cur", uri="/bills"))
    assert row == {
        "provider": "local", "kind": "cur", "uri": "/bills", "role": "record", "secret_ref": None, "config": {},
    }  # fmt: skip
    assert json.dumps(row["config"]) == "{}"


def test_from_row_is_the_inverse_of_to_row_for_every_feed(database: Database, new_tenant: Callable[[], str]) -> None:
    tenant = new_tenant()
    for kind in FEEDS:
        made = Connection(id=kind, kind=kind, uri=f"/bills/{kind}")
        database.connections.add(tenant, kind, **to_row(made))
        assert from_row(database.connections.get(tenant, kind)) == made
