"""What a report says of the audit log: the newest signed anchor over the tenant's chain, and how to check it.

The anchor is taken once, when the facts are built, and is part of them: every artefact prints the same one, and the
same facts make the same bytes however many nights have passed. How anchors are made stands in `identity.anchors`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from offgridflow_pipeline.reporting.fact import Fact, FactSet, ValueType, metric

if TYPE_CHECKING:
    from offgridflow_pipeline.database.people.audit_log import AnchoredHead

#: The facts of an anchor in order of presentation; the first alone is shown where there is no anchor.
TRAIL_METRICS = (
    "audit_anchor_date", "audit_anchor_root", "audit_anchor_id", "audit_anchor_key", "audit_anchor_event",
    "audit_anchor_event_hash",
)  # fmt: skip
#: How to check the anchor: a text block of every report.
TRAIL_TEXT = "text_audit_trail"
NO_ANCHOR = "No signed anchor covers the audit log of this tenant yet"


@dataclass(frozen=True, slots=True)
class TrailAnchor:
    """A signed anchor and the event of the tenant's chain up to which it vouches.

    Attributes:
        anchor_date: day (UTC) it was made.
        anchor_id: SHA-256 of its body, hexadecimal; the next anchor holds it as `previous`.
        root: Merkle root over the heads of all chains, hexadecimal.
        key_id: id of the key that signed it, as in /.well-known/jwks.json.
        event: number of the chain's last event when it was made.
        event_hash: hash of that event, hexadecimal.
    """

    anchor_date: date
    anchor_id: str
    root: str
    key_id: str
    event: int
    event_hash: str

    @classmethod
    def of(cls, found: AnchoredHead) -> TrailAnchor:
        """The anchor as reports print it.

        Raises:
            AnchorError: the stored body is no anchor.
        """
        from offgridflow_pipeline.identity.anchors import body_of, digest_of

        anchor, head = found.anchor, found.leaf.head
        return cls(
            anchor_date=anchor.anchor_date,
            anchor_id=digest_of(anchor),
            root=str(body_of(anchor)["root"]),
            key_id=anchor.key_id,
            event=head.seq,
            event_hash=head.hash.hex(),
        )


def trail_facts(start: date, end: date, anchor: TrailAnchor | None) -> Iterator[Fact]:
    """The anchor as facts of the period; each is not available where there is no anchor."""
    values = dict.fromkeys(TRAIL_METRICS) if anchor is None else _values(anchor)
    for name, value in values.items():
        declared: ValueType = metric(name).value_type
        number = declared == "number"
        yield Fact(
            metric=name,
            period_start=start,
            period_end=end,
            value_type=declared,
            value=value,
            unit=metric(name).unit,
            decimals=0 if number and value is not None else None,
            reason=NO_ANCHOR if value is None else None,
        )


def trail_line(facts: FactSet) -> str:
    """The anchor in one line of plain text, or that there is none; facts of an earlier release don't state it."""
    stated = [fact for name in TRAIL_METRICS if (fact := facts.get(name))]
    if not stated:
        return "not stated"
    if stated[0].value is None:
        return f"none: {stated[0].reason}"
    day, root, anchor_id, key, event, event_hash = (fact.value for fact in stated)
    return f"{day}, root {root}, id {anchor_id}, signed by key {key}, up to event {event} with hash {event_hash}"


def _values(anchor: TrailAnchor) -> dict[str, str | None]:
    return {
        "audit_anchor_date": anchor.anchor_date.isoformat(),
        "audit_anchor_root": anchor.root,
        "audit_anchor_id": anchor.anchor_id,
        "audit_anchor_key": anchor.key_id,
        "audit_anchor_event": str(anchor.event),
        "audit_anchor_event_hash": anchor.event_hash,
    }
