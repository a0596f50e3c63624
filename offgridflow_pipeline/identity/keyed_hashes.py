"""Keyed hashes (HMAC-SHA256 under the pepper of the installation) of what must not stand in the database itself.

The purpose is part of what is hashed: a token of one kind never passes for one of another.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Literal

Purpose = Literal["session", "password_reset", "invitation", "recovery_code", "sign_in_address", "network", "challenge"]
TOKEN_BYTES = 32


def keyed_hash(purpose: Purpose, text: str, pepper: bytes) -> bytes:
    """32 bytes that stand for the text."""
    return hmac.digest(pepper, f"offgridflow {purpose}\0{text}".encode("utf-8", "surrogatepass"), "sha256")


def network_hash(network: str, pepper: bytes) -> str:
    """A client's network as the audit log and sessions keep it: equal networks look equal, no more."""
    return keyed_hash("network", network, pepper).hex()[:32]


def new_token() -> str:
    """256 random bits as text for cookies and links."""
    return secrets.token_urlsafe(TOKEN_BYTES)
