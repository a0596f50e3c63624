"""Delta tables of a tenant: atomic replacement of partitions, and slices pinned to a version.

One table per tenant and dataset at ``<root>/<tenant>/<dataset>``. A replacement is one commit, made only
while its read version is still the newest: a retry, a kill or two writers leave the old or the new
partitions, never a mixture, never a duplicate. Versions are kept for ever: reports cite them.
"""

from __future__ import annotations

import json
import random
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from offgridflow_pipeline.lake import schemas, storage
from offgridflow_pipeline.lake.partition_files import (
    LakeWriteError,
    Partition,
    PartitionFile,
    checked,
    declared_partitions,
    partition_text,
    remove_files,
    split_by_partition,
    write_file,
)

if TYPE_CHECKING:
    import pyarrow.dataset as pds

__all__ = ["Commit", "Lake", "LakeConflictError", "LakeReadError", "LakeWriteError", "Partition", "Slice"]

COMMIT_ATTEMPTS = 40
LONGEST_PAUSE_SECONDS = 1.0
_TENANT = re.compile(r"[a-z0-9](-?[a-z0-9]){1,62}")
_FOR_EVER = "interval 36500 days"
#: Log entries and files of old versions are never cleaned up by a writer.
_RETENTION = {
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": _FOR_EVER,
    "delta.deletedFileRetentionDuration": _FOR_EVER,
}


class LakeReadError(LookupError):
    """A table or version cannot be read; names it and the cure."""


class LakeConflictError(RuntimeError):
    """Other writers kept committing to the table; nothing was changed. Run again."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One version of a table: when it was committed (UTC) and by which run (None: the empty first version)."""

    version: int
    committed_at: datetime
    run_id: str | None


@dataclass(frozen=True)
class Slice:
    """Partitions of one tenant's table at one version; nothing is read until an engine opens it."""

    tenant: str
    dataset: str
    uri: str
    version: int | None
    partitions: tuple[Partition, ...] | None
    storage_options: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def is_local(self) -> bool:
        """Whether the files lie on this machine."""
        return storage.is_local(self.uri)

    def files(self) -> list[str]:
        """Data files of the slice, sorted: absolute paths or URIs.

        Raises:
            LakeReadError: the version does not exist.
        """
        if self.version is None or self.partitions == ():
            return []
        delta = _open(self.uri, self.storage_options, self.version)
        return sorted(f"{self.uri}/{path}" for path in _paths(delta, self._predicate()))

    def dataset_reader(self) -> pds.Dataset:
        """The slice as an Arrow dataset that reads on demand, for lakes on an object store."""
        from pyarrow import fs

        delta = _open(self.uri, self.storage_options, self.version)
        filesystem, root = storage.filesystem(self.uri, self.storage_options)
        return delta.to_pyarrow_dataset(
            file_pruning_predicate=self._predicate(), filesystem=fs.SubTreeFileSystem(root, filesystem)
        )

    def _predicate(self) -> list[tuple[str, str, list[str]]] | None:
        """Filters on partition columns select files exactly (deltalake, `file_uris`)."""
        if self.partitions is None:
            return None
        return [(schemas.table(self.dataset).partition, "in", [partition_text(p) for p in self.partitions])]


class Lake:
    """The Delta lake at `root` (a local folder or an object-store URI)."""

    def __init__(
        self, root: str, storage_options: Mapping[str, str] | None = None, temp_dir: Path | None = None
    ) -> None:
        self._root = storage.normal_root(root)
        self._options = dict(storage_options or {})
        self._temp_dir = temp_dir

    def uri(self, tenant: str, dataset: str) -> str:
        """Where the tenant's table lies.

        Raises:
            LakeWriteError: the tenant is not a valid slug, so that no path can leave the tenant's prefix.
        """
        if not _TENANT.fullmatch(tenant):
            raise LakeWriteError(f"Tenant {tenant!r} is not a valid slug (letters, digits, single dashes).")
        return f"{self._root}/{tenant}/{schemas.table(dataset).name}"

    def version(self, tenant: str, dataset: str) -> int | None:
        """Newest version of the table; None when it does not exist."""
        delta = self._find(tenant, dataset)
        return None if delta is None else int(delta.version())

    def stored_schema(self, tenant: str, dataset: str) -> pa.Schema | None:
        """Arrow schema of the stored table; None when it does not exist."""
        delta = self._find(tenant, dataset)
        return None if delta is None else pa.schema(delta.schema().to_arrow())

    def slice(
        self,
        tenant: str,
        dataset: str,
        partitions: Sequence[Partition] | None = None,
        version: int | None = None,
    ) -> Slice:
        """Partitions (all when None) of the table, pinned to `version` or to the newest."""
        return Slice(
            tenant,
            dataset,
            self.uri(tenant, dataset),
            self.version(tenant, dataset) if version is None else version,
            None if partitions is None else declared_partitions(schemas.table(dataset), partitions),
            self._options,
        )

    def partitions(self, tenant: str, dataset: str, version: int | None = None) -> list[str]:
        """Partition values that hold rows in `version` or the newest, sorted, as text."""
        delta = self._find(tenant, dataset, version)
        column = schemas.table(dataset).partition
        return [] if delta is None else sorted({str(p[column]) for p in delta.partitions()})

    def history(self, tenant: str, dataset: str) -> list[Commit]:
        """Every version of the table, oldest first; empty when it does not exist."""
        delta = self._find(tenant, dataset)
        found = [] if delta is None else delta.history()
        return sorted(
            (
                Commit(
                    int(entry["version"]),
                    datetime.fromtimestamp(entry["timestamp"] / 1000, UTC),
                    entry.get("dagster_run_id"),
                )
                for entry in found
            ),
            key=lambda commit: commit.version,
        )

    def replace(
        self,
        tenant: str,
        dataset: str,
        partitions: Sequence[Partition],
        data: pa.RecordBatchReader | pa.Table,
        *,
        run_id: str,
    ) -> int:
        """Replace exactly these partitions by `data` in one commit; empty data empties them.

        Returns the new version. The data is read once and may be larger than memory.

        Raises:
            LakeWriteError: schema, tenant or partition of a row is wrong, or the table is stored with other columns.
            LakeConflictError: other writers won every attempt. In every case of failure the table is unchanged.
        """
        table = schemas.table(dataset)
        uri = self.uri(tenant, dataset)
        wanted = declared_partitions(table, partitions)
        if not wanted:
            raise LakeWriteError(f"{dataset}: no partitions named, nothing to replace.")
        _refuse_other_columns(table, self._open_or_create(table, uri))
        rows = (checked(table, tenant, wanted, batch) for batch in _batches(data))
        written: list[PartitionFile] = []
        try:
            for file in self._write(table, uri, wanted, rows):
                written.append(file)  # one by one: what is written must be known when the next one fails
        except BaseException:
            remove_files(uri, self._options, [file.path for file in written])
            raise
        # From here on no file may be removed: an error does not prove that the commit failed.
        return self._commit(table, uri, [partition_text(p) for p in wanted], written, run_id)

    def _write(
        self, table: schemas.Table, uri: str, wanted: tuple[Partition, ...], rows: Iterator[pa.RecordBatch]
    ) -> Iterator[PartitionFile]:
        if len(wanted) == 1:
            file = write_file(table, uri, self._options, partition_text(wanted[0]), rows)
            if file.rows:
                yield file
            else:
                remove_files(uri, self._options, [file.path])
            return
        with split_by_partition(table, rows, self._temp_dir) as by_partition:
            for partition, batches in by_partition.items():
                yield write_file(table, uri, self._options, partition, batches)

    def _commit(
        self, table: schemas.Table, uri: str, wanted: list[str], written: list[PartitionFile], run_id: str
    ) -> int:
        """Commit on top of the newest version, as often as another writer was faster."""
        from deltalake import CommitProperties
        from deltalake.exceptions import CommitFailedError

        write_id = str(uuid.uuid4())
        properties = CommitProperties(
            # No retries inside deltalake: without them it refuses unless our read version is the newest. Its own
            # conflict check lets two writers add the same new partition through this call.
            max_commit_retries=0,
            custom_metadata={"dagster_run_id": run_id, "offgridflow_write_id": write_id},
        )
        for attempt in range(COMMIT_ATTEMPTS):
            delta = _open(uri, self._options, None)
            if attempt and (version := _version_of(delta, write_id)) is not None:
                return version  # the commit had arrived although its answer was an error
            try:
                delta.create_write_transaction(
                    [_add_action(table, file) for file in written], "overwrite", delta.schema(), [table.partition],
                    [(table.partition, "in", wanted)], commit_properties=properties,
                )  # fmt: skip
            except CommitFailedError:
                time.sleep(min(LONGEST_PAUSE_SECONDS, 0.02 * 1.5**attempt) * random.uniform(0.5, 1.5))  # noqa: S311
                continue
            return int(delta.version()) + 1
        raise LakeConflictError(f"{uri}: other writers committed first {COMMIT_ATTEMPTS} times; run again.")

    def _open_or_create(self, table: schemas.Table, uri: str) -> Any:
        from deltalake import CommitProperties, DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError

        with suppress(TableNotFoundError):
            return _open(uri, self._options, None)
        try:
            DeltaTable.create(
                uri, table.arrow_schema, mode="ignore", partition_by=[table.partition], name=table.name,
                description=table.meaning, configuration=_RETENTION, storage_options=self._options,
                commit_properties=CommitProperties(max_commit_retries=0),
            )  # fmt: skip
        except DeltaError:
            if not DeltaTable.is_deltatable(uri, self._options):  # else another writer created it meanwhile
                raise
        return _open(uri, self._options, None)

    def _find(self, tenant: str, dataset: str, version: int | None = None) -> Any:
        from deltalake.exceptions import TableNotFoundError

        try:
            return _open(self.uri(tenant, dataset), self._options, version)
        except TableNotFoundError:
            return None


def _open(uri: str, options: Mapping[str, str], version: int | None) -> Any:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError, TableNotFoundError

    try:
        return DeltaTable(uri, version=version, storage_options=dict(options))
    except TableNotFoundError:
        raise
    except DeltaError as error:
        if version is None:
            raise
        raise LakeReadError(
            f"Version {version} of {uri} cannot be read: ask for an existing version. ({error})"
        ) from error


def _paths(delta: Any, predicate: list[tuple[str, str, list[str]]] | None) -> list[str]:
    """Paths of the data files inside the table: always ``<column>=<partition>/<file>``, nothing to unescape."""
    return ["/".join(uri.split("/")[-2:]) for uri in delta.file_uris(file_pruning_predicate=predicate)]


def _refuse_other_columns(table: schemas.Table, delta: Any) -> None:
    declared = {column.name: column.type for column in table.columns}
    stored = {f.name: f.type for f in pa.schema(delta.schema().to_arrow())}
    odd = sorted(name for name in declared.keys() | stored.keys() if declared.get(name) != stored.get(name))
    if odd:
        raise LakeWriteError(
            f"{table.name} at {delta.table_uri} is stored with other columns than declared ({', '.join(odd)}): "
            "move the old table aside and materialise its partitions again."
        )


def _version_of(delta: Any, write_id: str) -> int | None:
    for entry in delta.history(COMMIT_ATTEMPTS):
        if entry.get("offgridflow_write_id") == write_id:
            return int(entry["version"])
    return None


def _add_action(table: schemas.Table, file: PartitionFile) -> Any:
    from deltalake.transaction import AddAction

    return AddAction(
        path=file.path,
        size=file.size_bytes,
        partition_values={table.partition: file.partition},
        modification_time=time.time_ns() // 1_000_000,
        data_change=True,
        stats=json.dumps({"numRecords": file.rows}),
    )


def _batches(data: pa.RecordBatchReader | pa.Table) -> Iterator[pa.RecordBatch]:
    # Without rows, so that the schema is checked also when there are none.
    yield pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in data.schema], schema=data.schema)
    yield from data.to_batches() if isinstance(data, pa.Table) else data
