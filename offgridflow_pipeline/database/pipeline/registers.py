"""What the pipeline records: billing objects read and report artefacts. Tenants are named by slug.

Every statement names the tenant and runs in a tenant transaction: the predicate is the rule, row level
security the backstop. Schemas are in ``sql/migrations``; other tables have `tenants` and `serving`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import sqlalchemy as sa

from offgridflow_pipeline.database.engine import TenantScope
from offgridflow_pipeline.database.statements import RecordError, one_at_a_time, write

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database


class SourceSnapshots:
    """Billing objects that were read."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, *, tenant: str, run_id: str, snapshot: Mapping[str, Any]) -> UUID:
        """Record one object read; returns the snapshot's id.

        `snapshot` holds connection_id, feed, uri, etag, sha256, size_bytes, row_count, source_version and
        billing_period (a date or None). The same bytes of the same delivery are one snapshot: reading
        them again only notes the newer run.

        Raises:
            RecordError: a value is missing or has the wrong form.
        """
        with self._database.tenant(tenant) as scope:
            found: UUID = write(
                scope,
                "source_snapshots",
                "insert into ogf.source_snapshots as s (tenant_id, connection_id, feed, uri, etag, sha256,"
                " size_bytes, row_count, version, billing_period, run_id, last_run_id) values (:tenant_id,"
                " :connection_id, :feed, :uri, coalesce(:etag, ''), :sha256, :size_bytes, :row_count,"
                " coalesce(:source_version, ''), :billing_period, :run_id, :run_id)"
                " on conflict (tenant_id, connection_id, sha256, version)"
                " do update set last_run_id = excluded.last_run_id, last_read_at = clock_timestamp()"
                " where s.tenant_id = :tenant_id returning snapshot_id",
                {**snapshot, "tenant_id": scope.tenant_id, "run_id": run_id},
            ).scalar_one()
        return found

    def list(self, tenant: str, connection_id: str | None = None) -> list[dict[str, Any]]:
        """Snapshots of the tenant (of one connection), in the order they were first read."""
        with self._database.tenant(tenant) as scope:
            rows = scope.connection.execute(
                sa.text(
                    "select * from ogf.source_snapshots where tenant_id = :tenant_id"
                    " and (cast(:connection_id as text) is null or connection_id = :connection_id)"
                    " order by retrieved_at, snapshot_id"
                ),
                {"tenant_id": scope.tenant_id, "connection_id": connection_id},
            ).mappings()
            return [dict(row) for row in rows]

    def latest(self, tenant: str, connection_id: str, billing_period: date | None) -> dict[str, Any] | None:
        """The snapshot of that connection and billing period that was read last; None when there is none."""
        with self._database.tenant(tenant) as scope:
            row = scope.connection.execute(
                sa.text(
                    "select * from ogf.source_snapshots where tenant_id = :tenant_id"
                    " and connection_id = :connection_id"
                    " and billing_period is not distinct from :billing_period"
                    " order by last_read_at desc limit 1"
                ),
                {
                    "tenant_id": scope.tenant_id,
                    "connection_id": connection_id,
                    "billing_period": billing_period,
                },
            ).mappings().one_or_none()  # fmt: skip
            return dict(row) if row else None


@dataclass(frozen=True, slots=True)
class Artefact:
    """One edition of a report artefact; `size_bytes` of the file, `validation` as the validator gave it."""

    period: str
    kind: str
    edition: int
    file_name: str
    sha256: str
    size_bytes: int
    media_type: str
    status: Literal["draft", "published", "superseded"]
    validation: Mapping[str, Any] | None
    factor_set_sha: str | None
    run_id: str
    created_at: datetime
    published_at: datetime | None


_ARTEFACT = ", ".join(Artefact.__dataclass_fields__)


class ReportRegister:
    """Report artefacts in editions: drafts until published, one published per tenant, period and kind."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(
        self,
        *,
        tenant: str,
        period: str,
        kind: str,
        file_name: str,
        sha256: str,
        size_bytes: int,
        media_type: str,
        run_id: str,
        status: Literal["draft"] = "draft",
        validation: Mapping[str, Any] | None = None,
        factor_set_sha: str | None = None,
    ) -> int:
        """List a stored artefact as a draft; returns its edition. Re-recording the newest bytes adds none.

        Raises:
            RecordError: a value has the wrong form.
        """
        values = {
            "period": period,
            "kind": kind,
            "file_name": file_name,
            "sha256": sha256,
            "size_bytes": size_bytes,
            "media_type": media_type,
            "status": status,
            "validation": None if validation is None else json.dumps(validation, sort_keys=True),
            "factor_set_sha": factor_set_sha,
            "run_id": run_id,
        }
        with self._database.tenant(tenant) as scope:
            one_at_a_time(scope, "report_register", period, kind)
            newest = self._newest(scope, period, kind)
            if newest is not None and (newest.sha256, newest.file_name) == (sha256, file_name):
                return newest.edition
            edition = newest.edition + 1 if newest else 1
            write(
                scope,
                "report_register",
                "insert into ogf.report_register (tenant_id, period, kind, edition, file_name, sha256,"
                " size_bytes, media_type, status, validation, factor_set_sha, run_id)"
                " values (:tenant_id, :period, :kind, :edition, :file_name, :sha256, :size_bytes,"
                " :media_type, :status, cast(:validation as jsonb), :factor_set_sha, :run_id)",
                {**values, "tenant_id": scope.tenant_id, "edition": edition},
            )
        return edition

    def newest(self, tenant: str, period: str, kind: str) -> Artefact | None:
        """The newest edition, published or not; None when there is none."""
        with self._database.tenant(tenant) as scope:
            return self._newest(scope, period, kind)

    def published(self, tenant: str, period: str, kind: str) -> Artefact | None:
        """The published edition; None when there is none."""
        return next((a for a in self.list(tenant, period) if a.kind == kind and a.status == "published"), None)

    def list(self, tenant: str, period: str | None = None) -> list[Artefact]:
        """All editions of the period (None: of every period), by period, kind and edition."""
        with self._database.tenant(tenant) as scope:
            rows = scope.connection.execute(
                sa.text(
                    f"select {_ARTEFACT} from ogf.report_register where tenant_id = :tenant_id"
                    " and (cast(:period as text) is null or period = :period) order by period, kind, edition"
                ),
                {"tenant_id": scope.tenant_id, "period": period},
            ).all()
        return [Artefact(*row) for row in rows]

    def validated(self, tenant: str, period: str, kind: str, sha256: str, validation: Mapping[str, Any]) -> None:
        """Note what the validator said of the artefact with these bytes."""
        with self._database.tenant(tenant) as scope:
            scope.connection.execute(
                sa.text(
                    "update ogf.report_register set validation = cast(:validation as jsonb)"
                    " where tenant_id = :tenant_id and period = :period and kind = :kind and sha256 = :sha256"
                ),
                {
                    "tenant_id": scope.tenant_id,
                    "period": period,
                    "kind": kind,
                    "sha256": sha256,
                    "validation": json.dumps(validation, sort_keys=True),
                },
            )

    def publish(self, tenant: str, period: str, kinds: Sequence[str], *, run_id: str) -> dict[str, int]:
        """Publish the newest edition of every kind, superseding the published ones; all or none.

        Returns kind -> published edition.

        Raises:
            RecordError: a kind has no edition yet.
        """
        editions: dict[str, int] = {}
        with self._database.tenant(tenant) as scope:
            for kind in sorted(kinds):
                one_at_a_time(scope, "report_register", period, kind)
            for kind in kinds:
                newest = self._newest(scope, period, kind)
                if newest is None:
                    raise RecordError(
                        f"report_register: {kind} of {tenant} {period} is not there: materialise it first."
                    )
                editions[kind] = newest.edition
                if newest.status == "published":
                    continue
                key = {"tenant_id": scope.tenant_id, "period": period, "kind": kind}
                scope.connection.execute(
                    sa.text(
                        "update ogf.report_register set status = 'superseded' where tenant_id = :tenant_id"
                        " and period = :period and kind = :kind and status = 'published'"
                    ),
                    key,
                )
                scope.connection.execute(
                    sa.text(
                        "update ogf.report_register set status = 'published',"
                        " published_at = clock_timestamp(), published_by = :run_id"
                        " where tenant_id = :tenant_id and period = :period and kind = :kind"
                        " and edition = :edition"
                    ),
                    {**key, "run_id": run_id, "edition": newest.edition},
                )
        return editions

    @staticmethod
    def _newest(scope: TenantScope, period: str, kind: str) -> Artefact | None:
        row = scope.connection.execute(
            sa.text(
                f"select {_ARTEFACT} from ogf.report_register where tenant_id = :tenant_id"
                " and period = :period and kind = :kind order by edition desc limit 1"
            ),
            {"tenant_id": scope.tenant_id, "period": period, "kind": kind},
        ).one_or_none()
        return Artefact(*row) if row else None
