"""People of the demonstration: an owner, other roles, an auditor of all companies, an operator of the platform.

They share one password, made at random when they are first added and kept in the data folder: it opens fictional
companies on this machine and nothing else, and it is never the same on two machines.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from offgridflow_pipeline.data_rows import data_rows

if TYPE_CHECKING:
    from uuid import UUID

    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.settings import Settings

AUDIT_LASTS = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class DemoPeople:
    """Who can sign in; `password` is empty where nobody was added yet."""

    password: str

    def lines(self) -> Iterator[str]:
        """What the command line tells: everybody's address and role, and the password."""
        if not self.password:
            return
        shown: dict[str, list[str]] = {}
        for row in data_rows(__file__, "people.csv"):
            shown.setdefault(row["email"], []).append(row["role"] or row["platform_role"])
        width = max(map(len, shown))
        yield "Sign in as (demonstration only):"
        for email, roles in shown.items():
            companies = f" of {len(roles)} companies" if len(roles) > 1 else ""
            yield f"  {email:<{width}}  {roles[0]}{companies}"
        yield f"  password: {self.password}"


def demo_people(settings: Settings) -> DemoPeople:
    """The people of this installation."""
    path = _password_file(settings)
    return DemoPeople(path.read_text(encoding="utf-8").strip() if path.exists() else "")


def add_demo_people(settings: Settings, database: Database) -> DemoPeople:
    """Add whoever is missing; `database` is connected as the operator. Tenants must be there.

    Running it again changes nothing for those who are there.
    """
    from offgridflow_pipeline.identity import accounts

    password = demo_people(settings).password or _new_password(_password_file(settings))
    known = {person.email: person.user_id for person in database.users.directory()}
    sidecar = database.connected_as("ogf_api")
    try:
        for row in data_rows(__file__, "people.csv"):
            email = row["email"]
            if email not in known:
                account = accounts.add(sidecar, email, row["display_name"], locale=row["locale"], password=password)
                known[email] = account.user_id
                if row["platform_role"]:
                    accounts.set_platform_role(database, account.user_id, row["platform_role"])
            if row["tenant"]:
                _add_member(sidecar, known[email], row["tenant"], row["role"])
    finally:
        sidecar.close()
    return DemoPeople(password)


def _add_member(database: Database, user_id: UUID, tenant: str, role: str) -> None:
    from offgridflow_pipeline.identity import accounts

    if any(member.user_id == user_id for member in database.memberships.list(tenant)):
        return
    ends = datetime.now(UTC) + AUDIT_LASTS if role == "auditor" else None
    accounts.add_member(database, user_id, tenant, role, expires_at=ends)


def _password_file(settings: Settings) -> Path:
    return settings.data_dir / "demo" / "password"


def _new_password(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    password = secrets.token_urlsafe(12)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(password)
    return password
