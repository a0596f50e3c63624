"""Clients of Azure Resource Manager from a connection's access: a service principal or an identity of the process.

Retries are off: `calls` decides what is tried again, from the headers that Azure really sends. Object
storage has its own module.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from offgridflow_pipeline.connectors.errors import ConnectionConfigError, DeliveryError

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

    from offgridflow_pipeline.connectors.access import AzureAccess

CONNECT_TIMEOUT_SECONDS = 10
READ_TIMEOUT_SECONDS = 120
PUBLIC_CLOUD = "https://management.azure.com"
#: Where the identities of national clouds sign in, by management host (azure-identity 1.27.0, AzureAuthorityHosts).
_AUTHORITIES = {
    "management.usgovcloudapi.net": "login.microsoftonline.us",
    "management.chinacloudapi.cn": "login.chinacloudapi.cn",
}
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def client_options(access: AzureAccess) -> dict[str, Any]:
    """Keyword arguments for a generated management client.

    A plain http endpoint is a test server of this machine: it never gets a token.

    Raises:
        ConnectionConfigError: plain http to another machine.
    """
    from azure.core.pipeline.policies import RetryPolicy

    address = management_address(access)
    options: dict[str, Any] = {
        "credential": azure_credential(access),
        "base_url": address,
        "credential_scopes": [f"{address}/.default"],
        "retry_policy": RetryPolicy.no_retries(),
        "connection_timeout": CONNECT_TIMEOUT_SECONDS,
        "read_timeout": READ_TIMEOUT_SECONDS,
    }
    parts = urlsplit(address)
    if parts.scheme != "https":
        if parts.hostname not in _LOOPBACK:
            raise ConnectionConfigError(
                f"The management endpoint {parts.scheme}://{parts.hostname} is not https: a token would be sent "
                "in the clear. Give its https address."
            )
        options["authentication_policy"] = _without_token()
    return options


def management_address(access: AzureAccess) -> str:
    """The endpoint of Azure Resource Manager, without a slash at its end."""
    return (access.management_url or PUBLIC_CLOUD).rstrip("/")


def azure_credential(access: AzureAccess) -> TokenCredential:
    """The service principal, the managed identity of `client_id`, or what the process runs as."""
    from azure.identity import ClientSecretCredential, DefaultAzureCredential, ManagedIdentityCredential

    host = urlsplit(management_address(access)).hostname or ""
    authority = {"authority": _AUTHORITIES[host]} if host in _AUTHORITIES else {}
    if secret := access.client_secret.get_secret_value():
        return ClientSecretCredential(access.directory_id, access.client_id, secret, **authority)
    if access.client_id:
        return ManagedIdentityCredential(client_id=access.client_id)
    return DefaultAzureCredential(exclude_interactive_browser_credential=True, **authority)


def body_of(operation: Callable[..., Any], *arguments: Any) -> dict[str, Any] | None:
    """The JSON body that a generated operation gets, with exact decimals; None for 204 No Content.

    Raises:
        DeliveryError: the body is no JSON object, as that of a proxy.
    """
    try:
        response = operation(*arguments, cls=lambda answered, _model, _headers: answered.http_response)
    except json.JSONDecodeError:
        raise DeliveryError("Azure answered something else than JSON (a proxy?): try it again.") from None
    return parsed(response)


def parsed(response: Any) -> dict[str, Any] | None:
    """The JSON body of a response with exact decimals; None for 204 No Content.

    Raises:
        DeliveryError: the body is no JSON object.
    """
    if response.status_code == 204:
        return None
    try:
        found = json.loads(response.text(), parse_float=Decimal)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise DeliveryError("Azure answered something else than a JSON object: try it again.")
    return found


def _without_token() -> Any:
    from azure.core.pipeline.policies import SansIOHTTPPolicy

    return SansIOHTTPPolicy()
