"""Published reports behind the API: a desk of one tenant with people, files and what the audit log tells."""

from __future__ import annotations

import hashlib
import json
import uuid
from pathlib import Path
from typing import Any

from offgridflow_pipeline.database.pipeline.reports import Report
from offgridflow_pipeline.identity.permissions import permissions_of
from offgridflow_pipeline.lake.objects import RawObjects
from offgridflow_pipeline.sidecar.services import Services
from offgridflow_pipeline_tests.sidecar.serving import Api

PERIOD = "2026-09"
CONTENT = bytes(range(256)) * 4096  # 1 MiB: several chunks


class ReportDesk:
    """One tenant of the API and its reports."""

    def __init__(self, api: Api, tenant: str, folder: Path) -> None:
        self.api, self.tenant, self.folder = api, tenant, folder
        self.services: Services = api.app.state.services
        self.objects = RawObjects(self.services.settings.lake_root)
        self.tenant_id = api.pipeline.tenants.get(tenant).tenant_id

    def person(self, role: str = "owner", user_id: uuid.UUID | None = None) -> dict[str, str]:
        """Headers of a person with the permissions of the role."""
        token = self.services.token_keys.issue(
            tenant_id=self.tenant_id,
            tenant=self.tenant,
            principal=f"user:{user_id or uuid.uuid4()}",
            permissions=permissions_of(role),
        )
        return {"Authorization": f"Bearer {token}"}

    def publish(self, content: bytes = CONTENT, *, name: str = "report.pdf", prepared_by: str = "run:r") -> Report:
        """Store the file and publish it as the period's report, as the pipeline does."""
        self.folder.mkdir(exist_ok=True)
        path = self.folder / "file"
        path.write_bytes(content)
        stored = self.objects.put(self.tenant, path)
        self.api.pipeline.report_register.record(
            tenant=self.tenant, period=PERIOD, kind="report_pdf", file_name=name, sha256=stored.sha256,
            size_bytes=stored.size_bytes, media_type="application/pdf", run_id="r",
        )  # fmt: skip
        with self.api.pipeline.tenant(self.tenant) as scope:
            bound = self.api.pipeline.within(scope)
            editions = bound.report_register.publish(self.tenant, PERIOD, ["report_pdf"], run_id="r")
            report, _ = bound.reports.publish(self.tenant, PERIOD, editions, run_id="r", prepared_by=prepared_by)
        return report

    def place(self, content: bytes = CONTENT) -> Path:
        """Where the object of these bytes lies."""
        sha = hashlib.sha256(content).hexdigest()
        return Path(self.services.settings.lake_root) / self.tenant / "raw/sha256" / sha[:2] / sha

    def events(self, action: str) -> list[dict[str, Any]]:
        """Events of the action, oldest first."""
        bodies = [json.loads(e.body) for e in self.api.pipeline.audit_log.events(self.tenant, after=0, limit=500)]
        return [body for body in bodies if body["action"] == action]
