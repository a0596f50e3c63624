"""From connection to access: the secret's form, and that credentials only go to hosts that may have them."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from offgridflow_pipeline.connectors.access import Access, AwsAccess, AzureAccess, GcpAccess, HttpsAccess, LocalAccess
from offgridflow_pipeline.connectors.connections import Connection
from offgridflow_pipeline.connectors.credentials import access_of, secrets_of
from offgridflow_pipeline.connectors.errors import ConnectionConfigError, SecretMissingError
from offgridflow_pipeline.connectors.secrets.references import SecretResolver
from offgridflow_pipeline_tests.counterparts.postgres import settings

GUID = "0f8fad5b-d9cb-469f-a165-70867728950e"
CANARY = "canary-77ab"
ROLE = "arn:aws:iam::123456789012:role/reader"
BLOB = "https://account.blob.core.windows.net"
VARIABLE = "OFFGRIDFLOW_SECRET_ACME__X"


def _access(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], secret: str | None = None, **changes: Any
) -> Access:
    chosen = settings(Path("/nowhere"), None).model_copy(update=changes)
    if secret is not None:
        monkeypatch.setenv(VARIABLE, secret)
        values = values | {"secret_ref": f"env:{VARIABLE}"}
    return access_of(Connection(id="c", **values), SecretResolver("acme", chosen), chosen)


S3 = {"kind": "cur", "uri": "s3://b/k"}
AZ = {"kind": "azure_actual", "uri": "az://account/exports"}
GS = {"kind": "focus", "uri": "gs://b/k"}


def test_without_a_secret_the_ambient_identity_or_the_role_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    aws = {"role_arn": ROLE, "external_id": "ogf-1", "region": "eu-west-1"}
    assert _access(monkeypatch, S3 | {"aws": aws}) == AwsAccess(role_arn=ROLE, external_id="ogf-1", region="eu-west-1")
    assert _access(monkeypatch, AZ) == AzureAccess()
    assert _access(monkeypatch, GS | {"gcp": {"project": "payer"}}) == GcpAccess(quota_project="payer")


def test_each_provider_takes_its_own_form_of_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = json.dumps({"access_key_id": "id", "secret_access_key": CANARY})
    assert _access(monkeypatch, S3, keys) == AwsAccess(access_key_id="id", secret_access_key=SecretStr(CANARY))
    client = {"azure": {"directory_id": "contoso.com", "client_id": GUID}}
    expected = AzureAccess(directory_id="contoso.com", client_id=GUID, client_secret=SecretStr(CANARY))
    assert _access(monkeypatch, AZ | client, CANARY) == expected
    assert _access(monkeypatch, AZ | client, json.dumps({"client_secret": CANARY})) == expected
    assert _access(monkeypatch, AZ, json.dumps({"account_key": CANARY})) == AzureAccess(account_key=SecretStr(CANARY))
    assert _access(monkeypatch, AZ, json.dumps({"sas_token": CANARY})) == AzureAccess(sas_token=SecretStr(CANARY))
    service = json.dumps({"type": "service_account", "token_uri": "https://oauth2.googleapis.com/token"})
    assert _access(monkeypatch, GS, service) == GcpAccess(credentials_json=SecretStr(service))
    https = {"kind": "focus", "uri": "https://bills.example.org/a.csv", "https": {"allowed_hosts": ["cdn.example.org"]}}
    assert _access(monkeypatch, https, CANARY) == HttpsAccess(
        SecretStr(CANARY), frozenset({"bills.example.org", "cdn.example.org"})
    )


@pytest.mark.parametrize(
    ("values", "secret", "cure"),
    [
        (S3, CANARY, "must be a JSON object of access_key_id, secret_access_key"),
        (S3, json.dumps({"secret_access_key": CANARY}), "must be .*access_key_id"),
        (S3, json.dumps({"access_key_id": "", "secret_access_key": CANARY}), "must be a JSON object"),
        (S3, json.dumps({"access_key_id": "a", "secret_access_key": CANARY, "x": "y"}), "must be a JSON object"),
        (AZ, CANARY, "must be a JSON object of client_secret, account_key, sas_token"),
        (AZ, json.dumps({"client_secret": CANARY}), "a client secret needs azure.client_id"),
        (AZ, json.dumps({"account_key": CANARY, "sas_token": "x"}), "must be .*or"),
        (GS, CANARY, "must be the JSON of a service account"),
        (GS, json.dumps({"type": "authorized_user", "refresh_token": CANARY}), "is refused: credentials must be"),
        (
            GS,
            json.dumps({"type": "service_account", "private_key": CANARY, "token_uri": "https://evil.example/token"}),
            "is refused: token_uri is not an address of",
        ),
        (
            GS,
            json.dumps({"type": "external_account", "x": CANARY, "credential_source": {"file": "/etc/passwd"}}),
            "is refused: credential_source must not be a file",
        ),
    ],
)
def test_a_secret_of_another_form_is_refused_without_being_shown(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], secret: str, cure: str
) -> None:
    with pytest.raises(SecretMissingError, match=cure) as refused:
        _access(monkeypatch, values, secret)
    assert CANARY not in "".join(traceback.format_exception(refused.value))


ELSEWHERE = [
    S3 | {"aws": {"endpoint_url": "https://evil.example"}},
    AZ | {"azure": {"account_url": "https://evil.example"}},
    AZ | {"azure": {"account_url": "https://account.blob.core.windows.net.evil.example"}},
    AZ | {"azure": {"account_url": "http://account.blob.core.windows.net"}},
    AZ | {"azure": {"management_url": "https://management.azure.com.evil.example"}},
    GS | {"gcp": {"api_endpoint": "https://evilgoogleapis.com"}},
    {"kind": "focus", "uri": "https://evil.example/a.csv"},
    {"kind": "focus", "uri": "https://169.254.169.254/latest/meta-data"},
]


@pytest.mark.parametrize("values", ELSEWHERE)
def test_no_credentials_go_to_an_unknown_host(monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]) -> None:
    for closed in ({"environment": "production"}, {"allowed_hosts": ["bills.example.org"]}):
        with pytest.raises(ConnectionConfigError, match="may not send credentials to.*OFFGRIDFLOW_ALLOWED_HOSTS"):
            _access(monkeypatch, values, **closed)
    _access(monkeypatch, values)  # a developer may


@pytest.mark.parametrize(
    "values",
    [
        AZ | {"azure": {"account_url": BLOB, "management_url": "https://management.azure.com"}},
        GS | {"gcp": {"api_endpoint": "https://storage.googleapis.com"}},
        S3 | {"aws": {"endpoint_url": "http://minio.internal:9000"}},
        {"kind": "focus", "uri": "https://bills.example.org/a.csv"},
        {"kind": "focus", "uri": f"{BLOB}/container/a.csv"},
    ],
)
def test_the_clouds_own_hosts_and_those_of_the_settings_are_allowed(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]
) -> None:
    hosts = ["bills.example.org", "minio.internal:9000"]
    assert _access(monkeypatch, values, environment="production", allowed_hosts=hosts) is not None


def test_one_more_host_of_a_connection_is_checked_like_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"kind": "focus", "uri": "https://a.example/x.csv", "https": {"allowed_hosts": ["evil.example"]}}
    with pytest.raises(ConnectionConfigError, match=r"https\.allowed_hosts \(evil\.example\)"):
        _access(monkeypatch, values, environment="production", allowed_hosts=["a.example"])


def test_local_files_are_confined_to_roots_and_closed_in_production(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    local = {"kind": "cur", "uri": str(tmp_path)}
    assert _access(monkeypatch, local) == LocalAccess(())
    assert _access(monkeypatch, local, local_source_roots=[tmp_path]) == LocalAccess((str(tmp_path.resolve()),))
    with pytest.raises(ConnectionConfigError, match="OFFGRIDFLOW_LOCAL_SOURCE_ROOTS, and none is named"):
        _access(monkeypatch, local, environment="production")


def test_a_root_may_be_a_folder_per_tenant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    local = {"kind": "cur", "uri": str(tmp_path / "acme")}
    access = _access(monkeypatch, local, local_source_roots=[tmp_path / "{tenant}"])
    assert access == LocalAccess((str(tmp_path.resolve() / "acme"),))


@pytest.mark.parametrize(
    ("lake", "uri", "refused"),
    [
        ("s3://lake/ogf", "s3://lake/ogf/raw/other-tenant", True),
        ("s3://lake/ogf/", "s3://lake", True),
        ("s3://lake/ogf", "s3://lake/ogf-bills", False),
        ("/data/lake", "/data/lake/raw/other-tenant", True),
        ("/data/lake", "/data/bills/../lake", True),
        ("/data/lake", "/data/bills", False),
    ],
)
def test_the_lake_of_all_tenants_is_no_source_of_one(
    monkeypatch: pytest.MonkeyPatch, lake: str, uri: str, refused: bool
) -> None:
    values = {"kind": "cur", "uri": uri}
    if refused:
        with pytest.raises(ConnectionConfigError, match="OffGridFlow's own lake"):
            _access(monkeypatch, values, lake_uri=lake)
    else:
        _access(monkeypatch, values, lake_uri=lake)


def test_an_access_shows_no_secret_and_gives_all_of_them_for_redaction(monkeypatch: pytest.MonkeyPatch) -> None:
    access = _access(monkeypatch, S3, json.dumps({"access_key_id": "id", "secret_access_key": CANARY}))
    assert CANARY not in repr(access)
    assert secrets_of(access) == [SecretStr(CANARY)]
    assert secrets_of(_access(monkeypatch, AZ)) == []


def test_settings_take_lists_as_the_environment_gives_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from offgridflow_pipeline.settings import Settings

    monkeypatch.setenv("OFFGRIDFLOW_ALLOWED_HOSTS", "a.example, b.example:8443,")
    monkeypatch.setenv("OFFGRIDFLOW_LOCAL_SOURCE_ROOTS", "/bills,/uploads")
    monkeypatch.setenv("OFFGRIDFLOW_SECRET_MANAGER_PREFIXES", "aws-sm:offgridflow/{tenant}/")
    read = Settings(_env_file=None)
    assert read.allowed_hosts == ["a.example", "b.example:8443"]
    assert read.local_source_roots == [Path("/bills"), Path("/uploads")]
    assert read.secret_manager_prefixes == ["aws-sm:offgridflow/{tenant}/"]


@pytest.mark.parametrize(
    ("prefix", "refused"),
    [
        ("aws-sm:offgridflow/{tenant}", True),
        ("aws-sm:{tenant}-bills", True),
        ("aws-sm:offgridflow/{tenant}/", False),
        ("azure-kv:https://v.vault.azure.net/secrets/{tenant}--", False),
        ("aws-sm:shared/", False),
    ],
)
def test_a_prefix_after_which_another_slug_could_go_on_is_refused(prefix: str, refused: bool) -> None:
    from offgridflow_pipeline.settings import Settings

    if refused:
        with pytest.raises(ValueError, match="the tenant a is given the secrets of the tenant a-b"):
            Settings(_env_file=None, secret_manager_prefixes=prefix)
    else:
        assert Settings(_env_file=None, secret_manager_prefixes=prefix).secret_manager_prefixes == [prefix]
