"""Listing and downloading billing objects from a local folder or an ``s3://`` prefix.

S3 goes through boto3 (endpoint and credentials from its own environment variables). A download names the
ETag it expects, so that an object overwritten while we read is noticed.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offgridflow_pipeline.connectors.errors import DeliveryError
from offgridflow_pipeline.connectors.stores import StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


def list_objects(uri: str) -> list[StoredObject]:
    """All objects at a file, folder or prefix, sorted by URI.

    Raises:
        DeliveryError: nothing exists there.
    """
    if uri.startswith("s3://"):
        return _list_s3(uri)
    path = Path(uri)
    if path.is_file():
        return [_local(path)]
    if not path.is_dir():
        raise DeliveryError(f"{uri} does not exist: check the connection's uri.")
    return sorted(
        (_local(p) for p in path.rglob("*") if p.is_file() and not p.name.startswith((".", "_"))),
        key=lambda o: o.uri,
    )


def read_bytes(item: StoredObject) -> bytes:
    """The bytes of a small object such as a manifest."""
    if not item.uri.startswith("s3://"):
        return Path(item.uri).read_bytes()
    bucket, key = _split(item.uri)
    return _client().get_object(Bucket=bucket, Key=key)["Body"].read()


def download(item: StoredObject, target: Path) -> None:
    """Copy the object to a local file.

    Raises:
        DeliveryError: the object changed or vanished since it was listed.
    """
    if not item.uri.startswith("s3://"):
        try:
            shutil.copyfile(item.uri, target)
        except FileNotFoundError:
            raise DeliveryError(f"{item.uri} vanished while it was read: run again.") from None
        if _local(Path(item.uri)).etag != item.etag:
            raise DeliveryError(f"{item.uri} changed while it was read: run again.")
        return
    from botocore.exceptions import ClientError

    bucket, key = _split(item.uri)
    try:
        body = _client().get_object(Bucket=bucket, Key=key, IfMatch=item.etag)["Body"]
        with target.open("wb") as sink:
            for chunk in body.iter_chunks(1 << 20):
                sink.write(chunk)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in ("PreconditionFailed", "412", "NoSuchKey"):
            raise DeliveryError(f"{item.uri} changed while it was read: run again.") from None
        raise


def _local(path: Path) -> StoredObject:
    info = path.stat()
    return StoredObject(str(path), f"{info.st_size}-{info.st_mtime_ns}", info.st_size)


def _list_s3(uri: str) -> list[StoredObject]:
    bucket, prefix = _split(uri)
    found: list[StoredObject] = []
    for page in _client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        found += [
            StoredObject(f"s3://{bucket}/{item['Key']}", item["ETag"], item["Size"])
            for item in page.get("Contents", [])
            if not item["Key"].endswith("/")
        ]
    if not found:
        raise DeliveryError(f"{uri} holds no object: check bucket, prefix and the right s3:ListBucket.")
    return sorted(found, key=lambda o: o.uri)


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def _client() -> S3Client:
    import boto3
    from botocore.config import Config

    options: Any = Config(retries={"mode": "standard", "max_attempts": 5})
    return boto3.client("s3", config=options)
