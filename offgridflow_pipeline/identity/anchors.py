"""Anchors: once a day the heads of all chains under one Merkle root, signed with Ed25519.

A superuser could rewrite a whole chain so that it fits itself; it would no longer fit an anchor that was signed
before, and whose copy lies in write-once storage. Tree and prefixes are those of RFC 6962, section 2.1: leaves are
``0x00 || tenant id || int8(seq) || head hash``, ordered by tenant id. The proof of a chain tells no other tenant.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from offgridflow_pipeline.database.people.audit_log import Anchor, AnchorLeaf, ChainHead
from offgridflow_pipeline.identity.audit import canonical_json

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.identity.signing import PublicKeys, SigningRing

#: In front of what is signed: the signature of an anchor can be taken for nothing else.
_DOMAIN = b"offgridflow audit anchor 1\n"
Side = Literal["left", "right"]
Proof = tuple[tuple[Side, bytes], ...]


class AnchorError(ValueError):
    """An anchor does not hold or cannot be kept; the message says why."""


@dataclass(frozen=True, slots=True)
class Made:
    """An anchor and whether it was made now or stood already."""

    anchor: Anchor
    new: bool


def make(database: Database, ring: SigningRing, *, now: datetime | None = None) -> Made:
    """The anchor of today (UTC): made and signed unless it stands already."""
    at = now or datetime.now(UTC)

    def sign(heads: Sequence[ChainHead], before: Anchor | None) -> tuple[Anchor, list[AnchorLeaf]]:
        root, proofs = merkle_tree([_leaf_hash(head) for head in heads])
        body = canonical_json(
            {
                "at": at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
                "date": at.date().isoformat(),
                "format": 1,
                "previous": digest_of(before) if before else "",
                "root": root.hex(),
            }
        )
        anchor = Anchor(at.date(), body, ring.current, ring.sign(_DOMAIN + body.encode()))
        return anchor, [
            AnchorLeaf(head, _proof_text(proof)) for head, proof in zip(heads, proofs, strict=True) if head.seq
        ]

    return Made(*database.audit_log.anchor(at.date(), sign))


def check(anchor: Anchor, leaf: AnchorLeaf, keys: PublicKeys) -> None:
    """Pass when the anchor is signed by one of the keys and holds the leaf.

    Raises:
        AnchorError: unknown key, wrong signature, or a proof that leads to another root.
    """
    if anchor.key_id not in keys.keys:
        raise AnchorError(f"it is signed by the key {anchor.key_id!r}, which is not among the given ones.")
    if not keys.verifies(anchor.key_id, _DOMAIN + anchor.body.encode(), anchor.signature):
        raise AnchorError("its signature is not that of its body.")
    body = body_of(anchor)
    if body["date"] != anchor.anchor_date.isoformat():
        raise AnchorError("it is signed for another day.")
    if root_of(_leaf_hash(leaf.head), _proof(leaf.proof)).hex() != body["root"]:
        raise AnchorError("its root was not made over this head of the chain.")


def body_of(anchor: Anchor) -> Mapping[str, Any]:
    """What an anchor says.

    Raises:
        AnchorError: the body is no anchor.
    """
    try:
        body = json.loads(anchor.body)
    except ValueError:
        body = None
    if not isinstance(body, dict) or body.get("format") != 1 or not {"date", "previous", "root"} <= body.keys():
        raise AnchorError("its body is no anchor that this release knows.")
    return body


def digest_of(anchor: Anchor) -> str:
    """SHA-256 of the body in hexadecimal: the next anchor holds it as `previous`."""
    return hashlib.sha256(anchor.body.encode()).hexdigest()


def merkle_tree(leaves: Sequence[bytes]) -> tuple[bytes, list[Proof]]:
    """Root over leaf hashes, and for each leaf the siblings from it up to the root."""
    if not leaves:
        return hashlib.sha256(b"").digest(), []
    proofs: list[list[tuple[Side, bytes]]] = [[] for _ in leaves]
    level = [(leaf, [number]) for number, leaf in enumerate(leaves)]
    while len(level) > 1:
        joined = []
        for (left, below_left), (right, below_right) in zip(level[::2], level[1::2], strict=False):
            for number in below_left:
                proofs[number].append(("right", right))
            for number in below_right:
                proofs[number].append(("left", left))
            joined.append((_node_hash(left, right), below_left + below_right))
        level = joined + level[len(joined) * 2 :]
    return level[0][0], [tuple(proof) for proof in proofs]


def root_of(leaf_hash: bytes, proof: Proof) -> bytes:
    """The root that the proof leads to from a leaf hash."""
    found = leaf_hash
    for side, sibling in proof:
        found = _node_hash(sibling, found) if side == "left" else _node_hash(found, sibling)
    return found


def document(anchor: Anchor) -> dict[str, str]:
    """The anchor as JSON fields: for exports and for write-once storage."""
    return {
        "date": anchor.anchor_date.isoformat(),
        "body": anchor.body,
        "key_id": anchor.key_id,
        "signature": anchor.signature.hex(),
    }


def keep(anchor: Anchor, folder: str, storage_options: Mapping[str, str]) -> str:
    """Write the anchor as ``<folder>/<date>.json``, once; returns where it lies.

    Raises:
        AnchorError: another anchor of that day lies there.
    """
    from offgridflow_pipeline.lake import storage

    place = f"{storage.normal_root(folder)}/{anchor.anchor_date.isoformat()}.json"
    filesystem, path = storage.filesystem(place, storage_options)
    content = canonical_json(document(anchor)).encode()
    if filesystem.get_file_info(path).is_file:
        with filesystem.open_input_stream(path) as kept:
            if kept.read() != content:
                raise AnchorError(f"another anchor of {anchor.anchor_date} lies at {place}: find out which is true.")
        return place
    if storage.is_local(place):
        filesystem.create_dir(path.rsplit("/", 1)[0], recursive=True)
    with filesystem.open_output_stream(path) as sink:
        sink.write(content)
    return place


def kept(folder: str, storage_options: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The anchors that `keep` wrote, by date.

    Raises:
        AnchorError: a file of the folder is no anchor.
    """
    from pyarrow import fs

    from offgridflow_pipeline.lake import storage

    filesystem, path = storage.filesystem(storage.normal_root(folder), storage_options)
    found: dict[str, dict[str, str]] = {}
    for info in filesystem.get_file_info(fs.FileSelector(path)):
        if info.extension != "json":
            continue
        with filesystem.open_input_stream(info.path) as source:
            try:
                document = json.loads(source.read())
                found[document["date"]] = document
            except (ValueError, KeyError, TypeError):
                raise AnchorError(f"{info.path} is no anchor.") from None
    return found


def _leaf_hash(head: ChainHead) -> bytes:
    return hashlib.sha256(b"\0" + head.tenant_id.bytes + head.seq.to_bytes(8, "big", signed=True) + head.hash).digest()


def _node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def _proof_text(proof: Proof) -> str:
    return canonical_json([[side, sibling.hex()] for side, sibling in proof])


def _proof(text: str) -> Proof:
    try:
        return tuple((side, bytes.fromhex(sibling)) for side, sibling in json.loads(text))
    except (ValueError, TypeError):
        raise AnchorError("its proof cannot be read.") from None
