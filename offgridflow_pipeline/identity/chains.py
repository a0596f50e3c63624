"""Checking a hash chain: each event follows the one before it, and nothing was changed, left out or put in.

Needs no database: an auditor runs this over an export. ``hash = sha256(prev_hash || int8(seq) || body)``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from offgridflow_pipeline.database.people.audit_log import GENESIS, AuditEvent


class ChainFault(Exception):  # noqa: N818  what an audit finds is no error of ours
    """A chain is not as it was written: `tenant` and `seq` say where it begins to differ."""

    def __init__(self, tenant: str, seq: int, reason: str) -> None:
        super().__init__(f"{tenant}, event {seq}: {reason}")
        self.tenant = tenant
        self.seq = seq
        self.reason = reason


def event_hash(prev_hash: bytes, seq: int, body: str) -> bytes:
    """Hash of an event, as `ogf.audit_append` makes it."""
    return hashlib.sha256(prev_hash + seq.to_bytes(8, "big", signed=True) + body.encode()).digest()


@dataclass(slots=True)
class ChainWalk:
    """Walks a chain from its first event; holds the last one that was right."""

    tenant: str
    seq: int = 0
    hash: bytes = GENESIS

    def step(self, event: AuditEvent) -> None:
        """Take the next event.

        Raises:
            ChainFault: it does not follow the one before, or was changed.
        """
        expected = self.seq + 1
        if event.seq != expected:
            raise ChainFault(self.tenant, expected, f"it is missing; event {event.seq} follows {self.seq}.")
        if event.prev_hash != self.hash:
            raise ChainFault(self.tenant, event.seq, "it does not follow the event before it.")
        if event.hash != event_hash(event.prev_hash, event.seq, event.body):
            raise ChainFault(self.tenant, event.seq, "its body or hash was changed.")
        self.seq, self.hash = event.seq, event.hash
