"""Flat keys of object stores read as folders: a URI names an object or a folder, never part of a name.

Without that, ``exports/acme`` would also hold ``exports/acme-old``: another export's rows, counted twice.
"""

from __future__ import annotations

from collections.abc import Iterable

from offgridflow_pipeline.connectors.errors import DeliveryError
from offgridflow_pipeline.connectors.stores import StoredObject


def bucket_and_key(uri: str) -> tuple[str, str]:
    """Bucket and key of ``scheme://bucket/key``.

    Raises:
        DeliveryError: no bucket is named.
    """
    bucket, _, key = uri.partition("://")[2].partition("/")
    if not bucket:
        raise DeliveryError(f"{uri} names no bucket: write {uri.partition('://')[0]}://bucket/prefix.")
    return bucket, key


def lies_below(key: str, prefix: str) -> bool:
    """Whether the key is that object or lies in that folder; a key that ends with a slash is a folder's mark."""
    if key.endswith("/"):
        return False
    return prefix in ("", key) or key.startswith(prefix if prefix.endswith("/") else f"{prefix}/")


def files(uri: str, found: Iterable[StoredObject]) -> list[StoredObject]:
    """The objects by URI, without the empty ones that stand for a folder of others.

    Raises:
        DeliveryError: there is none.
    """
    ordered = sorted(found, key=lambda item: item.uri)
    folders = {item.uri[:at] for item in ordered for at, letter in enumerate(item.uri) if letter == "/"}
    kept = [item for item in ordered if item.size_bytes or item.uri not in folders]
    if not kept:
        raise DeliveryError(f"{uri} holds no object: check that it names a whole folder or a whole object.")
    return kept
