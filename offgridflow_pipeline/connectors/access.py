"""How a connection reaches its source, with secrets already resolved; empty fields mean the ambient identity.

Ambient identity is preferred: an assumed role, workload identity, a managed identity. Nothing here is read from
process-global variables by tenants' code: every client is built from one of these values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pydantic import SecretStr

_NO_SECRET = SecretStr("")


@dataclass(frozen=True, slots=True)
class AwsAccess:
    """Access to AWS: an assumed role (with external id), static keys, or the ambient identity."""

    role_arn: str = ""
    external_id: str = ""
    access_key_id: str = ""
    secret_access_key: SecretStr = _NO_SECRET
    region: str = ""
    endpoint_url: str = ""


@dataclass(frozen=True, slots=True)
class AzureAccess:
    """Access to Azure: a service principal, an account key or SAS (Blob only), or the ambient identity.

    `account_url` is the Blob endpoint, `management_url` that of Azure Resource Manager; empty = the public cloud.
    """

    directory_id: str = ""
    client_id: str = ""
    client_secret: SecretStr = _NO_SECRET
    account_key: SecretStr = _NO_SECRET
    sas_token: SecretStr = _NO_SECRET
    account_url: str = ""
    management_url: str = ""


@dataclass(frozen=True, slots=True)
class GcpAccess:
    """Access to Google Cloud: a service account or workload identity federation JSON, or the ambient identity.

    `api_endpoint` is empty for the public API; `anonymous` is for emulators.
    """

    credentials_json: SecretStr = _NO_SECRET
    quota_project: str = ""
    api_endpoint: str = ""
    anonymous: bool = False


@dataclass(frozen=True, slots=True)
class HttpsAccess:
    """Access to https files: a bearer token where needed, and the hosts that may be asked.

    ``host`` means port 443 at public addresses, ``host:port`` that port at any address. `ca_bundle` is a file of
    certificate authorities for hosts with private certificates; empty = the public ones.
    """

    bearer_token: SecretStr = _NO_SECRET
    allowed_hosts: frozenset[str] = field(default_factory=frozenset)
    ca_bundle: str = ""


@dataclass(frozen=True, slots=True)
class LocalAccess:
    """Access to local files: only below these roots when any is named (production names them)."""

    roots: tuple[str, ...] = ()


Access = AwsAccess | AzureAccess | GcpAccess | HttpsAccess | LocalAccess


def ambient_access(provider: str, uri: str) -> Access:
    """Access for a person at a terminal: the identity of the process, any folder, and the host of an https URI."""
    match provider:
        case "aws":
            return AwsAccess()
        case "azure":
            return AzureAccess()
        case "gcp":
            return GcpAccess()
        case "https":
            return HttpsAccess(allowed_hosts=frozenset({urlsplit(uri).netloc.lower()}))
        case _:
            return LocalAccess()
