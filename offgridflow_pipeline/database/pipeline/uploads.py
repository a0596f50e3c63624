"""Uploaded activity files, as rows. Their bytes lie content-addressed in the lake; a form is judged in `inventory`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import sqlalchemy as sa

from offgridflow_pipeline.database.statements import one_at_a_time, write

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database, TenantScope

State = Literal["accepted", "refused"]


@dataclass(frozen=True, slots=True)
class Upload:
    """An uploaded file; `problems` are documents of row, column, message and cure (and sheet, in a workbook)."""

    upload_id: UUID
    kind: str
    file_name: str
    media_type: str
    sha256: str
    size_bytes: int
    row_count: int
    state: State
    problems: list[dict[str, Any]]
    uploaded_by: str
    created_at: datetime


_COLUMNS = ", ".join(Upload.__dataclass_fields__)


class Uploads:
    """Uploaded activity files."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        tenant: str,
        *,
        kind: str,
        file_name: str,
        media_type: str,
        sha256: str,
        size_bytes: int,
        row_count: int,
        state: State,
        problems: Sequence[Mapping[str, Any]],
        uploaded_by: str,
    ) -> tuple[Upload, bool]:
        """Record a file; the same bytes of the same kind are one upload. Returns it, and whether it is new.

        Raises:
            RecordError: a value has the wrong form.
        """
        with self._database.tenant(tenant) as scope:
            one_at_a_time(scope, "uploads", kind, sha256)
            before = self._same(scope, kind, sha256)
            if before is not None:
                return before, False
            row = write(
                scope,
                "uploads",
                "insert into ogf.uploads (tenant_id, kind, file_name, media_type, sha256, size_bytes, row_count, state,"
                " problems, uploaded_by) values (:tenant_id, :kind, :file_name, :media_type, :sha256, :size_bytes,"
                f" :row_count, :state, cast(:problems as jsonb), :uploaded_by) returning {_COLUMNS}",
                {
                    "tenant_id": scope.tenant_id,
                    "kind": kind,
                    "file_name": file_name,
                    "media_type": media_type,
                    "sha256": sha256,
                    "size_bytes": size_bytes,
                    "row_count": row_count,
                    "state": state,
                    "problems": json.dumps([dict(problem) for problem in problems]),
                    "uploaded_by": uploaded_by,
                },
            ).one()
        return Upload(*row), True

    def same(self, tenant: str, kind: str, sha256: str) -> Upload | None:
        """The upload of these bytes as that kind; None when there is none."""
        with self._database.tenant(tenant) as scope:
            return self._same(scope, kind, sha256)

    def get(self, tenant: str, upload_id: UUID) -> Upload | None:
        """The upload; None when the tenant has none of that id."""
        with self._database.tenant(tenant) as scope:
            row = scope.connection.execute(
                sa.text(f"select {_COLUMNS} from ogf.uploads where tenant_id = :tenant_id and upload_id = :upload_id"),
                {"tenant_id": scope.tenant_id, "upload_id": upload_id},
            ).one_or_none()
        return Upload(*row) if row else None

    def list(
        self, tenant: str, *, limit: int, after: Sequence[Any] | None = None, kind: str | None = None
    ) -> list[Upload]:
        """The newest uploads first, after the one with the sort keys `(created_at, upload_id)`."""
        created_at, upload_id = after or (None, None)
        with self._database.tenant(tenant) as scope:
            rows = scope.connection.execute(
                sa.text(
                    f"select {_COLUMNS} from ogf.uploads where tenant_id = :tenant_id"
                    " and (cast(:kind as text) is null or kind = :kind) and (cast(:upload_id as uuid) is null or"
                    " (created_at, upload_id) < (cast(:created_at as timestamptz), cast(:upload_id as uuid)))"
                    " order by created_at desc, upload_id desc limit :limit"
                ),
                {
                    "tenant_id": scope.tenant_id,
                    "kind": kind,
                    "upload_id": upload_id,
                    "created_at": created_at,
                    "limit": limit,
                },
            ).all()
        return [Upload(*row) for row in rows]

    @staticmethod
    def _same(scope: TenantScope, kind: str, sha256: str) -> Upload | None:
        row = scope.connection.execute(
            sa.text(
                f"select {_COLUMNS} from ogf.uploads where tenant_id = :tenant_id and kind = :kind and sha256 = :sha256"
            ),
            {"tenant_id": scope.tenant_id, "kind": kind, "sha256": sha256},
        ).one_or_none()
        return Upload(*row) if row else None
