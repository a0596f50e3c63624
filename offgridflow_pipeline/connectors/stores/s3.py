"""Amazon S3, and stores that speak its protocol, through boto3.

A body is asked for with the ETag that was listed (If-Match), so that an export that AWS overwrites while we read
is noticed and never mixed. Clients are built from the connection's access alone; a role is assumed again before its
session ends, however long a download takes.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offgridflow_pipeline.connectors.access import AwsAccess
from offgridflow_pipeline.connectors.providers.aws_clients import aws_session
from offgridflow_pipeline.connectors.stores import StoredObject
from offgridflow_pipeline.connectors.stores.answers import Answer, Place, refusal, unreachable
from offgridflow_pipeline.connectors.stores.keys import bucket_and_key, files, lies_below
from offgridflow_pipeline.connectors.stores.transfer import (
    CHUNK_BYTES,
    InterruptedBodyError,
    Known,
    Sink,
    TransferLimits,
    changed,
    download,
    interruptible,
    small_bytes,
)

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from mypy_boto3_s3.client import S3Client

_MD5_ETAG = re.compile(r'"([0-9a-f]{32})"')
#: Amazon's texts since 2022: ... is not authorized to perform: ACTION on resource: "ARN" because ...
_STATED = re.compile(r'not authorized to perform: ([\w-]+:\w+)(?: on resource: "?([^\s"]+))?')
_CHECKSUMS = {
    "ChecksumSHA256": "sha256",
    "ChecksumSHA1": "sha1",
    "ChecksumCRC32": "crc32",
    "ChecksumCRC32C": "crc32c",
}


class S3Store:
    """Buckets as the access sees them."""

    def __init__(self, access: AwsAccess, limits: TransferLimits) -> None:
        self._access = access
        self._limits = limits
        self._client = _client(access, limits)

    def list(self, uri: str) -> list[StoredObject]:
        """The objects at the key or below the prefix; all pages."""
        bucket, prefix = bucket_and_key(uri)
        found: list[StoredObject] = []
        with self._errors("list", uri):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                found += [
                    StoredObject(f"s3://{bucket}/{item['Key']}", item["ETag"], item["Size"], item["LastModified"])
                    for item in page.get("Contents", [])
                    if lies_below(item["Key"], prefix)
                ]
        return files(uri, found)

    def read_bytes(self, item: StoredObject) -> bytes:
        """The bytes of a small object."""
        return small_bytes(item, self._limits, self._read_on)

    def download(self, item: StoredObject, target: Path) -> None:
        """Copy the object."""
        download(item, target, self._limits, self._read_on, partial(self._known, item))

    def _read_on(self, sink: Sink) -> None:
        from botocore.exceptions import (
            FlexibleChecksumError,
            IncompleteReadError,
            ReadTimeoutError,
            ResponseStreamingError,
        )

        bucket, key = bucket_and_key(sink.item.uri)
        wanted: dict[str, Any] = {"Bucket": bucket, "Key": key, "IfMatch": sink.item.etag}
        # A checksum is one of the whole object: it cannot be asked of a part.
        wanted |= {"Range": f"bytes={sink.offset}-"} if sink.offset else {"ChecksumMode": "ENABLED"}
        with self._errors("get", sink.item.uri):
            answer = self._client.get_object(**wanted)
        if answer["ETag"] != sink.item.etag:
            raise changed(sink.item)  # a store that ignores If-Match
        if not sink.offset:
            sink.expect(_digests(answer))
        elif not answer.get("ContentRange", "").startswith(f"bytes {sink.offset}-"):
            sink.restart()  # a store that ignores Range
        chunks = answer["Body"].iter_chunks(CHUNK_BYTES)
        try:
            sink.take(interruptible(chunks, IncompleteReadError, ReadTimeoutError, ResponseStreamingError))
        except FlexibleChecksumError:
            sink.verify()
            raise InterruptedBodyError("the checksum does not fit") from None
        finally:
            answer["Body"].close()

    def _known(self, item: StoredObject) -> Known:
        bucket, key = bucket_and_key(item.uri)
        with self._errors("get", item.uri):
            head = self._client.head_object(Bucket=bucket, Key=key)
        return Known(head["ETag"], _md5(bucket, head))

    @contextmanager
    def _errors(self, operation: str, uri: str) -> Iterator[None]:
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            CredentialRetrievalError,
            NoCredentialsError,
            PartialCredentialsError,
            TokenRetrievalError,
        )

        bucket, key = bucket_and_key(uri)
        place = Place(uri, bucket, _identity(self._access), key)
        try:
            yield
        except ClientError as error:
            raise refusal("aws", _answer(operation, error, self._access), place) from None
        except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, TokenRetrievalError) as error:
            raise refusal("aws", Answer(operation, ("NoCredentials",), str(error)), place) from None
        except BotoCoreError as error:
            raise unreachable(uri, error) from None


def _client(access: AwsAccess, limits: TransferLimits) -> S3Client:
    from botocore.config import Config

    config = Config(
        connect_timeout=limits.connect_seconds,
        read_timeout=limits.read_seconds,
        retries={"mode": "standard", "total_max_attempts": limits.attempts},
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"} if access.endpoint_url else {},
    )
    client: S3Client = aws_session(access, config).client(
        "s3", region_name=access.region or None, endpoint_url=access.endpoint_url or None, config=config
    )
    return client


def _digests(answer: Mapping[str, Any]) -> dict[str, bytes]:
    """Digests of the whole object; those of parts put together ("...-3") tell nothing about our bytes."""
    found = {algorithm: answer.get(name) for name, algorithm in _CHECKSUMS.items()}
    return {algorithm: b64decode(text) for algorithm, text in found.items() if text and "-" not in text}


def _md5(bucket: str, head: Mapping[str, Any]) -> dict[str, bytes]:
    """The MD5 that an ETag is, unless parts, a KMS or customer key, or a directory bucket made it something else."""
    plain = head.get("ServerSideEncryption") in (None, "AES256") and not head.get("SSECustomerAlgorithm")
    etag = _MD5_ETAG.fullmatch(head["ETag"])
    return {"md5": bytes.fromhex(etag[1])} if etag and plain and not bucket.endswith("--x-s3") else {}


def _answer(operation: str, error: ClientError, access: AwsAccess) -> Answer:
    detail = error.response.get("Error", {})
    status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
    text = str(detail.get("Message", ""))
    codes = (str(detail.get("Code", "")), status)
    if error.operation_name == "AssumeRole":
        return Answer("assume", codes, text, resource=access.role_arn)
    stated = _STATED.search(text)
    return Answer(operation, codes, text, stated[1] if stated else "", (stated[2] or "") if stated else "")


def _identity(access: AwsAccess) -> str:
    if access.role_arn:
        return f"the role {access.role_arn}"
    return "the owner of the connection's access key" if access.access_key_id else "the identity of this process"
