"""Export of a chain as JSON Lines, and the check of an export, which needs neither database nor network.

Lines: one ``chain`` (whose it is, and its head), every ``anchor`` that covers the chain with its proof, every ``event``
in order, one ``end`` with the SHA-256 of the lines before it. A body is a JSON string in its line: the text is what was
hashed. Public keys are not part of an export: who checks takes them from elsewhere (/.well-known/jwks.json, or the
operator's own settings).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from offgridflow_pipeline.database.engine import PLATFORM_SLUG
from offgridflow_pipeline.database.people.audit_log import Anchor, AnchorLeaf, AuditEvent, ChainHead
from offgridflow_pipeline.identity import anchors
from offgridflow_pipeline.identity.audit import canonical_json
from offgridflow_pipeline.identity.chains import ChainFault, ChainWalk

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.identity.signing import PublicKeys

FORMAT = 1
EVENTS_PER_READ = 2_000


class ExportError(ValueError):
    """A file is no export of an audit chain; names the line."""


@dataclass(frozen=True, slots=True)
class PrintedAnchor:
    """What a report prints of its anchor, hexadecimal.

    Attributes:
        root: Merkle root; all chains of that day share it, so alone it tells nothing of whose report it is.
        event_hash: hash of the last event of the tenant's chain that the anchor covers; no other chain has it.
    """

    root: str
    event_hash: str


@dataclass(frozen=True, slots=True)
class Verified:
    """A chain that is as it was written; events after `anchored_seq` no anchor covers yet."""

    tenant: str
    events: int
    head_hash: bytes
    anchors: int
    anchored_seq: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """A chain with what its check found: `verified`, or `fault` with tenant and event."""

    tenant: str
    verified: Verified | None
    fault: str = ""


def check_chains(
    database: Database,
    keys: PublicKeys,
    *,
    tenant: str | None = None,
    kept: Mapping[str, Mapping[str, str]] | None = None,
    printed: PrintedAnchor | None = None,
) -> Iterator[Verdict]:
    """Check the chain of one tenant, or those of the platform and of every tenant there ever was; see `verify`."""
    slugs = (
        [tenant] if tenant is not None else [PLATFORM_SLUG, *(row.slug for row in database.tenants.list(inactive=True))]
    )
    for slug in slugs:
        try:
            yield Verdict(slug, verify(export_lines(database, slug), keys, kept, printed))
        except (ChainFault, ExportError) as error:
            yield Verdict(slug, None, str(error))


def export_lines(database: Database, tenant: str) -> Iterator[bytes]:
    """The tenant's chain as lines, each ending in a line feed.

    Reads in parts, each in a transaction of its own: events are only ever added, so the whole stays one state.
    """
    digest = hashlib.sha256()
    events = 0
    for fields in _fields(database, tenant):
        line = _line(fields)
        digest.update(line)
        events += fields["type"] == "event"
        yield line
    yield _line({"type": "end", "events": events, "sha256": digest.hexdigest()})


def _fields(database: Database, tenant: str) -> Iterator[dict[str, str | int]]:
    covering = database.audit_log.anchors(tenant)  # before the head: none of them saw a later event
    head = database.audit_log.head(tenant)
    yield {
        "type": "chain",
        "format": FORMAT,
        "tenant": tenant,
        "tenant_id": str(head.tenant_id),
        "seq": head.seq,
        "hash": head.hash.hex(),
        "exported_at": datetime.now(UTC).isoformat(),
    }
    for found in covering:
        yield {"type": "anchor", **anchors.document(found.anchor), **_leaf_fields(found.leaf)}
    after = 0
    # Where events are missing the export shows what is there: the check tells which.
    while after < head.seq and (
        events := database.audit_log.events(tenant, after=after, limit=min(EVENTS_PER_READ, head.seq - after))
    ):
        for event in events:
            yield {
                "type": "event",
                "seq": event.seq,
                "body": event.body,
                "prev_hash": event.prev_hash.hex(),
                "hash": event.hash.hex(),
            }
        after = events[-1].seq


def verify(
    lines: Iterable[bytes],
    keys: PublicKeys,
    kept: Mapping[str, Mapping[str, str]] | None = None,
    printed: PrintedAnchor | None = None,
) -> Verified:
    """Check an export: every event, the head, every anchor, and that the lines are whole.

    `kept` are anchors from write-once storage by date (`anchors.kept`): the export must hold the same. `printed` is
    of a report: one of the anchors must have this root and cover this chain up to this event. The name in the first
    line is a label that no hash covers; what ties an export to a report is `printed`.

    Raises:
        ChainFault: the first event that is not as it was written, or that an anchor contradicts; none is `printed`.
        ExportError: the lines are no complete export.
    """
    reader = enumerate(lines, start=1)
    number, first = next(reader, (1, b""))
    try:
        check = _parsed(lambda: _Check.begun(_record(first), keys, kept or {}, printed))
    except _UnreadableError:
        raise ExportError("line 1: no export of an audit chain in a format that this release knows.") from None
    check.digest.update(first)
    for number, line in reader:
        if check.ended:
            raise ExportError(f"line {number}: something follows the end.")
        try:
            check.take(_record(line), number)
        except _UnreadableError:
            raise ChainFault(check.walk.tenant, check.walk.seq + 1, f"line {number} cannot be read.") from None
        check.digest.update(line)
    if not check.ended:
        raise ExportError(f"line {number}: the export breaks off after event {check.walk.seq}.")
    return check.result()


class _UnreadableError(Exception):
    """A line is not what an export writes."""


@dataclass(slots=True)
class _Check:
    """The check of one export, line by line."""

    stated: ChainHead
    exported_at: datetime
    keys: PublicKeys
    kept: Mapping[str, Mapping[str, str]]
    printed: PrintedAnchor | None
    walk: ChainWalk
    covering: list[tuple[Anchor, AnchorLeaf]] = field(default_factory=list)
    hashes: dict[int, bytes | None] = field(default_factory=dict)
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    ended: bool = False

    @classmethod
    def begun(
        cls,
        first: dict[str, Any],
        keys: PublicKeys,
        kept: Mapping[str, Mapping[str, str]],
        printed: PrintedAnchor | None,
    ) -> _Check:
        if (first["type"], first["format"]) != ("chain", FORMAT):
            raise ValueError("another format")
        stated = ChainHead(UUID(first["tenant_id"]), int(first["seq"]), bytes.fromhex(first["hash"]))
        exported_at = datetime.fromisoformat(first["exported_at"])
        return cls(stated, exported_at, keys, kept, printed, ChainWalk(str(first["tenant"])))

    def take(self, record: dict[str, Any], number: int) -> None:
        match record.get("type"):
            case "anchor" if not self.walk.seq:
                anchor, leaf = _parsed(lambda: _anchor(record, self.stated.tenant_id))
                self.covering.append((anchor, leaf))
                self.hashes[leaf.head.seq] = None
            case "event":
                self._event(_parsed(lambda: _event(record)))
            case "end":
                self._check_head()
                self._check_anchors()
                if (record.get("sha256"), record.get("events")) != (self.digest.hexdigest(), self.walk.seq):
                    raise ExportError(f"line {number}: the lines before are not those that were exported.")
                self.ended = True
            case _:
                raise _UnreadableError

    def result(self) -> Verified:
        anchored = max((leaf.head.seq for _, leaf in self.covering), default=0)
        return Verified(self.walk.tenant, self.walk.seq, self.walk.hash, len(self.covering), anchored)

    def _event(self, event: AuditEvent) -> None:
        self.walk.step(event)
        if event.seq in self.hashes:
            self.hashes[event.seq] = event.hash

    def _check_head(self) -> None:
        walk, stated = self.walk, self.stated
        if walk.seq < stated.seq:
            raise ChainFault(walk.tenant, walk.seq + 1, f"it is missing; the chain ends at event {stated.seq}.")
        if (walk.seq, walk.hash) != (stated.seq, stated.hash):
            raise ChainFault(walk.tenant, walk.seq, "it is not the head that is stored beside the chain.")

    def _check_anchors(self) -> None:
        before: Anchor | None = None
        for anchor, leaf in self.covering:
            try:
                anchors.check(anchor, leaf, self.keys)
                self._check_place(anchor, leaf, before)
            except anchors.AnchorError as error:
                raise ChainFault(
                    self.walk.tenant, leaf.head.seq, f"the anchor of {anchor.anchor_date} does not hold: {error}"
                ) from error
            before = anchor
        self._check_kept()
        self._check_printed()

    def _check_place(self, anchor: Anchor, leaf: AnchorLeaf, before: Anchor | None) -> None:
        if before is not None and anchors.body_of(anchor)["previous"] != anchors.digest_of(before):
            raise anchors.AnchorError("it does not follow the anchor before it.")
        kept = self.kept.get(anchor.anchor_date.isoformat())
        if kept is not None and kept != anchors.document(anchor):
            raise anchors.AnchorError("it is not the one that was kept in write-once storage.")
        found = self.hashes.get(leaf.head.seq)
        if found is None:
            raise anchors.AnchorError("it saw this event, which is missing.")
        if found != leaf.head.hash:
            raise anchors.AnchorError("it saw another event here: the chain was rewritten up to this one.")

    def _check_kept(self) -> None:
        """Every kept anchor between the first one of this chain and the export covers it: heads never leave again."""
        covered = sorted(anchor.anchor_date.isoformat() for anchor, _ in self.covering)
        until = self.exported_at.date().isoformat()
        missing = [day for day in sorted(self.kept) if covered and covered[0] < day < until and day not in covered]
        if missing:
            raise ChainFault(self.walk.tenant, self.walk.seq, f"the kept anchor of {missing[0]} is not in the export.")

    def _check_printed(self) -> None:
        """An anchor is the printed one, and saw this chain: its leaf was checked against root and events before."""
        if self.printed is None:
            return
        root, event_hash = self.printed.root, self.printed.event_hash
        heads = [leaf.head for anchor, leaf in self.covering if anchors.body_of(anchor)["root"] == root]
        if not heads:
            raise ChainFault(self.walk.tenant, self.walk.seq, f"no anchor up to this one has the root {root}.")
        if event_hash not in {head.hash.hex() for head in heads}:
            reason = f"the anchor with the root {root} covers this event, not the one with hash {event_hash}: "
            raise ChainFault(self.walk.tenant, heads[0].seq, f"{reason}the report is of another log.")


_Parsed = TypeVar("_Parsed")


def _parsed(read: Callable[[], _Parsed]) -> _Parsed:
    try:
        return read()
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _UnreadableError from None


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise _UnreadableError
    return record


def _event(record: dict[str, Any]) -> AuditEvent:
    record["body"].encode()  # JSON can escape what is no text
    return AuditEvent(
        int(record["seq"]), record["body"], bytes.fromhex(record["prev_hash"]), bytes.fromhex(record["hash"])
    )


def _leaf_fields(leaf: AnchorLeaf) -> dict[str, str | int]:
    return {"seq": leaf.head.seq, "hash": leaf.head.hash.hex(), "proof": leaf.proof}


def _anchor(record: dict[str, Any], tenant_id: UUID) -> tuple[Anchor, AnchorLeaf]:
    anchor = Anchor(
        date.fromisoformat(record["date"]), record["body"], record["key_id"], bytes.fromhex(record["signature"])
    )
    seq = int(record["seq"])
    if not 0 < seq < 2**63:
        raise ValueError("no sequence number")
    head = ChainHead(tenant_id, seq, bytes.fromhex(record["hash"]))
    return anchor, AnchorLeaf(head, record["proof"])


def _line(fields: Mapping[str, str | int]) -> bytes:
    return canonical_json(fields).encode() + b"\n"
