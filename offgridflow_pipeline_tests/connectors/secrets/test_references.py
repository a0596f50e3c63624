"""Secret references: each kind is resolved by its real library, and none reaches beyond its tenant."""

from __future__ import annotations

import base64
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import SecretStr

from offgridflow_pipeline.connectors.errors import SecretError, SecretMissingError, SecretRefusedError
from offgridflow_pipeline.connectors.secrets import managers as secret_managers
from offgridflow_pipeline.connectors.secrets.references import MAXIMUM_BYTES, SecretResolver
from offgridflow_pipeline.connectors.secrets.sealing import KeyRing, seal
from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline_tests.counterparts.postgres import settings
from offgridflow_pipeline_tests.counterparts.s3 import S3Server
from offgridflow_pipeline_tests.counterparts.secret_keepers import google_keeper, key_vault_keeper

CANARY = "canary-4f9d1b77-secret"


@pytest.fixture
def chosen(tmp_path: Path) -> Settings:
    return settings(tmp_path, None).model_copy(update={"secret_files_dir": tmp_path / "secrets"})


def _resolver(chosen: Settings, tenant: str = "acme-co", **changes: Any) -> SecretResolver:
    return SecretResolver(tenant, chosen.model_copy(update=changes))


def test_a_variable_of_the_tenant_is_read(chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFGRIDFLOW_SECRET_ACME_CO__AZURE", CANARY)
    found = _resolver(chosen).resolve("env:OFFGRIDFLOW_SECRET_ACME_CO__AZURE", "azure")
    assert found == SecretStr(CANARY)


@pytest.mark.parametrize(
    "name",
    [
        "DATABASE_URL",
        "OFFGRIDFLOW_SECRET_KEYS",
        "OFFGRIDFLOW_SECRET_ACME__AZURE",  # another tenant: acme
        "OFFGRIDFLOW_SECRET_ACME_CO_AZURE",
        "OFFGRIDFLOW_SECRET_ACME_CO__",
        "PATH",
        "",
        "OFFGRIDFLOW_SECRET_ACME_CO__X=1",
    ],
)
def test_a_variable_of_others_is_refused(chosen: Settings, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    if name.replace("_", "").isalnum():
        monkeypatch.setenv(name, CANARY)
    with pytest.raises(SecretRefusedError) as refused:
        _resolver(chosen).resolve(f"env:{name}", "c")
    assert CANARY not in str(refused.value)


def test_no_prefix_opens_the_settings_of_the_platform(chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = _resolver(chosen, secret_env_prefix="OFFGRIDFLOW_")
    for name in ("OFFGRIDFLOW_SECRET_KEYS", "OFFGRIDFLOW_APPLICATION_PASSWORD", "OFFGRIDFLOW_database_url"):
        monkeypatch.setenv(name, CANARY)
        with pytest.raises(SecretRefusedError, match=f"env:{name} is not a variable that acme-co may use"):
            wide.resolve(f"env:{name}", "c")


def test_a_variable_that_is_not_set_is_told(chosen: Settings) -> None:
    with pytest.raises(SecretMissingError, match="set OFFGRIDFLOW_SECRET_ACME_CO__NONE"):
        _resolver(chosen).resolve("env:OFFGRIDFLOW_SECRET_ACME_CO__NONE", "c")


def test_a_file_of_the_tenant_is_read_also_through_links_as_kubernetes_mounts_them(chosen: Settings) -> None:
    folder = chosen.data_dir / "secrets" / "acme-co"
    (folder / "..2026").mkdir(parents=True)
    (folder / "..2026" / "key").write_text(f"{CANARY}\n")
    (folder / "key").symlink_to(Path("..2026") / "key")
    assert _resolver(chosen).resolve(f"file:{folder / 'key'}", "c") == SecretStr(CANARY)


def test_a_file_elsewhere_is_refused(chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    root = chosen.data_dir / "secrets"
    for tenant in ("acme-co", "other"):
        (root / tenant).mkdir(parents=True)
        (root / tenant / "key").write_text(CANARY)
    (root / "acme-co" / "link").symlink_to(root / "other" / "key")
    monkeypatch.chdir(root / "acme-co")
    for place in ("/etc/passwd", f"{root}/other/key", f"{root}/acme-co/../other/key", f"{root}/acme-co/link", "key"):
        with pytest.raises(SecretRefusedError, match="is not a file that acme-co may use: it must lie in"):
            _resolver(chosen).resolve(f"file:{place}", "c")
    with pytest.raises(SecretRefusedError, match="Set OFFGRIDFLOW_SECRET_FILES_DIR"):
        _resolver(chosen, secret_files_dir=None).resolve(f"file:{root}/acme-co/key", "c")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "is not a file"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"x" * (MAXIMUM_BYTES + 1), "holds more than"),
    ],
)
def test_a_file_that_holds_no_secret_is_told(chosen: Settings, content: bytes | None, problem: str) -> None:
    path = chosen.data_dir / "secrets" / "acme-co" / "key"
    path.parent.mkdir(parents=True)
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SecretMissingError, match=problem):
        _resolver(chosen).resolve(f"file:{path}", "c")


@pytest.fixture
def aws(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3.client("secretsmanager")


def test_secrets_manager_gives_texts_bytes_and_members_by_name_and_arn(chosen: Settings, aws: Any) -> None:
    name = f"offgridflow/acme-co/{uuid4().hex}"
    aws.create_secret(Name=name, SecretString=json.dumps({"key": CANARY, "number": 1}))
    binary = aws.create_secret(Name=f"{name}-b", SecretBinary=CANARY.encode())["ARN"]
    resolver = _resolver(chosen, secret_manager_prefixes=["aws-sm:offgridflow/{tenant}/", "aws-sm:arn:aws:"])
    assert resolver.resolve(f"aws-sm:{name}#key", "c") == SecretStr(CANARY)
    assert resolver.resolve(f"aws-sm:{binary}", "c") == SecretStr(CANARY)
    for key in ("none", "number"):
        with pytest.raises(SecretMissingError, match=f"no JSON object with the text '{key}'") as missing:
            resolver.resolve(f"aws-sm:{name}#{key}", "c")
        assert CANARY not in str(missing.value)


def test_a_secret_that_the_manager_does_not_have_is_told(chosen: Settings, aws: Any) -> None:
    assert aws
    with pytest.raises(SecretMissingError, match=r"cannot be read \(ResourceNotFoundException\): check the reference"):
        _resolver(chosen).resolve("aws-sm:offgridflow/acme-co/none", "c")


def test_a_manager_that_does_not_answer_is_told(chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in S3Server("http://127.0.0.1:1").environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SecretMissingError, match="does not answer: try again, check the network"):
        _resolver(chosen).resolve("aws-sm:x", "c")


def test_google_secret_manager_gives_the_latest_or_a_stated_version(
    chosen: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with google_keeper({"projects/p/secrets/s": ["old", CANARY]}) as client:
        monkeypatch.setattr(secret_managers, "google_secret_manager", lambda: client)
        resolver = _resolver(chosen)
        assert resolver.resolve("gcp-sm:projects/p/secrets/s", "c") == SecretStr(CANARY)
        assert resolver.resolve("gcp-sm:projects/p/secrets/s/versions/1", "c") == SecretStr("old")
        with pytest.raises(SecretMissingError, match="grant it the role Secret Manager Secret Accessor"):
            resolver.resolve("gcp-sm:projects/denied/secrets/s", "c")
        with pytest.raises(SecretMissingError, match="check the reference"):
            resolver.resolve("gcp-sm:projects/p/secrets/none", "c")


def test_azure_key_vault_gives_the_latest_or_a_stated_version(
    chosen: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with key_vault_keeper({"s": ["old", CANARY]}) as client_of:
        monkeypatch.setattr(secret_managers, "key_vault", client_of)
        resolver = _resolver(chosen)
        assert resolver.resolve("azure-kv:https://acme.vault.azure.net/secrets/s", "c") == SecretStr(CANARY)
        first = f"{1:032x}"
        assert resolver.resolve(f"azure-kv:https://acme.vault.azure.net/secrets/s/{first}", "c") == SecretStr("old")
        with pytest.raises(SecretMissingError, match="grant it the role Key Vault Secrets User"):
            resolver.resolve("azure-kv:https://acme.vault.azure.net/secrets/denied", "c")
        with pytest.raises(SecretMissingError, match="SecretNotFound.*check the reference"):
            resolver.resolve("azure-kv:https://acme.vault.azure.net/secrets/none", "c")


@pytest.mark.parametrize(
    "reference",
    [
        "azure-kv:https://vault.azure.net.evil.example/secrets/s",
        "azure-kv:http://acme.vault.azure.net/secrets/s",
        "azure-kv:https://u@acme.vault.azure.net/secrets/s",
        "gcp-sm:projects/p/secrets/s/../t",
        "gcp-sm:secrets/s",
        "aws-sm:a name",
        "aws-sm:",
        "vault:x",
        "hush",
        "sealed",
        "",
    ],
)
def test_a_malformed_reference_is_refused_before_anybody_is_asked(chosen: Settings, reference: str) -> None:
    with pytest.raises(SecretRefusedError):
        _resolver(chosen).resolve(reference, "c")


def test_managers_are_confined_by_prefix_and_closed_in_production(chosen: Settings) -> None:
    prefixes = ["aws-sm:offgridflow/{tenant}/"]
    for reference in ("aws-sm:offgridflow/other/x", "aws-sm:prod/database", "gcp-sm:projects/p/secrets/s"):
        with pytest.raises(SecretRefusedError, match="begins with aws-sm:offgridflow/acme-co/"):
            _resolver(chosen, secret_manager_prefixes=prefixes).resolve(reference, "c")
    with pytest.raises(SecretRefusedError, match="Set OFFGRIDFLOW_SECRET_MANAGER_PREFIXES"):
        _resolver(chosen, environment="production").resolve("aws-sm:offgridflow/acme-co/x", "c")


def test_a_sealed_secret_is_that_of_its_own_tenant_and_connection(
    database: Database, new_tenant: Callable[[], str], chosen: Settings
) -> None:
    tenant, other = new_tenant(), new_tenant()
    ring = KeyRing.of(chosen)
    for slug, names in ((tenant, ("one", "two")), (other, ("two",))):
        for name in names:
            database.connections.add(slug, name, provider="aws", kind="cur", uri="s3://b", secret_ref="sealed")
    database.connections.put_secret(tenant, "one", seal(ring, tenant, "one", SecretStr(CANARY)))
    assert SecretResolver(tenant, chosen, database).resolve("sealed", "one") == SecretStr(CANARY)
    with pytest.raises(SecretMissingError, match=f"add {tenant} two --replace --secret-stdin"):
        SecretResolver(tenant, chosen, database).resolve("sealed", "two")
    stolen = database.connections.secret(tenant, "one")
    assert stolen is not None
    database.connections.put_secret(other, "two", stolen)
    with pytest.raises(SecretError, match=f"Connection 'two' of {other}: .* does not open"):
        SecretResolver(other, chosen, database).resolve("sealed", "two")


@examples(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
# The marks keep a drawn word, such as the name of a column, from standing elsewhere by chance.
@given(st.text(st.characters(min_codepoint=33, max_codepoint=0x2FFF), min_size=8, max_size=200).map("§{}§".format))
def test_no_secret_is_in_any_text_logged_or_raised(
    database: Database, new_tenant: Callable[[], str], chosen: Settings, caplog: pytest.LogCaptureFixture, secret: str
) -> None:
    """A planted secret is resolved, seen, sealed and failed with: nobody tells it."""
    caplog.set_level(logging.DEBUG)
    tenant = new_tenant()
    name = f"OFFGRIDFLOW_SECRET_{tenant.upper().replace('-', '_')}__X"
    os.environ[name] = secret
    try:
        resolver = SecretResolver(tenant, chosen, database)
        found = resolver.resolve(f"env:{name}", "c")
        sealed = seal(KeyRing.of(chosen), tenant, "c", found)
        database.connections.add(
            tenant, "c", provider="aws", kind="cur", uri="s3://b", secret_ref="sealed", sealed=sealed
        )
        told = [repr(found), str(found), repr(resolver), repr(sealed), repr(database.connections.get(tenant, "c"))]
        for reference in (f"env:{name}_", f"file:{chosen.data_dir}", "sealed"):
            with pytest.raises(SecretError) as refused:
                SecretResolver(tenant, chosen, database).resolve(reference, "other")
            told += [str(refused.value), repr(refused.value), repr(refused.value.__cause__)]
    finally:
        del os.environ[name]
    assert not [text for text in (*told, caplog.text) if secret in text]
    with database.admin_engine.connect() as connection:
        stored = connection.exec_driver_sql("select to_jsonb(s)::text from ogf.sealed_secrets s").scalars().all()
    assert not [row for row in stored if secret in row or base64.b64encode(secret.encode()).decode() in row]
