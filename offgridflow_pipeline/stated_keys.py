"""Keys as a setting states them: ``ID:BASE64`` of 32 bytes each, comma-separated, the first one current.

What a key is for is decided where it is used; keys are never repeated in a message.
"""

from __future__ import annotations

import base64
import binascii
import re

KEY_BYTES = 32
_KEY_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class StatedKeysError(ValueError):
    """The setting states no usable keys; the message says which entry and what to write."""


def stated_keys(setting: str, text: str) -> dict[str, bytes]:
    """The keys by id, in the order they are stated; empty for an empty text. `setting` is its name, for messages.

    Raises:
        StatedKeysError: an id twice or of another form, or a key that is not 32 bytes in base64.
    """
    keys: dict[str, bytes] = {}
    for number, part in enumerate(filter(None, (p.strip() for p in text.split(","))), start=1):
        key_id, _, encoded = part.partition(":")
        if not _KEY_ID.fullmatch(key_id) or key_id in keys:
            raise StatedKeysError(f"{setting}, entry {number}: write ID:BASE64, each id once, in lower case.")
        keys[key_id] = _decoded(setting, key_id, encoded)
    return keys


def _decoded(setting: str, key_id: str, encoded: str) -> bytes:
    try:
        found = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if len(found) != KEY_BYTES:
        raise StatedKeysError(
            f"{setting}: the key {key_id!r} is not {KEY_BYTES} bytes in base64 (`openssl rand -base64 32`)."
        )
    return found
