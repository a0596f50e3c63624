"""The audit chains and their anchors, as rows. What an event says is decided in `identity.audit`.

Events are appended by a definer function alone, and triggers refuse every change: this room can neither alter nor
remove one. The chain of the platform itself is called ``platform``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING
from uuid import UUID

import sqlalchemy as sa

from offgridflow_pipeline.database.engine import PLATFORM, PLATFORM_SLUG, TenantScope, enter

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database

GENESIS = bytes(32)
_ANCHOR_LOCK = 7_301_006


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One event of a chain, as stored; `hash` covers `prev_hash`, `seq` and `body`."""

    seq: int
    body: str
    prev_hash: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The last event of a chain; an empty chain has number 0 and the hash of 32 zero bytes."""

    tenant_id: UUID
    seq: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Anchor:
    """A signed statement about the heads of all chains of a day; `body` is canonical JSON."""

    anchor_date: date
    body: str
    key_id: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class AnchorLeaf:
    """The head of one chain in an anchor; `proof` is JSON and leads from it to the root."""

    head: ChainHead
    proof: str


@dataclass(frozen=True, slots=True)
class AnchoredHead:
    """An anchor with the part that concerns one chain."""

    anchor: Anchor
    leaf: AnchorLeaf


_EVENT = ", ".join(AuditEvent.__dataclass_fields__)
_ANCHOR = ", ".join(f"a.{name}" for name in Anchor.__dataclass_fields__)


class AuditLog:
    """The audit chains and their anchors."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, tenant: str, body: str) -> int:
        """Append the event to the tenant's chain; returns its number. Two at once wait for each other."""
        with self._scope(tenant) as scope:
            number: int = scope.connection.scalar(sa.text("select ogf.audit_append(:body)"), {"body": body})
        return number

    def head(self, tenant: str) -> ChainHead:
        """The last event of the chain."""
        with self._scope(tenant) as scope:
            row = scope.connection.execute(
                sa.text("select seq, hash from ogf.audit_heads where tenant_id = :tenant_id"),
                {"tenant_id": scope.tenant_id},
            ).one_or_none()
        return ChainHead(scope.tenant_id, *row) if row else ChainHead(scope.tenant_id, 0, GENESIS)

    def events(self, tenant: str, *, after: int, limit: int) -> list[AuditEvent]:
        """Events with greater numbers than `after`, oldest first."""
        with self._scope(tenant) as scope:
            rows = scope.connection.execute(
                sa.text(
                    f"select {_EVENT} from ogf.audit_events where tenant_id = :tenant_id and seq > :after"
                    " order by seq limit :limit"
                ),
                {"tenant_id": scope.tenant_id, "after": after, "limit": limit},
            ).all()
        return [AuditEvent(*row) for row in rows]

    def newest(
        self,
        tenant: str,
        *,
        before: int | None = None,
        limit: int,
        action: str | None = None,
        actor: str | None = None,
    ) -> list[AuditEvent]:
        """Events newest first, with smaller numbers than `before`; of one action and one actor where given."""
        conditions = ["tenant_id = :tenant_id"]
        conditions += ["seq < :before"] if before is not None else []
        conditions += ["action = :action"] if action is not None else []
        conditions += ["actor = :actor"] if actor is not None else []
        with self._scope(tenant) as scope:
            rows = scope.connection.execute(
                sa.text(
                    f"select {_EVENT} from ogf.audit_events where {' and '.join(conditions)}"
                    " order by seq desc limit :limit"
                ),
                {
                    "tenant_id": scope.tenant_id,
                    "before": before,
                    "limit": limit,
                    "action": action,
                    "actor": actor,
                },
            ).all()
        return [AuditEvent(*row) for row in rows]

    def anchors(self, tenant: str) -> list[AnchoredHead]:
        """The anchors that cover the chain, oldest first."""
        return self._anchored(tenant, "order by a.anchor_date")

    def newest_anchor(self, tenant: str) -> AnchoredHead | None:
        """The last anchor that covers the chain; None before the first."""
        return next(iter(self._anchored(tenant, "order by a.anchor_date desc limit 1")), None)

    def anchor(
        self, day: date, make: Callable[[Sequence[ChainHead], Anchor | None], tuple[Anchor, Sequence[AnchorLeaf]]]
    ) -> tuple[Anchor, bool]:
        """The anchor of the day and whether it is new; `make` gets all heads and the anchor before.

        Anchor and leaves are one transaction; two at once make one anchor.
        """
        with self._database.application_engine.begin() as connection:
            connection.execute(sa.text("select pg_advisory_xact_lock(:lock)"), {"lock": _ANCHOR_LOCK})
            last = connection.execute(
                sa.text(f"select {_ANCHOR} from ogf.audit_anchors a order by a.anchor_date desc limit 1")
            ).one_or_none()
            before = Anchor(*last) if last else None
            if before is not None and before.anchor_date >= day:
                return before, False
            rows = connection.execute(sa.text("select tenant_id, seq, hash from ogf.audit_chain_heads()")).all()
            anchor, leaves = make([ChainHead(*row) for row in rows], before)
            _insert_anchor(connection, anchor, leaves)
        return anchor, True

    def _anchored(self, tenant: str, order: str) -> list[AnchoredHead]:
        with self._scope(tenant) as scope:
            rows = scope.connection.execute(
                sa.text(
                    f"select {_ANCHOR}, l.seq, l.hash, l.proof from ogf.audit_anchor_leaves l"
                    " join ogf.audit_anchors a on a.anchor_date = l.anchor_date"
                    f" where l.tenant_id = :tenant_id {order}"
                ),
                {"tenant_id": scope.tenant_id},
            ).all()
        return [
            AnchoredHead(Anchor(*row[:4]), AnchorLeaf(ChainHead(scope.tenant_id, row.seq, row.hash), row.proof))
            for row in rows
        ]

    @contextmanager
    def _scope(self, tenant: str) -> Iterator[TenantScope]:
        chosen = self._database.platform() if tenant == PLATFORM_SLUG else self._database.tenant(tenant)
        with chosen as scope:
            yield scope


def _insert_anchor(connection: sa.Connection, anchor: Anchor, leaves: Sequence[AnchorLeaf]) -> None:
    """Each leaf is written as its own tenant: row level security holds for the anchor too."""
    enter(connection, PLATFORM)
    connection.execute(
        sa.text(
            "insert into ogf.audit_anchors (anchor_date, body, key_id, signature)"
            " values (:anchor_date, :body, :key_id, :signature)"
        ),
        {name: getattr(anchor, name) for name in Anchor.__dataclass_fields__},
    )
    for leaf in leaves:
        enter(connection, leaf.head.tenant_id)
        connection.execute(
            sa.text(
                "insert into ogf.audit_anchor_leaves (tenant_id, anchor_date, seq, hash, proof)"
                " values (:tenant_id, :anchor_date, :seq, :hash, :proof)"
            ),
            {
                "tenant_id": leaf.head.tenant_id,
                "anchor_date": anchor.anchor_date,
                "seq": leaf.head.seq,
                "hash": leaf.head.hash,
                "proof": leaf.proof,
            },
        )
