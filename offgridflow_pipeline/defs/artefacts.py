"""Report artefacts: drafts and publications, content-addressed in the lake and listed in the report register."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from offgridflow_pipeline.defs.resources import Platform

MEDIA_TYPES = {
    ".pdf": "application/pdf",
    ".xhtml": "application/xhtml+xml",
    ".xbrl": "application/xml",
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


def publish(platform: Platform, tenant: str, month: str, kinds: Sequence[str], run_id: str) -> list[Path]:
    """Mark the newest draft of each kind as published and copy it to the reports folder.

    A copy appears under its final name only when complete; the register is the record, the folder a convenience.
    """
    folder = platform.settings.data_dir / "reports" / tenant / month
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for kind in kinds:
        with load_artefact(platform, tenant, month, kind) as source:
            partial = folder / f".{source.name}.partial"
            shutil.copyfile(source, partial)
            paths.append(partial.replace(folder / source.name))
    platform.database.report_register.publish(tenant, month, list(kinds), run_id=run_id)
    return paths
