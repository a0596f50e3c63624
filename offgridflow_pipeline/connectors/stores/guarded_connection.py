"""A requests adapter that connects to public addresses only: the guard against server-side request forgery.

A name is resolved once, every address it has is judged, and the connection goes to a judged address, so that a
name server cannot answer differently the second time. TLS still checks the certificate against the name.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from offgridflow_pipeline.connectors.errors import AccessDeniedError

if TYPE_CHECKING:
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
#: RFC 6052: an IPv4 address behind a translator.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_public(address: IpAddress) -> bool:
    """Whether the address, and any IPv4 address wrapped in it, is one of the public internet."""
    if isinstance(address, ipaddress.IPv6Address):
        wrapped = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in _NAT64:
            wrapped.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        inner = [one for one in wrapped if one is not None]
        if inner:
            return all(is_public(one) for one in inner)
    return address.is_global and not address.is_multicast


def judged_address(host: str, port: int, any_address: bool) -> str:
    """An address of the host that may be connected to.

    Raises:
        AccessDeniedError: one of its addresses is not public, and the host is not listed with its port.
        OSError: the name is not resolved.
    """
    found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for text in found if not any_address else ():
        if not is_public(ipaddress.ip_address(text.partition("%")[0])):
            raise AccessDeniedError(
                f"{host} has the address {text}, which is not a public one: a private host must be listed with its "
                f"port ({host}:{port}) by the operator."
            )
    return found[0]


def guarded_adapter(any_address: Callable[[str, int], bool], retry: Retry) -> HTTPAdapter:
    """An adapter for https; `any_address` says whether host and port are admitted at private addresses too."""
    from requests.adapters import HTTPAdapter
    from urllib3.connection import HTTPSConnection
    from urllib3.connectionpool import HTTPSConnectionPool
    from urllib3.exceptions import NameResolutionError
    from urllib3.poolmanager import PoolManager

    class GuardedConnection(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            name, port = self.host, self.port
            try:
                self._dns_host = judged_address(name, port, any_address(name, port))
            except socket.gaierror as error:
                raise NameResolutionError(name, self, error) from error
            try:
                return super()._new_conn()
            finally:
                self._dns_host = name

    class GuardedPool(HTTPSConnectionPool):
        ConnectionCls = GuardedConnection

    class GuardedAdapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **options: Any) -> None:
            super().init_poolmanager(*args, **options)
            manager: PoolManager = self.poolmanager
            manager.pool_classes_by_scheme = {"https": GuardedPool}

    return GuardedAdapter(max_retries=retry)
