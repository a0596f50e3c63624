"""Azure Blob Storage (and Data Lake Storage through its Blob endpoint) with azure-storage-blob.

``az://account/container/prefix``, ``abfss://container@account.dfs.core.windows.net/prefix`` and
``https://account.blob.core.windows.net/container/prefix`` name the same; objects are listed in the first form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from offgridflow_pipeline.connectors.access import AzureAccess
from offgridflow_pipeline.connectors.errors import DeliveryError
from offgridflow_pipeline.connectors.stores import StoredObject
from offgridflow_pipeline.connectors.stores.answers import Answer, Place, refusal, unreachable
from offgridflow_pipeline.connectors.stores.keys import files, lies_below
from offgridflow_pipeline.connectors.stores.transfer import (
    InterruptedBodyError,
    Known,
    Sink,
    TransferLimits,
    download,
    small_bytes,
)

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient, BlobServiceClient

#: One request of a body; the library holds it in memory.
_RANGE_BYTES = 8 * 2**20
#: Public and national clouds (azure-core CloudEndpoints): the account's address is never a host of somebody else.
_SUFFIXES = ("core.windows.net", "core.chinacloudapi.cn", "core.usgovcloudapi.net")
_ACCOUNT = r"(?P<account>[a-z0-9]{3,24})"
_CONTAINER = r"(?P<container>[a-z0-9$][a-z0-9-]{1,62})"
_KEY = r"(?:/(?P<key>.*))?"
_FORMS = (
    re.compile(rf"az://{_ACCOUNT}/{_CONTAINER}{_KEY}", re.DOTALL),
    re.compile(rf"abfss?://{_CONTAINER}@{_ACCOUNT}\.(?:dfs|blob)\.(?P<suffix>[a-z.]+){_KEY}", re.DOTALL),
    re.compile(rf"https://{_ACCOUNT}\.(?:blob|dfs)\.(?P<suffix>[a-z.]+)/{_CONTAINER}{_KEY}", re.DOTALL),
)
_AADSTS = re.compile(r"AADSTS\d+")


@dataclass(frozen=True, slots=True)
class BlobPlace:
    """Where blobs lie: the account, its cloud, the container, and the blob's name or a prefix."""

    account: str
    suffix: str
    container: str
    key: str


def blob_place(uri: str) -> BlobPlace:
    """The parts of one of the three forms.

    Raises:
        DeliveryError: another form, or a host that is not Azure's.
    """
    for form in _FORMS:
        if found := form.fullmatch(uri):
            parts = found.groupdict()
            suffix = parts.get("suffix") or _SUFFIXES[0]
            if suffix in _SUFFIXES:
                return BlobPlace(parts["account"], suffix, parts["container"], parts["key"] or "")
    raise DeliveryError(
        f"{uri} is no place in Azure Blob Storage: write az://account/container/prefix, "
        "abfss://container@account.dfs.core.windows.net/prefix or https://account.blob.core.windows.net/container."
    )


class AzureBlobStore:
    """One storage account as the access sees it."""

    def __init__(self, uri: str, access: AzureAccess, limits: TransferLimits) -> None:
        self._access = access
        self._limits = limits
        self._place = blob_place(uri)
        self._service = _service(self._place, access, limits)

    def list(self, uri: str) -> list[StoredObject]:
        """The blobs of that name or below the prefix; all pages."""
        place = self._mine(uri)
        with self._errors("list", uri):
            container = self._service.get_container_client(place.container)
            found = [
                StoredObject(
                    f"az://{place.account}/{place.container}/{blob.name}",
                    _quoted(blob.etag),
                    blob.size,
                    blob.last_modified,
                )
                for blob in container.list_blobs(name_starts_with=place.key)
                if lies_below(blob.name, place.key)
            ]
        return files(uri, found)

    def read_bytes(self, item: StoredObject) -> bytes:
        """The bytes of a small blob."""
        return small_bytes(item, self._limits, self._read_on)

    def download(self, item: StoredObject, target: Path) -> None:
        """Copy the blob."""
        download(item, target, self._limits, self._read_on, partial(self._known, item))

    def _read_on(self, sink: Sink) -> None:
        from azure.core import MatchConditions

        with self._errors("get", sink.item.uri):
            body = self._blob(sink.item).download_blob(
                offset=sink.offset,
                etag=sink.item.etag,
                match_condition=MatchConditions.IfNotModified,
                max_concurrency=1,
                decompress=False,
            )
            chunks = body.chunks()
        while True:
            with self._errors("get", sink.item.uri):
                chunk = next(chunks, b"")
            if not chunk:
                return
            sink.write(chunk)

    def _known(self, item: StoredObject) -> Known:
        with self._errors("get", item.uri):
            found = self._blob(item).get_blob_properties()
        md5 = found.content_settings.content_md5
        return Known(_quoted(found.etag), {"md5": bytes(md5)} if md5 else {})

    def _blob(self, item: StoredObject) -> BlobClient:
        place = self._mine(item.uri)
        return self._service.get_blob_client(place.container, place.key)

    def _mine(self, uri: str) -> BlobPlace:
        place = blob_place(uri)
        if place.account != self._place.account:
            raise DeliveryError(f"{uri} lies in another storage account than {self._place.account}.")
        return place

    @contextmanager
    def _errors(self, operation: str, uri: str) -> Iterator[None]:
        from azure.core.exceptions import (
            AzureError,
            ClientAuthenticationError,
            HttpResponseError,
            ServiceRequestError,
        )

        spot = blob_place(uri)
        place = Place(uri, spot.container, _identity(self._access), spot.key, spot.account)
        try:
            yield
        except ClientAuthenticationError as error:
            raise refusal("azure", _answer(operation, error), place) from None
        except HttpResponseError as error:
            if error.response is None:  # the library's own tries of a range are used up
                raise InterruptedBodyError(str(error.message)) from None
            raise refusal("azure", _answer(operation, error), place) from None
        except ServiceRequestError as error:
            raise unreachable(uri, error) from None
        except AzureError as error:
            if operation == "get":
                raise InterruptedBodyError(type(error).__name__) from None
            raise unreachable(uri, error) from None


def _service(place: BlobPlace, access: AzureAccess, limits: TransferLimits) -> BlobServiceClient:
    from azure.storage.blob import BlobServiceClient, ExponentialRetry

    pause = max(1, round(2 * limits.pause_seconds))
    return BlobServiceClient(
        _account_url(place, access),
        credential=_credential(place, access),
        retry_policy=ExponentialRetry(
            initial_backoff=pause,
            increment_base=2,
            retry_total=limits.attempts - 1,
            random_jitter_range=pause,
        ),
        connection_timeout=limits.connect_seconds,
        read_timeout=limits.read_seconds,
        max_single_get_size=_RANGE_BYTES,
        max_chunk_get_size=_RANGE_BYTES,
    )


def _account_url(place: BlobPlace, access: AzureAccess) -> str:
    if not access.account_url:
        return f"https://{place.account}.blob.{place.suffix}"
    parts = urlsplit(access.account_url)
    named = {(parts.hostname or "").partition(".")[0], parts.path.strip("/")}
    if place.account not in named:
        raise DeliveryError(
            f"The Blob endpoint {access.account_url} is not that of the storage account {place.account}: "
            "correct the connection's uri or account_url."
        )
    return access.account_url


def _credential(place: BlobPlace, access: AzureAccess) -> Any:
    from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential

    from offgridflow_pipeline.connectors.providers.azure_clients import azure_credential

    if key := access.account_key.get_secret_value():
        return AzureNamedKeyCredential(place.account, key)
    if token := access.sas_token.get_secret_value():
        return AzureSasCredential(token.removeprefix("?"))
    return azure_credential(access)


def _answer(operation: str, error: Any) -> Answer:
    code = getattr(error, "error_code", None)
    named = str(getattr(code, "value", code) or "")
    text = str(getattr(error, "message", "") or error)
    status = str(getattr(error, "status_code", None) or "")
    entra = _AADSTS.findall(text) if not status or not named else []
    if named == "AuthenticationFailed" and "not valid in the specified time frame" in text:
        operation = "expired"
    return Answer(operation, (*entra, named, status, type(error).__name__), text)


def _quoted(etag: str) -> str:
    """An ETag as headers spell it; listings leave the quotes out."""
    return '"' + etag.strip('"') + '"'


def _identity(access: AzureAccess) -> str:
    if access.account_key.get_secret_value():
        return "the connection's account key"
    if access.sas_token.get_secret_value():
        return "the connection's SAS"
    return f"the client {access.client_id}" if access.client_id else "the identity of this process"
