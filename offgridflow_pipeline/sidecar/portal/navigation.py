"""Sections of the portal: who sees which, and what belongs to which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from offgridflow_pipeline.identity.permissions import Permission

if TYPE_CHECKING:
    from offgridflow_pipeline.sidecar.caller import Caller


@dataclass(frozen=True, slots=True)
class Section:
    """A section: its address, the key of its name, and the permission that shows it."""

    path: str
    text: str
    permission: Permission


GROUPS: tuple[tuple[str, tuple[Section, ...]], ...] = (
    (
        "nav.footprint",
        (
            Section("/", "nav.overview", Permission.EMISSIONS_READ),
            Section("/emissions", "nav.emissions", Permission.EMISSIONS_READ),
            Section("/quality", "nav.quality", Permission.EMISSIONS_READ),
            Section("/reports", "nav.reports", Permission.REPORTS_READ),
        ),
    ),
    (
        "nav.sources",
        (
            Section("/connections", "nav.connections", Permission.CONNECTORS_READ),
            Section("/uploads", "nav.uploads", Permission.EVIDENCE_READ),
        ),
    ),
    (
        "nav.organisation",
        (
            Section("/members", "nav.members", Permission.MEMBERS_READ),
            Section("/keys", "nav.keys", Permission.KEYS_WRITE),
            Section("/audit", "nav.audit", Permission.AUDIT_READ),
        ),
    ),
)


def navigation(caller: Caller) -> list[tuple[str, list[Section]]]:
    """Groups and sections that the caller may open; empty groups are left out."""
    groups = []
    for title, sections in GROUPS:
        if seen := [section for section in sections if caller.tenant_id and caller.may(section.permission)]:
            groups.append((title, seen))
    return groups


def section_of(path: str) -> str:
    """Address of the section that a path belongs to: its first segment."""
    return "/" + path.strip("/").partition("/")[0]
