"""Engine binding: Ibis on an embedded DuckDB whose memory is bounded by a setting.

Opens lake slices as lazily evaluated tables and streams results out as Arrow batches. Formulas are not
here; writing partitions is `tables`. Local files are read by DuckDB itself, remote ones through
deltalake's Arrow dataset.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import ibis
import ibis.expr.operations as ops
import pyarrow as pa

from offgridflow_pipeline.lake import schemas

if TYPE_CHECKING:
    import ibis.expr.datatypes as dt
    import ibis.expr.types as ir
    import pyarrow.dataset as pds

    from offgridflow_pipeline.lake.tables import Slice

BATCH_ROWS = 32_768


class EngineError(RuntimeError):
    """The engine cannot do what was asked; the message names the table and the cure."""


class EngineMemoryError(EngineError):
    """A query needs more memory than the engine may use and cannot go on from disk."""


class Engine:
    """One embedded engine with bounded memory; use as a context manager."""

    def __init__(self, memory_mb: int, threads: int, temp_dir: Path | None = None) -> None:
        self._memory_mb = memory_mb
        self._threads = threads
        self._parent = temp_dir
        self._folder: Path | None = None
        self._connection: ibis.backends.duckdb.Backend | None = None
        self._remote: dict[str, pds.Dataset] = {}
        self._opened: dict[tuple[object, ...], ir.Table] = {}
        self._empty: set[ops.Node] = set()
        self._known_types: dict[str, dt.DataType] = {}

    def __enter__(self) -> Engine:
        self._folder = Path(tempfile.mkdtemp(prefix="ogf-engine-", dir=self._parent))
        self._connection = ibis.duckdb.connect(
            memory_limit=f"{self._memory_mb}MiB",
            threads=self._threads,
            temp_directory=str(self._folder / "spill"),
            preserve_insertion_order=False,
            # Nothing is downloaded while a bill is read; json, parquet and icu are built in.
            autoinstall_known_extensions=False,
        )
        # For cursors as well: each has settings of its own and would take the machine's time zone.
        self._connection.raw_sql("SET GLOBAL TimeZone = 'UTC'")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None
            self._remote.clear()
            self._opened.clear()
            self._empty.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    @property
    def connection(self) -> ibis.backends.duckdb.Backend:
        """The Ibis backend.

        Raises:
            EngineError: the engine is not open.
        """
        if self._connection is None:
            raise EngineError("The engine is closed: use it inside `with Engine(...)`.")
        return self._connection

    @property
    def folder(self) -> Path:
        """Folder of temporary files; removed when the engine closes."""
        if self._folder is None:
            raise EngineError("The engine is closed: use it inside `with Engine(...)`.")
        return self._folder

    def table(self, source: Slice) -> ir.Table:
        """The slice as a lazily evaluated table of the declared schema, also when it holds no rows.

        A slice never changes: asked for again, it is the same table.

        Raises:
            EngineError: the stored files lack declared columns.
        """
        key = (source.uri, source.version, source.partitions)
        if key not in self._opened:
            self._opened[key] = self._open(source)
        return self._opened[key]

    def _open(self, source: Slice) -> ir.Table:
        declared = schemas.table(source.dataset)
        files = source.files()
        if not files:
            nothing = self.register(source.dataset, declared.no_rows())
            self._empty.add(nothing.op())
            return nothing
        name = f"{source.dataset}_{uuid.uuid4().hex[:12]}"
        if source.is_local:
            kind = "DATE" if declared.grain == "day" else "VARCHAR"
            listed = ", ".join(_literal(file) for file in files)
            stored = (
                f"read_parquet([{listed}], hive_partitioning = true, "
                f"hive_types = {{'{declared.partition}': {kind}}}, union_by_name = false)"
            )
        else:
            # Read on demand, with the columns and filters of the query, not copied into the engine.
            self._remote[name] = source.dataset_reader()
            self.connection.con.register(name, self._remote[name])
            stored = f'"{name}"'
        types = self._types(stored)
        if missing := [column for column in declared.column_names if column not in types]:
            raise EngineError(
                f"{source.dataset} of {source.tenant}, version {source.version}, was stored without the columns "
                f"{', '.join(missing)}: materialise its partitions again."
            )
        if not source.is_local:
            return self._named(name, types).select(*declared.column_names)
        # The view has the declared columns: a projection over it would cost every query a node per column.
        columns = ", ".join(f'"{column}"' for column in declared.column_names)
        self.connection.raw_sql(f'CREATE VIEW "{name}" AS SELECT {columns} FROM {stored}')
        return self._named(name, {column: types[column] for column in declared.column_names})

    def _types(self, relation: str) -> dict[str, str]:
        """Columns of a relation, in order, with their types as DuckDB writes them."""
        described = self.connection.con.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
        return {row[0]: row[1] for row in described}

    def _named(self, name: str, types: Mapping[str, str]) -> ir.Table:
        """The table or view of that name; what Ibis does itself, but a type is read once and not for every column."""
        mapper = self.connection.compiler.type_mapper
        for text in types.values():
            if text not in self._known_types:
                self._known_types[text] = mapper.from_string(text)
        schema = ibis.schema({column: self._known_types[text] for column, text in types.items()})
        return ops.DatabaseTable(name, schema=schema, source=self.connection, namespace=ops.Namespace()).to_expr()

    def is_known_empty(self, table: ir.Table) -> bool:
        """Whether the table is a slice without any file; told without a query."""
        return table.op() in self._empty

    def register(self, name: str, data: pa.Table) -> ir.Table:
        """A small Arrow table as an Ibis table, copied into the engine."""
        unique = f"{name}_{uuid.uuid4().hex[:12]}".replace("-", "_")
        connection = self.connection.con
        connection.register(f"{unique}_source", data)
        connection.execute(f'CREATE TABLE "{unique}" AS SELECT * FROM "{unique}_source"')
        connection.unregister(f"{unique}_source")
        return self._named(unique, self._types(f'"{unique}"'))

    def spool(self, expr: ir.Table) -> ir.Table:
        """Evaluate once into a temporary Parquet file, so that the result can be read several times.

        The order of rows is not kept: order the result again where it matters.

        Raises:
            EngineMemoryError: the memory limit is too small for the query.
        """
        name = f"spool_{uuid.uuid4().hex[:12]}"
        file = _literal(str(self.folder / f"{name}.parquet"))
        with self._memory_explained():
            self.connection.raw_sql(
                f"COPY ({self.connection.compile(expr)}) TO {file} "
                "(FORMAT parquet, COMPRESSION lz4, ROW_GROUP_SIZE 122880)"
            )
        self.connection.raw_sql(f'CREATE VIEW "{name}" AS SELECT * FROM read_parquet({file})')
        return self._named(name, self._types(f'"{name}"'))

    def reader(self, expr: ir.Table, table: schemas.Table | None = None) -> pa.RecordBatchReader:
        """Stream the result; with `table`, in its declared column order and types.

        Raises:
            EngineError: a declared column is missing, holds a value that its type cannot, or a forbidden null.
            EngineMemoryError: the memory limit is too small for the query.
        """
        if table is None:
            return self._batches(expr)
        missing = [name for name in table.column_names if name not in expr.columns]
        if missing:
            raise EngineError(f"{table.name} lacks the declared columns {', '.join(missing)}.")
        batches = self._batches(expr.select(*table.column_names))
        declared = (_as_declared(table, batch) for batch in batches)
        return pa.RecordBatchReader.from_batches(table.arrow_schema, declared)

    def _batches(self, expr: ir.Table) -> pa.RecordBatchReader:
        # A cursor of its own, so that other queries may run while the stream is read.
        cursor = self.connection.con.cursor()
        for name, dataset in self._remote.items():
            cursor.register(name, dataset)
        with self._memory_explained():
            return cursor.sql(self.connection.compile(expr)).to_arrow_reader(BATCH_ROWS)

    def to_arrow(self, expr: ir.Table) -> pa.Table:
        """The whole (small) result as an Arrow table.

        Raises:
            EngineMemoryError: the memory limit is too small for the query.
        """
        # What `to_pyarrow` of Ibis does, which imports pandas for it: half a second of every process.
        with self._memory_explained():
            found = self.connection.con.sql(self.connection.compile(expr)).to_arrow_table()
        wanted = expr.schema().to_pyarrow()
        return found if found.schema == wanted else _cast(found, wanted)

    def has_rows(self, expr: ir.Table) -> bool:
        """Whether the table has any row; reads no more than one."""
        if self.is_known_empty(expr):
            return False
        return bool(self.to_arrow(expr.limit(1).select(expr.columns[0])).num_rows)

    @contextmanager
    def _memory_explained(self) -> Iterator[None]:
        import duckdb

        try:
            yield
        except duckdb.OutOfMemoryException as error:
            raise EngineMemoryError(
                f"The query does not fit into {self._memory_mb} MiB even with spilling to disk: "
                "set OFFGRIDFLOW_ENGINE_MEMORY_MB higher."
            ) from error


def _literal(path: str) -> str:
    return "'" + path.replace("'", "''") + "'"


def _cast(table: pa.Table, wanted: pa.Schema) -> pa.Table:
    """The table in the types of its expression: DuckDB sums integers to 128 bits, and has no type of nulls."""
    columns = [
        pa.nulls(table.num_rows) if pa.types.is_null(field.type) else table.column(field.name).cast(field.type)
        for field in wanted
    ]
    return pa.Table.from_arrays(columns, schema=wanted)


def _as_declared(table: schemas.Table, batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = []
    for declared, column in zip(table.columns, batch.columns, strict=True):
        try:
            columns.append(column if column.type == declared.type else column.cast(declared.type))
        except pa.ArrowInvalid as error:
            raise EngineError(f"{table.name}.{declared.name} does not fit its type {declared.type}: {error}") from error
        if column.null_count and not declared.nullable:
            raise EngineError(
                f"{table.name}.{declared.name} holds nulls but is declared not null: fill or drop those rows."
            )
    return pa.RecordBatch.from_arrays(columns, schema=table.arrow_schema)
