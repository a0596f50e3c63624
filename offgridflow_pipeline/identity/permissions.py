"""Roles and permissions: the table of the service reference, section 6, as data.

A permission is ``subject:action``. Deny by default: a role holds what its column of `permissions.csv` marks.
Column `api_key`: may be given to a key. Column `step_up`: asks a person to prove their identity again.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from typing import Literal

from offgridflow_pipeline.data_rows import data_rows

Role = Literal["owner", "admin", "engineer", "analyst", "auditor", "billing", "viewer"]
ROLES: tuple[Role, ...] = ("owner", "admin", "engineer", "analyst", "auditor", "billing", "viewer")
#: Roles that need a second factor before they may act.
SECOND_FACTOR_ROLES = frozenset({"owner", "admin"})


class Permission(StrEnum):
    """What a route asks for."""

    EMISSIONS_READ = "emissions:read"
    REPORTS_READ = "reports:read"
    ARTIFACT_DOWNLOAD = "artifact:download"
    EVIDENCE_READ = "evidence:read"
    UPLOADS_WRITE = "uploads:write"
    REPORTS_CREATE = "reports:create"
    REPORTS_APPROVE = "reports:approve"
    FACTORS_OVERRIDE = "factors:override"
    RUNS_READ = "runs:read"
    RUNS_LAUNCH = "runs:launch"
    CONNECTORS_READ = "connectors:read"
    CONNECTORS_WRITE = "connectors:write"
    MEMBERS_READ = "members:read"
    MEMBERS_WRITE = "members:write"
    SETTINGS_WRITE = "settings:write"
    KEYS_WRITE = "keys:write"
    AUDIT_READ = "audit:read"
    AUDIT_EXPORT = "audit:export"
    BILLING_READ = "billing:read"
    BILLING_WRITE = "billing:write"
    TENANT_DELETE = "tenant:delete"


@cache
def permissions_of(role: str) -> frozenset[Permission]:
    """Permissions of a tenant role; none for a role that does not exist."""
    return frozenset(Permission(row["permission"]) for row in _rows() if row.get(role) == "x")


@cache
def key_permissions() -> frozenset[Permission]:
    """Permissions that an API key may hold, when its creator holds them too."""
    return frozenset(Permission(row["permission"]) for row in _rows() if row["api_key"] == "x")


@cache
def step_up_permissions() -> frozenset[Permission]:
    """Permissions for which a session must have proved its person within the last minutes."""
    return frozenset(Permission(row["permission"]) for row in _rows() if row["step_up"] == "x")


@cache
def _rows() -> tuple[dict[str, str], ...]:
    return tuple(data_rows(__file__, "permissions.csv"))
