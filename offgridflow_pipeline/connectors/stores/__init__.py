"""Object stores that billing files lie in: one module per store, the same three verbs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object: its URI, ETag (or size and time of a local file) and size in bytes."""

    uri: str
    etag: str
    size_bytes: int
