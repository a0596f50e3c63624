"""Data versions of a tenant: a number that grows with every publication, and what each was made of.

It is raised in the transaction of the publication itself, so that no reader sees new figures under an old number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from offgridflow_pipeline.database.statements import write

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database


@dataclass(frozen=True, slots=True)
class Publication:
    """One data version: what was published, by which run, and the Delta version of each dataset it was read from."""

    data_version: int
    published_at: datetime
    what: str
    lake_versions: Mapping[str, int]
    run_id: str


_PUBLICATION = ", ".join(Publication.__dataclass_fields__)


class Publications:
    """Data versions of tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def bump(self, tenant: str, what: str, lake_versions: Mapping[str, int | None], run_id: str) -> int:
        """Raise the tenant's data version by one; returns the new one. Call it in the publication's transaction.

        Datasets without a version (tables that do not exist yet) are left out. Publications of one tenant wait for
        each other here until the transaction ends.

        Raises:
            RecordError: a value has the wrong form.
        """
        with self._database.tenant(tenant) as scope:
            version: int = scope.connection.execute(
                sa.text(
                    "insert into ogf.tenant_states as s (tenant_id, data_version) values (:tenant_id, 1)"
                    " on conflict (tenant_id) do update set data_version = s.data_version + 1"
                    " where s.tenant_id = :tenant_id returning data_version"
                ),
                {"tenant_id": scope.tenant_id},
            ).scalar_one()
            known = {name: number for name, number in lake_versions.items() if number is not None}
            write(
                scope,
                "data_versions",
                "insert into ogf.data_versions (tenant_id, data_version, what, lake_versions, run_id)"
                " values (:tenant_id, :data_version, :what, cast(:lake_versions as jsonb), :run_id)",
                {
                    "tenant_id": scope.tenant_id,
                    "data_version": version,
                    "what": what,
                    "lake_versions": json.dumps(known, sort_keys=True),
                    "run_id": run_id,
                },
            )
        return version

    def current(self, tenant: str) -> int:
        """The newest data version; 0 before the first publication."""
        with self._database.tenant(tenant) as scope:
            found: int | None = scope.connection.execute(
                sa.text("select data_version from ogf.tenant_states where tenant_id = :tenant_id"),
                {"tenant_id": scope.tenant_id},
            ).scalar_one_or_none()
        return found or 0

    def as_of(self, tenant: str, what: str, data_version: int) -> Publication | None:
        """The newest publication of that kind up to and with a data version; None when there was none yet."""
        with self._database.tenant(tenant) as scope:
            row = scope.connection.execute(
                sa.text(
                    f"select {_PUBLICATION} from ogf.data_versions where tenant_id = :tenant_id and what = :what"
                    " and data_version <= :data_version order by data_version desc limit 1"
                ),
                {"tenant_id": scope.tenant_id, "what": what, "data_version": data_version},
            ).one_or_none()
        return Publication(*row) if row else None
