"""Credentials of Google Cloud from a connection's access: never through process-global variables.

A service account key, workload identity federation, or the identity of the process itself. JSON that a tenant
supplies is not trusted: it may name addresses and files that the library would read and send, so both are held
against what Google's own documents name.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from offgridflow_pipeline.connectors.errors import ExpiredCredentialsError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from offgridflow_pipeline.connectors.access import GcpAccess

READ_ONLY = "https://www.googleapis.com/auth/cloud-platform.read-only"
#: Running a query needs more than the read-only scope of the platform.
BIGQUERY = "https://www.googleapis.com/auth/bigquery"

_KINDS = ("service_account", "external_account")
#: Members of credentials JSON that the library sends something to.
_ADDRESSES = (
    "token_uri", "token_url", "token_info_url", "auth_uri", "auth_provider_x509_cert_url", "client_x509_cert_url",
    "service_account_impersonation_url",
)  # fmt: skip
#: Where workload identity federation of AWS and Azure asks the machine itself who it is (publishers' documents).
_METADATA_HOSTS = frozenset({"169.254.169.254", "fd00:ec2::254", "sts.{region}.amazonaws.com"})


def google_credentials(access: GcpAccess, scope: str) -> Credentials:
    """Credentials with that scope; ambient when the access holds none, anonymous for emulators.

    Raises:
        ExpiredCredentialsError: the JSON is no usable credential, or there is no ambient identity.
    """
    import google.auth
    from google.auth.credentials import AnonymousCredentials
    from google.auth.exceptions import GoogleAuthError

    if access.anonymous:
        return AnonymousCredentials()  # type: ignore[no-untyped-call]
    text = access.credentials_json.get_secret_value()
    quota_project = access.quota_project or None
    try:
        if text:
            return _of_json(trusted_credentials(text), scope, quota_project)
        found, _ = google.auth.default(scopes=[scope], quota_project_id=quota_project)
    except (GoogleAuthError, ValueError, TypeError, KeyError) as error:
        # The library's text may repeat the key: only its kind is told.
        raise ExpiredCredentialsError(
            f"Google Cloud credentials are unusable ({type(error).__name__}): store the JSON of a service account "
            "or of workload identity federation, or give the process an identity of its own."
        ) from None
    return found


def _of_json(info: dict[str, Any], scope: str, quota_project: str | None) -> Credentials:
    from google.auth import aws, identity_pool
    from google.oauth2 import service_account

    kind: Any = service_account.Credentials
    build = kind.from_service_account_info
    if info["type"] == "external_account":
        source = info.get("credential_source") or {}
        kind = aws.Credentials if str(source.get("environment_id", "")).startswith("aws") else identity_pool.Credentials
        build = kind.from_info
    found: Credentials = build(info, scopes=[scope], quota_project_id=quota_project)
    return found


def trusted_credentials(text: str) -> dict[str, Any]:
    """The credentials JSON, if everything it would make us contact or read is Google's or the machine's own.

    Raises:
        ValueError: it is not JSON, of another kind, or names another host, a program or a local file.
    """
    info = json.loads(text)
    if not isinstance(info, dict) or info.get("type") not in _KINDS:
        raise ValueError(f"credentials must be of the type {' or '.join(_KINDS)}")
    for member in _ADDRESSES:
        if (address := info.get(member)) and not _is_google(str(address)):
            raise ValueError(f"{member} is not an address of googleapis.com or google.com")
    if info.get("universe_domain", "googleapis.com") != "googleapis.com":
        raise ValueError("universe_domain is not googleapis.com")
    source = info.get("credential_source") or {}
    if not isinstance(source, dict) or {"file", "executable", "certificate"} & source.keys():
        raise ValueError("credential_source must not be a file, a program or a certificate of this machine")
    for member, address in source.items():
        if member.endswith("url") and urlsplit(str(address)).hostname not in _METADATA_HOSTS:
            raise ValueError(f"credential_source.{member} is not a metadata service")
    return info


def _is_google(address: str) -> bool:
    parts = urlsplit(address)
    host = parts.hostname or ""
    return parts.scheme == "https" and host.endswith((".googleapis.com", ".google.com"))
