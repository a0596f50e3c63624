"""Two tenants with people of every role, and things of each kind in both: what access tests ask for."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from starlette.testclient import TestClient

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.identity import accounts, api_keys, sessions
from offgridflow_pipeline.identity.permissions import ROLES, key_permissions
from offgridflow_pipeline.identity.rate_stores import MemoryStore
from offgridflow_pipeline.identity.visits import Visitor
from offgridflow_pipeline.lake.objects import RawObjects
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline.sidecar.app import create_app
from offgridflow_pipeline_tests.identity.people import Unlimited, new_account
from offgridflow_pipeline_tests.inventory.ledgers import line
from offgridflow_pipeline_tests.sidecar.serving import Api

PASSWORD = "violet-lamp-river"
PEPPER = b"development-only"
ORIGIN = {"Origin": "http://127.0.0.1:8000"}
ROLE_NAMES = (*ROLES, "api_key")
_KIND_FILE = {"report_pdf": ("a.pdf", "application/pdf")}


@dataclass
class Someone:
    """A person with a session in a tenant; `cookie` is that of the portal."""

    user_id: UUID
    email: str
    tenant: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        """Headers of a request from our own pages."""
        return {"Cookie": f"ogf_session={self.token}", **ORIGIN}


@dataclass
class World:
    """The app over the databases of a test session; `values` are settings that differ from the usual ones."""

    operator: Database
    api: Database
    folder: Path
    values: dict[str, Any] = field(default_factory=dict)
    settings: Settings = field(init=False)
    client: TestClient = field(init=False)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.settings = Settings(
            _env_file=None, environment="test", data_dir=self.folder, metrics_port=0, **self.values
        )
        self.app = create_app(self.settings, self.api)
        self.app.state.services.rate_limiter = Unlimited(MemoryStore(), PEPPER)
        self.client = TestClient(self.app, follow_redirects=False, raise_server_exceptions=False)

    def tenant(self) -> str:
        """A new tenant with some published totals, and one owner who never appears."""
        slug = f"t-{uuid.uuid4().hex[:16]}"
        self.operator.tenants.add(slug, "Tenant of a test", currency="EUR")
        self.someone(slug, "owner")
        return slug

    def someone(self, tenant: str, role: str = "viewer", **session: Any) -> Someone:
        """A new person of that role, signed in with a second factor a moment ago."""
        email = f"p-{uuid.uuid4().hex[:12]}@alder.example"
        made = new_account(self.api, email, "Somebody Somewhere", PASSWORD)
        ends = datetime.now(UTC) + timedelta(days=9) if role == "auditor" else None
        accounts.add_member(self.api, made.user_id, tenant, role, expires_at=ends)
        return Someone(made.user_id, email, tenant, self.session(made.user_id, tenant, **session))

    def session(self, user_id: UUID, tenant: str, *, second_factor: bool = True, stepped_up: bool = True) -> str:
        """The token of a new session."""
        tenant_id = self.operator.tenants.get(tenant).tenant_id
        visitor = Visitor(ip="203.0.113.7", user_agent="Firefox", request_id="r", pepper=PEPPER)
        with self.api.user(user_id) as scope:
            bound = self.api.within(scope)
            token = sessions.start(bound, user_id, visitor, active_tenant=tenant_id, second_factor=second_factor)
            row = bound.sessions.list(user_id, sessions.IDLE)[0]
            if stepped_up:
                bound.sessions.step_up(user_id, row.session_id, second_factor=second_factor)
        return token

    def key(self, tenant: str) -> dict[str, str]:
        """Headers of an API key that may all a key may."""
        return {"Authorization": f"Bearer {self._key(tenant).text}"}

    def _key(self, tenant: str) -> api_keys.CreatedKey:
        with self.api.tenant(tenant) as scope:
            return api_keys.create(
                self.api.within(scope), tenant, f"key {next(self._numbers)}", key_permissions(), creator="system",
                creator_permissions=key_permissions(),
            )  # fmt: skip

    def report(self, tenant: str) -> UUID:
        """A published report of a period of its own, with one artefact whose bytes are stored."""
        period = f"{2000 + next(self._numbers) % 7000:04d}"
        path = self.folder / f"{uuid.uuid4().hex}.pdf"
        path.write_bytes(b"%PDF-1.7 " + uuid.uuid4().bytes)
        stored = RawObjects(self.settings.lake_root).put(tenant, path)
        edition = self.operator.report_register.record(
            tenant=tenant, period=period, kind="report_pdf", file_name="report.pdf", sha256=stored.sha256,
            size_bytes=stored.size_bytes, media_type="application/pdf", run_id="r",
        )  # fmt: skip
        report, _ = self.operator.reports.publish(
            tenant, period, {"report_pdf": edition}, run_id="r", prepared_by="run:r"
        )
        return report.report_id

    def approved_report(self, tenant: str) -> UUID:
        """A report that may be issued."""
        found = self.report(tenant)
        for decision in ("reviewed", "approved"):
            self.api.reports.decide(tenant, found, decision, by=f"user:{uuid.uuid4()}")
        return found

    def job(self, tenant: str) -> UUID:
        """A job that waits."""
        return self.operator.jobs.add(
            tenant, job_type="report_generation", payload={"month": "2026-09"}, requested_by="system"
        ).job_id

    def connection(self, tenant: str) -> str:
        """A cloud connection."""
        name = f"c{next(self._numbers)}"
        self.operator.connections.add(tenant, name, provider="aws", kind="cur2", uri="s3://bucket/exports")
        return name

    def invitation(self, tenant: str) -> UUID:
        """An open invitation."""
        return self.api.invitations.add(
            tenant, f"i{next(self._numbers)}@alder.example", "viewer", membership_expires_at=None,
            invited_by="system", lifetime=timedelta(days=7),
        ).invitation_id  # fmt: skip

    def upload(self, tenant: str) -> UUID:
        """An uploaded file, sent by a key."""
        content = f"date,quantity,unit,fuel,country\n2026-10-01,{next(self._numbers)},kWh,natural_gas,DE\n"
        answer = self.client.post(
            "/v1/uploads", headers={**self.key(tenant), "Idempotency-Key": uuid.uuid4().hex},
            data={"kind": "fuel"}, files={"file": ("fuel.csv", content.encode(), "text/csv")},
        )  # fmt: skip
        assert answer.status_code in (200, 201), answer.text
        return UUID(str(answer.json()["id"]).rpartition("_")[2])

    def ledger_line(self, tenant: str) -> str:
        """The id of a line in the lake."""
        found = {**line(next(self._numbers)), "tenant_id": tenant}
        published = Api(self.app, self.app.state.services.lake, self.operator, self.api, self.client)
        published.publish(tenant, [found])
        return str(found["line_id"])


def once_for_each(make: Callable[[str], Any]) -> Callable[[str], Any]:
    """The maker, asked once for each tenant: for things that no request changes."""
    known: dict[str, Any] = {}

    def made(tenant: str) -> Any:
        if tenant not in known:
            known[tenant] = make(tenant)
        return known[tenant]

    return made
