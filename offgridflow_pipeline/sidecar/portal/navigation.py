"""Sections of the portal: who sees which, and what belongs to which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from offgridflow_pipeline.identity.permissions import Permission

if TYPE_CHECKING:
    from offgridflow_pipeline.sidecar.entrance.caller import Caller


@dataclass(frozen=True, slots=True)
class Section:
    """A section: its address, the key of its name, and the permission that shows it.

    `of_plans`: only where organisations subscribe to plans.
    """

    path: str
    text: str
    permission: Permission
    of_plans: bool = False


BILLING = "/billing"
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
            Section(BILLING, "nav.billing", Permission.BILLING_READ, of_plans=True),
            Section("/audit", "nav.audit", Permission.AUDIT_READ),
        ),
    ),
)


def navigation(caller: Caller) -> list[tuple[str, list[Section]]]:
    """Groups and sections that the caller may open; empty groups are left out."""
    groups = []
    for title, sections in GROUPS:
        if seen := [section for section in sections if _is_seen(section, caller)]:
            groups.append((title, seen))
    return groups


def landing(caller: Caller) -> str:
    """Where somebody begins who may not see emissions."""
    billing = next(section for _, sections in GROUPS for section in sections if section.path == BILLING)
    return BILLING if _is_seen(billing, caller) else "/settings"


def _is_seen(section: Section, caller: Caller) -> bool:
    if caller.tenant_id is None or (section.of_plans and not caller.standing.is_limited):
        return False
    return caller.may(section.permission)


def section_of(path: str) -> str:
    """Address of the section that a path belongs to: its first segment."""
    return "/" + path.strip("/").partition("/")[0]
