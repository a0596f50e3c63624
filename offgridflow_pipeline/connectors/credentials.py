"""From a connection to its `Access`: resolves the secret, reads what it holds, and confines where we connect to.

A token is only sent to a host of the provider or to one that the settings allow: a connection that names another
address would be given the credentials of this process. What a connection may say is in `connections`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import SecretStr

from offgridflow_pipeline.connectors.access import (
    Access,
    AwsAccess,
    AzureAccess,
    GcpAccess,
    HttpsAccess,
    LocalAccess,
)
from offgridflow_pipeline.connectors.errors import ConnectionConfigError, SecretMissingError
from offgridflow_pipeline.connectors.providers.library_logs import keep_secrets_out_of_logs
from offgridflow_pipeline.data_rows import data_rows

if TYPE_CHECKING:
    from offgridflow_pipeline.connectors.connections import Connection
    from offgridflow_pipeline.connectors.secrets.references import SecretResolver
    from offgridflow_pipeline.settings import Settings

_NO_SECRET = SecretStr("")
_AWS_KEYS = ("access_key_id", "secret_access_key")
_AZURE_KEYS = ("client_secret", "account_key", "sas_token")


def access_of(connection: Connection, resolver: SecretResolver, settings: Settings) -> Access:
    """How the connection reaches its source, its secret resolved.

    Raises:
        ConnectionConfigError: the connection names a host or folder that the settings do not allow.
        SecretError: the secret cannot be resolved or is not of the form that the provider needs.
    """
    keep_secrets_out_of_logs()
    _check_addresses(connection, settings)
    _check_lake(connection, settings)
    secret = resolver.resolve(connection.secret_ref, connection.id) if connection.secret_ref else _NO_SECRET
    match connection.provider:
        case "aws":
            return _aws(connection, secret)
        case "azure":
            return _azure(connection, secret)
        case "gcp":
            return _gcp(connection, secret)
        case "https":
            return HttpsAccess(secret, _https_hosts(connection), str(settings.https_ca_bundle or ""))
        case "local":
            return _local(connection, resolver.tenant, settings)


def secrets_of(access: Access) -> list[SecretStr]:
    """Every secret that the access holds, to black them out of messages."""
    values = (getattr(access, name) for name in access.__dataclass_fields__)
    return [value for value in values if isinstance(value, SecretStr) and value.get_secret_value()]


def check_places(connection: Connection, tenant: str, settings: Settings) -> None:
    """Refuse a connection that a tenant asks for by itself when it names a place that the settings do not allow.

    Stricter than `access_of`, which also serves operators: no host but the clouds' own and those of the settings,
    no local file but below their folders, in every environment.

    Raises:
        ConnectionConfigError: names the field and the cure.
    """
    _check_addresses(connection, settings, is_lenient=False)
    _check_lake(connection, settings)
    if connection.provider != "local":
        return
    roots = [Path(root) for root in _local(connection, tenant, settings).roots]
    if not any(Path(connection.uri).resolve().is_relative_to(root) for root in roots):
        raise ConnectionConfigError(
            f"Connection {connection.id!r}: uri lies outside of the folders that local bills may lie in "
            "(OFFGRIDFLOW_LOCAL_SOURCE_ROOTS). Use object storage, or ask the operator."
        )


def check_form(connection: Connection, secret: SecretStr) -> None:
    """Refuse a secret that the connection could never use, before it is stored.

    Raises:
        SecretMissingError: it is not of the form that the provider needs.
    """
    if connection.provider == "aws":
        _aws(connection, secret)
    elif connection.provider == "azure":
        _azure(connection, secret)
    elif connection.provider == "gcp":
        _gcp(connection, secret)


def _aws(connection: Connection, secret: SecretStr) -> AwsAccess:
    config = connection.aws
    keys = _members(connection, secret, _AWS_KEYS)
    if keys and len(keys) != len(_AWS_KEYS):
        raise SecretMissingError(_form(connection, '{"access_key_id": ..., "secret_access_key": ...}'))
    return AwsAccess(
        role_arn=config.role_arn,
        external_id=config.external_id,
        access_key_id=keys["access_key_id"] if keys else "",
        secret_access_key=SecretStr(keys["secret_access_key"]) if keys else _NO_SECRET,
        region=config.region,
        endpoint_url=config.endpoint_url,
    )


def _azure(connection: Connection, secret: SecretStr) -> AzureAccess:
    config = connection.azure
    text = secret.get_secret_value()
    if text and config.client_id and not text.lstrip().startswith("{"):
        found = {"client_secret": text}
    else:
        found = _members(connection, secret, _AZURE_KEYS)
    if text and len(found) != 1:
        raise SecretMissingError(
            _form(connection, '{"client_secret": ...}, {"account_key": ...} or {"sas_token": ...}')
        )
    if "client_secret" in found and not config.client_id:
        raise SecretMissingError(f"Connection {connection.id!r}: a client secret needs azure.client_id: add it.")
    return AzureAccess(
        directory_id=config.directory_id,
        client_id=config.client_id,
        account_url=config.account_url,
        management_url=config.management_url,
        **{name: SecretStr(value) for name, value in found.items()},
    )


def _gcp(connection: Connection, secret: SecretStr) -> GcpAccess:
    from offgridflow_pipeline.connectors.providers.google_credentials import trusted_credentials

    config = connection.gcp
    if secret.get_secret_value():
        try:
            trusted_credentials(secret.get_secret_value())
        except json.JSONDecodeError:
            raise SecretMissingError(
                _form(connection, "the JSON of a service account or of workload identity federation")
            ) from None
        except ValueError as error:
            raise SecretMissingError(
                f"Connection {connection.id!r}: the credentials JSON is refused: {error}."
            ) from None
    return GcpAccess(
        credentials_json=secret,
        quota_project=config.project,
        api_endpoint=config.api_endpoint,
        anonymous=config.anonymous,
    )


def _local(connection: Connection, tenant: str, settings: Settings) -> LocalAccess:
    roots = tuple(str(Path(str(root).replace("{tenant}", tenant)).resolve()) for root in settings.local_source_roots)
    if not roots and settings.environment == "production":
        raise ConnectionConfigError(
            f"Connection {connection.id!r}: production reads local files only below the folders of "
            "OFFGRIDFLOW_LOCAL_SOURCE_ROOTS, and none is named. Name it, or use object storage."
        )
    return LocalAccess(roots)


def _members(connection: Connection, secret: SecretStr, names: tuple[str, ...]) -> dict[str, str]:
    """The members of a JSON secret; no other names, only texts that are not empty."""
    text = secret.get_secret_value()
    if not text:
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if (
        not isinstance(found, dict)
        or not found
        or not all(name in names and isinstance(value, str) and value for name, value in found.items())
    ):
        raise SecretMissingError(_form(connection, "a JSON object of " + ", ".join(names)))
    return found


def _form(connection: Connection, form: str) -> str:
    return f"Connection {connection.id!r}: its secret ({connection.secret_ref}) must be {form}."


def _https_hosts(connection: Connection) -> frozenset[str]:
    return frozenset({urlsplit(connection.uri).netloc.lower(), *connection.https.allowed_hosts})


def _check_addresses(connection: Connection, settings: Settings, *, is_lenient: bool = True) -> None:
    addresses: dict[str, str] = {
        "aws.endpoint_url": connection.aws.endpoint_url,
        "azure.account_url": connection.azure.account_url,
        "azure.management_url": connection.azure.management_url,
        "gcp.api_endpoint": connection.gcp.api_endpoint,
    }
    if urlsplit(connection.uri).scheme.lower() == "https":  # a scheme may be written in capitals
        addresses["uri"] = connection.uri
    addresses |= {f"https.allowed_hosts ({host})": f"https://{host}" for host in connection.https.allowed_hosts}
    for name, address in addresses.items():
        if address and not _allowed(address, connection.provider, settings, is_lenient=is_lenient):
            raise ConnectionConfigError(
                f"Connection {connection.id!r}: {name} is a host that OffGridFlow may not send credentials to. "
                "Check it, or add the host to OFFGRIDFLOW_ALLOWED_HOSTS."
            )


def _check_lake(connection: Connection, settings: Settings) -> None:
    """The lake holds the bills of every tenant, and this process may read all of it: it is no source of any."""
    if not connection.uri:
        return
    source, lake = _parts(connection.uri), _parts(settings.lake_root)
    if all(one == other for one, other in zip(source, lake, strict=False)):
        raise ConnectionConfigError(
            f"Connection {connection.id!r}: uri lies in OffGridFlow's own lake, or around it. Name another place."
        )


def _parts(uri: str) -> tuple[str, ...]:
    """Scheme, bucket and folders of a place; of local ones with symbolic links resolved."""
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme == "file":
        return ("file", *Path(rest or uri).resolve().parts)
    return (scheme, *filter(None, rest.split("/")))


def _allowed(address: str, provider: str, settings: Settings, *, is_lenient: bool) -> bool:
    parts = urlsplit(address)
    host = (parts.hostname or "").lower()
    place = parts.netloc.rpartition("@")[2].lower()
    if place in settings.allowed_hosts:
        return True
    if parts.scheme != "http" and any(
        host == suffix or (suffix.startswith(".") and host.endswith(suffix)) for suffix in _cloud_hosts()[provider]
    ):
        return True
    return is_lenient and not settings.allowed_hosts and settings.environment != "production"


@cache
def _cloud_hosts() -> Mapping[str, Iterable[str]]:
    found: dict[str, list[str]] = {"aws": [], "azure": [], "gcp": [], "https": [], "local": []}
    for row in data_rows(__file__, "cloud_hosts.csv"):
        found[row["provider"]].append(row["suffix"])
    return found
