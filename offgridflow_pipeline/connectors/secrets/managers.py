"""Secret managers of the clouds, asked with the identity of this process: one function per manager.

What a tenant may name is decided in `references`; here a reference is only read. Sources: boto3 Secrets Manager,
google-cloud-secret-manager and azure-keyvault-secrets, as named in pyproject.toml.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic import SecretStr

from offgridflow_pipeline.connectors.errors import SecretMissingError, SecretRefusedError
from offgridflow_pipeline.connectors.providers.problems import Provider, understand

if TYPE_CHECKING:
    from azure.keyvault.secrets import SecretClient
    from google.cloud.secretmanager import SecretManagerServiceClient
    from mypy_boto3_secretsmanager import SecretsManagerClient

TIMEOUT_SECONDS = 15
_ARN = re.compile(r"arn:aws[a-z-]*:secretsmanager:(?P<region>[a-z0-9-]+):\d{12}:secret:\S+")
_AWS_NAME = re.compile(r"[A-Za-z0-9/_+=.@-]{1,512}")
_GOOGLE = re.compile(r"projects/[a-z0-9:.-]+/secrets/[A-Za-z0-9_-]{1,255}(/versions/[A-Za-z0-9_-]+)?")
#: Key Vault of the public cloud, of US Government and of China (Azure documentation: Key Vault DNS suffixes).
_AZURE = re.compile(
    r"(?P<vault>https://[A-Za-z0-9-]{3,24}\.vault\.(azure\.net|usgovcloudapi\.net|azure\.cn))"
    r"/secrets/(?P<name>[A-Za-z0-9-]{1,127})(/(?P<version>[0-9a-f]{32}))?"
)


def aws_secret(reference: str, place: str) -> SecretStr:
    """``aws-sm:NAME-or-ARN[#KEY]``: AWS Secrets Manager; KEY picks a member of a JSON secret."""
    name, _, key = place.partition("#")
    arn = _ARN.fullmatch(name)
    if not arn and not _AWS_NAME.fullmatch(name):
        raise SecretRefusedError(f"{reference} is written as aws-sm:NAME or aws-sm:ARN, with #KEY behind if needed.")
    with _asked(reference, "aws", "secretsmanager:GetSecretValue"):
        answer = secrets_manager(arn["region"] if arn else None).get_secret_value(SecretId=name)
        text = answer["SecretString"] if "SecretString" in answer else answer["SecretBinary"].decode()
    return _member(reference, text, key)


def google_secret(reference: str, place: str) -> SecretStr:
    """``gcp-sm:projects/P/secrets/S[/versions/V][#KEY]``: Google Secret Manager; the latest version by default."""
    name, _, key = place.partition("#")
    if not _GOOGLE.fullmatch(name):
        raise SecretRefusedError(f"{reference} is written as gcp-sm:projects/PROJECT/secrets/NAME[/versions/VERSION].")
    version = name if "/versions/" in name else f"{name}/versions/latest"
    with _asked(reference, "gcp", "the role Secret Manager Secret Accessor"):
        answer = google_secret_manager().access_secret_version(name=version, timeout=TIMEOUT_SECONDS)
        text = answer.payload.data.decode()
    return _member(reference, text, key)


def azure_secret(reference: str, place: str) -> SecretStr:
    """``azure-kv:https://VAULT.vault.azure.net/secrets/NAME[/VERSION][#KEY]``: Azure Key Vault."""
    address, _, key = place.partition("#")
    parts = _AZURE.fullmatch(address)
    if not parts:
        raise SecretRefusedError(f"{reference} is written as azure-kv:https://VAULT.vault.azure.net/secrets/NAME.")
    with _asked(reference, "azure", "the role Key Vault Secrets User"):
        text = key_vault(parts["vault"]).get_secret(parts["name"], parts["version"]).value or ""
    return _member(reference, text, key)


MANAGERS: Mapping[str, Callable[[str, str], SecretStr]] = {
    "aws-sm": aws_secret,
    "gcp-sm": google_secret,
    "azure-kv": azure_secret,
}


def secrets_manager(region: str | None) -> SecretsManagerClient:
    """A client of AWS Secrets Manager; `region` of an ARN goes before that of the environment."""
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=TIMEOUT_SECONDS,
        read_timeout=TIMEOUT_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 3},
    )
    # a session of its own: the default session is not safe to share between threads
    return boto3.session.Session().client("secretsmanager", region_name=region, config=config)


def google_secret_manager() -> SecretManagerServiceClient:
    """A client of Google Secret Manager."""
    from google.cloud.secretmanager import SecretManagerServiceClient

    return SecretManagerServiceClient()


def key_vault(vault_url: str) -> SecretClient:
    """A client of one Azure Key Vault."""
    from azure.identity import DefaultAzureCredential
    from azure.keyvault.secrets import SecretClient

    credential = DefaultAzureCredential(exclude_interactive_browser_credential=True)
    return SecretClient(
        vault_url, credential, connection_timeout=TIMEOUT_SECONDS, read_timeout=TIMEOUT_SECONDS, retry_total=2
    )


def _member(reference: str, text: str, key: str) -> SecretStr:
    if not key:
        return SecretStr(text)
    try:
        found = json.loads(text)[key]
    except (ValueError, KeyError, TypeError):
        found = None
    if not isinstance(found, str):
        raise SecretMissingError(f"{reference}: the secret is no JSON object with the text {key!r}. Check #KEY.")
    return SecretStr(found)


@contextmanager
def _asked(reference: str, provider: Provider, right: str) -> Iterator[None]:
    """Any failure becomes the cure for its meaning; its text may repeat what was asked or answered."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  nothing of it may be shown, also not as the cause
        problem = understand(provider, error)
        cure = {
            "denied": f"this process may not read it: grant it {right}",
            "expired": "this process has no valid identity there: give it one, or renew it",
            "retry": "its keeper does not answer: try again, check the network",
            "other": "check the reference and that the secret exists, is enabled and is text",
        }[problem.verdict]
        raise SecretMissingError(f"{reference} cannot be read ({problem.code}): {cure}.") from None
