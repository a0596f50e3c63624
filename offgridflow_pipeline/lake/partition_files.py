"""Data files of a replacement: rows are checked, split by partition and written as one Parquet file each.

Memory is bounded by constants, never by the size of a partition: rows wait in temporary Arrow files and are
written one partition after the other. deltalake's own writer keeps every partition of a range open at once
(measured: 2.2 GB for 1.5 million ledger rows over 31 days). A file is invisible until `tables` commits it.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa

from offgridflow_pipeline.lake import schemas, storage

Partition = date | str

SPOOL_BYTES = 64 << 20
ROW_GROUP_BYTES = 64 << 20
ROW_GROUP_ROWS = 122_880


class LakeWriteError(ValueError):
    """Data cannot be written to the table; nothing was changed. Names the column and the cure."""


@dataclass(frozen=True, slots=True)
class PartitionFile:
    """One written file: path inside the table, partition value, size in bytes, number of rows."""

    path: str
    partition: str
    size_bytes: int
    rows: int


def partition_text(partition: Partition) -> str:
    """The partition as it stands in paths and in the log."""
    return partition.isoformat() if isinstance(partition, date) else partition


def declared_partitions(table: schemas.Table, partitions: Sequence[Partition]) -> tuple[Partition, ...]:
    """The distinct partitions, sorted, as values of the partition column; ISO text is accepted for days.

    Raises:
        LakeWriteError: one of them is not a day (daily table) or a month YYYY-MM (monthly table).
    """
    return tuple(sorted({_declared(table, partition) for partition in partitions}, key=partition_text))


def _declared(table: schemas.Table, partition: Partition) -> Partition:
    text = partition_text(partition)
    try:
        day = date.fromisoformat(text if table.grain == "day" else f"{text}-01")
    except ValueError:
        day = None
    found: Partition | None = day if table.grain == "day" else text
    if day is None or found is None or text not in {day.isoformat(), day.isoformat()[:7]}:
        form = "a day, YYYY-MM-DD" if table.grain == "day" else "a month, YYYY-MM"
        raise LakeWriteError(f"{table.name}: partition {text!r} is not {form}.")
    return found


def checked(table: schemas.Table, tenant: str, wanted: Sequence[Partition], batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch, unchanged, when its columns, tenant and partitions are the declared ones.

    Raises:
        LakeWriteError: naming the column and the cure.
    """
    import pyarrow.compute as pc

    if batch.schema.names != list(table.column_names):
        odd = sorted(set(batch.schema.names) ^ set(table.column_names))
        raise LakeWriteError(f"{table.name}: columns {', '.join(odd) or 'in another order'}: not as declared.")
    for column in table.columns:
        found = batch.schema.field(column.name).type
        if found != column.type:
            raise LakeWriteError(f"{table.name}.{column.name} is {found}, declared {column.type}: cast it.")
        if not column.nullable and batch.column(column.name).null_count:
            raise LakeWriteError(
                f"{table.name}.{column.name} holds nulls but is declared not null: fill or drop those rows."
            )
    declared = pa.RecordBatch.from_arrays(batch.columns, schema=table.arrow_schema)
    if not batch.num_rows:
        return declared
    # In Python, for it is few values: pyarrow imports pandas before it builds an array of them.
    named = pc.unique(batch.column(table.partition)).to_pylist()
    if outside := [partition for partition in named if partition not in wanted]:
        raise LakeWriteError(
            f"{table.name}: rows of {table.partition} {outside[0]} lie outside the replaced partitions: filter them."
        )
    if pc.unique(batch.column("tenant_id")).to_pylist() != [tenant]:
        raise LakeWriteError(f"{table.name}: rows of another tenant than {tenant!r} in tenant_id: filter them.")
    return declared


@contextmanager
def split_by_partition(
    table: schemas.Table, batches: Iterator[pa.RecordBatch], temp_dir: Path | None
) -> Iterator[Mapping[str, Iterator[pa.RecordBatch]]]:
    """All rows, grouped: partition text -> its batches in arrival order; partitions without rows are absent."""
    waiting: dict[str, list[pa.RecordBatch]] = {}
    spooled: dict[str, tuple[Path, Any]] = {}
    held = 0
    with ExitStack() as stack:
        for batch in batches:
            for partition, rows in _runs(table, batch):
                waiting.setdefault(partition, []).append(rows)
            held += batch.nbytes
            if held >= SPOOL_BYTES:
                if not spooled:
                    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ogf-write-", dir=temp_dir)))
                for partition, rows_of in waiting.items():
                    if partition not in spooled:
                        spooled[partition] = _open_spool(folder / f"{partition}.arrow", table, stack)
                    for rows in rows_of:
                        spooled[partition][1].write_batch(rows)
                waiting, held = {}, 0
        for _, writer in spooled.values():
            writer.close()
        yield {
            partition: _rows_of(spooled[partition][0] if partition in spooled else None, waiting.get(partition, []))
            for partition in sorted(spooled.keys() | waiting.keys())
        }


def _open_spool(path: Path, table: schemas.Table, stack: ExitStack) -> tuple[Path, Any]:
    sink = stack.enter_context(pa.OSFile(str(path), "wb"))
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    return path, stack.enter_context(pa.ipc.new_stream(sink, table.arrow_schema, options=options))


def _rows_of(path: Path | None, waiting: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    if path is not None:
        with pa.OSFile(str(path), "rb") as source:
            yield from pa.ipc.open_stream(source)
        path.unlink()
    yield from waiting


def _runs(table: schemas.Table, batch: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The batch cut into one piece per partition, rows in their order."""
    import pyarrow.compute as pc

    if not batch.num_rows:
        return
    if len(pc.unique(batch.column(table.partition))) > 1:
        batch = batch.take(pc.array_sort_indices(batch.column(table.partition)))
    runs = pc.run_end_encode(batch.column(table.partition))
    start = 0
    for end, value in zip(runs.run_ends.to_pylist(), runs.values.to_pylist(), strict=True):
        yield partition_text(value), batch.slice(start, end - start)
        start = end


def write_file(
    table: schemas.Table,
    uri: str,
    options: Mapping[str, str],
    partition: str,
    batches: Iterator[pa.RecordBatch],
) -> PartitionFile:
    """Write the rows of one partition as one new Parquet file below the table; no file stays on failure."""
    import pyarrow.parquet as pq

    filesystem, root = storage.filesystem(uri, options)
    path = f"{table.partition}={partition}/part-{uuid.uuid4()}.parquet"
    place = f"{root}/{path}"
    if storage.is_local(uri):
        filesystem.create_dir(f"{root}/{table.partition}={partition}", recursive=True)
    position = table.arrow_schema.get_field_index(table.partition)
    rows = 0
    try:
        with pq.ParquetWriter(
            place, table.arrow_schema.remove(position), filesystem=filesystem, compression="zstd",
            compression_level=1, version="2.6", store_decimal_as_integer=True,
        ) as writer:  # fmt: skip
            for group in _row_groups(batches):
                writer.write_table(group.remove_column(position), row_group_size=max(1, group.num_rows))
                rows += group.num_rows
        return PartitionFile(path, partition, filesystem.get_file_info(place).size, rows)
    except BaseException:
        remove_files(uri, options, [path])
        raise


def remove_files(uri: str, options: Mapping[str, str], paths: Sequence[str]) -> None:
    """Remove files that no version names; what cannot be removed stays invisible."""
    filesystem, root = storage.filesystem(uri, options)
    for path in paths:
        with suppress(OSError):
            filesystem.delete_file(f"{root}/{path}")


def _row_groups(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    waiting: list[pa.RecordBatch] = []
    rows = held = 0
    for batch in batches:
        waiting.append(batch)
        rows += batch.num_rows
        held += batch.nbytes
        if rows >= ROW_GROUP_ROWS or held >= ROW_GROUP_BYTES:
            yield pa.Table.from_batches(waiting)
            waiting, rows, held = [], 0, 0
    if rows:
        yield pa.Table.from_batches(waiting)
