"""With every logger at DEBUG, the cloud libraries do not write down what they were given or answered."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from offgridflow_pipeline.connectors.access import AwsAccess
from offgridflow_pipeline.connectors.connections import Connection
from offgridflow_pipeline.connectors.credentials import access_of
from offgridflow_pipeline.connectors.errors import DeliveryError
from offgridflow_pipeline.connectors.providers.aws_clients import aws_client
from offgridflow_pipeline.connectors.providers.library_logs import TALKATIVE
from offgridflow_pipeline.connectors.secrets.references import SecretResolver
from offgridflow_pipeline.connectors.stores import open_store
from offgridflow_pipeline_tests.counterparts.postgres import settings
from offgridflow_pipeline_tests.counterparts.s3 import S3Server
from offgridflow_pipeline_tests.counterparts.scripted_server import scripted_server

CANARY = "canary9f1b77"
ROLE = "arn:aws:iam::123456789012:role/reader"


@pytest.fixture(autouse=True)
def _untouched_loggers() -> Iterator[None]:
    """As in a new process: no filter of an earlier test."""
    kept = {name: list(logging.getLogger(name).filters) for name in TALKATIVE}
    for name in TALKATIVE:
        logging.getLogger(name).filters.clear()
    yield
    for name, filters in kept.items():
        logging.getLogger(name).filters[:] = filters


def test_values_of_secrets_manager_and_tokens_of_roles_are_not_logged(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for variable, value in s3.environment.items():
        monkeypatch.setenv(variable, value)
    name = uuid4().hex
    keys = json.dumps({"access_key_id": "AKID", "secret_access_key": CANARY})
    s3.client("secretsmanager").create_secret(Name=name, SecretString=keys)
    caplog.set_level(logging.DEBUG)
    chosen = settings(tmp_path, None)
    config = {"role_arn": ROLE, "endpoint_url": s3.endpoint}
    connection = Connection(id="c", kind="cur", uri="s3://b", aws=config, secret_ref=f"aws-sm:{name}")
    access = access_of(connection, SecretResolver("acme", chosen), chosen)
    assert isinstance(access, AwsAccess)
    client = aws_client(access, "sts")
    client.get_caller_identity()
    assumed = client._request_signer._credentials
    assert "botocore" in caplog.text  # it does log
    for secret in (CANARY, assumed.secret_key, assumed.token):
        assert secret not in caplog.text


def test_signatures_in_addresses_are_not_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    chosen = settings(tmp_path, None)
    monkeypatch.setenv("OFFGRIDFLOW_SECRET_ACME__SAS", json.dumps({"sas_token": f"sv=1&sig={CANARY}"}))
    with scripted_server() as server:
        connection = Connection(
            id="c", kind="azure_actual", uri="az://account/exports", secret_ref="env:OFFGRIDFLOW_SECRET_ACME__SAS",
            azure={"account_url": f"{server.endpoint}/account"},
        )  # fmt: skip
        access = access_of(connection, SecretResolver("acme", chosen), chosen)
        with pytest.raises(DeliveryError) as refused:
            open_store(connection.uri, access).list(connection.uri)
        assert CANARY in server.requests[0].target  # it was sent
    assert CANARY not in caplog.text
    assert CANARY not in str(refused.value)
