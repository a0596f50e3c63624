"""Google Cloud Storage with google-cloud-storage.

An object's mark is its generation: that of the content, unlike the ETag, which also changes with the metadata.
The library also asks for the bucket itself, in a thread of its own, for its traces; it ignores a denial.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offgridflow_pipeline.connectors.access import GcpAccess
from offgridflow_pipeline.connectors.providers.google_credentials import READ_ONLY, google_credentials
from offgridflow_pipeline.connectors.stores import StoredObject
from offgridflow_pipeline.connectors.stores.answers import Answer, Place, refusal, unreachable
from offgridflow_pipeline.connectors.stores.keys import bucket_and_key, files, lies_below
from offgridflow_pipeline.connectors.stores.transfer import (
    InterruptedBodyError,
    Known,
    Sink,
    TransferLimits,
    changed,
    download,
    small_bytes,
)

if TYPE_CHECKING:
    from google.cloud.storage import Blob, Client  # type: ignore[import-untyped]

#: Google's texts: ... does not have storage.objects.list access to ...; not the host storage.googleapis.com.
_STATED = re.compile(r"\b(storage\.(?:objects|buckets|managedFolders)\.[a-zA-Z]+|cloudkms\.[a-zA-Z]+\.[a-zA-Z]+)\b")
_LISTED = "items(name,size,generation,updated),nextPageToken"
_LONGEST_PAUSE_SECONDS = 20.0


class GcsStore:
    """Buckets as the access sees them."""

    def __init__(self, access: GcpAccess, limits: TransferLimits) -> None:
        self._access = access
        self._limits = limits
        self._client = _client(access)
        self._options = _options(limits)

    def list(self, uri: str) -> list[StoredObject]:
        """The objects at the name or below the prefix; all pages."""
        bucket, prefix = bucket_and_key(uri)
        with self._errors("list", uri):
            listed = self._client.list_blobs(self._bucket(bucket), prefix=prefix, fields=_LISTED, **self._options)
            found = [
                StoredObject(f"gs://{bucket}/{blob.name}", str(blob.generation), blob.size, blob.updated)
                for blob in listed
                if lies_below(blob.name, prefix)
            ]
        return files(uri, found)

    def read_bytes(self, item: StoredObject) -> bytes:
        """The bytes of a small object."""
        return small_bytes(item, self._limits, self._read_on)

    def download(self, item: StoredObject, target: Path) -> None:
        """Copy the object."""
        download(item, target, self._limits, self._read_on, partial(self._known, item))

    def _read_on(self, sink: Sink) -> None:
        sink.measure("crc32c")
        with self._errors("get", sink.item.uri):
            self._blob(sink.item).download_to_file(
                sink,
                start=sink.offset or None,
                raw_download=True,
                if_generation_match=int(sink.item.etag),
                checksum=None,
                **self._options,
            )

    def _known(self, item: StoredObject) -> Known:
        bucket, key = bucket_and_key(item.uri)
        with self._errors("get", item.uri):
            found = self._bucket(bucket).get_blob(key, **self._options)
        if found is None:
            raise changed(item)
        stated = {"md5": found.md5_hash, "crc32c": found.crc32c}
        return Known(str(found.generation), {name: b64decode(text) for name, text in stated.items() if text})

    def _bucket(self, name: str) -> Any:
        return self._client.bucket(name, user_project=self._access.quota_project or None)

    def _blob(self, item: StoredObject) -> Blob:
        bucket, key = bucket_and_key(item.uri)
        return self._bucket(bucket).blob(key)

    @contextmanager
    def _errors(self, operation: str, uri: str) -> Iterator[None]:
        import requests
        import urllib3
        from google.api_core.exceptions import GoogleAPICallError, RetryError
        from google.auth.exceptions import GoogleAuthError

        bucket, key = bucket_and_key(uri)
        place = Place(uri, bucket, _identity(self._access), key)
        try:
            yield
        except GoogleAPICallError as error:
            raise refusal("gcp", _answer(operation, error), place) from None
        except GoogleAuthError as error:
            raise refusal("gcp", Answer(operation, (type(error).__name__, "RefreshError"), ""), place) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, RetryError, ConnectionError) as error:
            if operation == "get":
                raise InterruptedBodyError(type(error).__name__) from None
            raise unreachable(uri, error) from None


def _client(access: GcpAccess) -> Client:
    from google.api_core.client_options import ClientOptions
    from google.cloud.storage import Client

    return Client(
        project=access.quota_project or None,
        credentials=google_credentials(access, READ_ONLY),
        client_options=ClientOptions(api_endpoint=access.api_endpoint or None),
    )


def _options(limits: TransferLimits) -> dict[str, Any]:
    from google.cloud.storage.retry import DEFAULT_RETRY  # type: ignore[import-untyped]

    budget = limits.attempts * min(_LONGEST_PAUSE_SECONDS, limits.pause_seconds * 2**limits.attempts)
    retry = DEFAULT_RETRY.with_delay(initial=limits.pause_seconds, maximum=_LONGEST_PAUSE_SECONDS).with_timeout(budget)
    return {"retry": retry, "timeout": (limits.connect_seconds, limits.read_seconds)}


def _answer(operation: str, error: Any) -> Answer:
    text = str(error.message)
    stated = _STATED.search(text)
    return Answer(operation, (str(int(error.code or 0)), type(error).__name__), text, stated[1] if stated else "")


def _identity(access: GcpAccess) -> str:
    return "the connection's service account" if access.credentials_json.get_secret_value() else "our service account"
