"""Report artefacts: drafts and publications, content-addressed in the lake and listed in the report register."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from offgridflow_pipeline.defs.resources import Platform

if TYPE_CHECKING:
    from offgridflow_pipeline.database.pipeline.reports import Report

#: Lake tables that a report was built from: their versions are kept with its publication.
CITED_DATASETS = ("ghg_inventory", "report_facts", "scope_totals", "emission_lines")
MEDIA_TYPES = {
    ".pdf": "application/pdf",
    ".xhtml": "application/xhtml+xml",
    ".xbrl": "application/xml",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".zip": "application/zip",
}


class ArtefactMissingError(LookupError):
    """A report artefact that should exist was never stored."""


def store_artefact(
    platform: Platform, tenant: str, month: str, kind: str, path: Path, run_id: str
) -> dict[str, str | int]:
    """Keep the file content-addressed, list it as a draft; returns metadata for the materialisation."""
    stored = platform.raw_objects.put(tenant, path)
    platform.database.report_register.record(
        tenant=tenant,
        period=month,
        kind=kind,
        file_name=path.name,
        sha256=stored.sha256,
        size_bytes=stored.size_bytes,
        media_type=MEDIA_TYPES[path.suffix],
        status="draft",
        run_id=run_id,
    )
    return {"file": path.name, "sha256": stored.sha256, "size_bytes": stored.size_bytes}


@contextmanager
def load_artefact(platform: Platform, tenant: str, month: str, kind: str) -> Iterator[Path]:
    """Local path of the newest artefact of that kind, under its own file name.

    Raises:
        ArtefactMissingError: none was stored; materialise the named asset first.
    """
    row = platform.database.report_register.newest(tenant, month, kind)
    if row is None:
        raise ArtefactMissingError(f"No {kind} of {tenant} {month} is stored: materialise {kind} first.")
    with platform.raw_objects.local_path(tenant, row.sha256, name=row.file_name) as path:
        yield path


def publish(
    platform: Platform, tenant: str, month: str, kinds: Sequence[str], run_id: str, prepared_by: str
) -> tuple[Report, list[Path]]:
    """Make the newest draft of each kind the month's newest report, and copy them to the reports folder.

    One transaction publishes the artefacts, lists the report, raises the data version and tells the audit log; the
    same artefacts published again change nothing. A copy appears under its final name only when complete; the
    register is the record, the folder a convenience.
    """
    from offgridflow_pipeline.identity.audit import Action, record

    paths = _copy(platform, tenant, month, kinds)
    versions = {name: platform.lake.version(tenant, name) for name in CITED_DATASETS}
    with platform.database.tenant(tenant) as scope:
        bound = platform.database.within(scope)
        editions = bound.report_register.publish(tenant, month, list(kinds), run_id=run_id)
        report, is_new = bound.reports.publish(tenant, month, editions, run_id=run_id, prepared_by=prepared_by)
        if is_new:
            bound.publications.bump(tenant, "report", versions, run_id)
            record(
                bound,
                tenant,
                Action.REPORT_PUBLISHED,
                actor=f"run:{run_id}",
                target=f"rep_{report.report_id}",
                details={"period": month, "edition": report.edition, "prepared_by": prepared_by},
            )
    return report, paths


def _copy(platform: Platform, tenant: str, month: str, kinds: Sequence[str]) -> list[Path]:
    folder = platform.settings.data_dir / "reports" / tenant / month
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for kind in kinds:
        with load_artefact(platform, tenant, month, kind) as source:
            partial = folder / f".{source.name}.partial"
            shutil.copyfile(source, partial)
            paths.append(partial.replace(folder / source.name))
    return paths
