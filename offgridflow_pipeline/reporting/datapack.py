"""The data pack: ledger, totals and facts as CSV and Parquet, factor sources and data dictionary, in one zip.

Deterministic: rows are sorted by their keys, row groups have a fixed size and zip entries a fixed time.
Tables are streamed, so that a month of many million lines needs no more memory than a small one. A reader
needs nothing of ours to check a figure: the README inside says how the files relate.
"""

from __future__ import annotations

import csv
import io
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.reporting.artefact import replacing
from offgridflow_pipeline.reporting.cited_factors import FACTOR_COLUMNS, cited_factors
from offgridflow_pipeline.reporting.fact import fact_set
from offgridflow_pipeline.reporting.trail import trail_line
from offgridflow_pipeline.reporting.xbrl.taxonomy import ZIP_TIME, taxonomy_package

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from offgridflow_pipeline.factors.register import FactorSet
    from offgridflow_pipeline.lake.engine import Engine
    from offgridflow_pipeline.reporting.profile import ReportProfile

ROW_GROUP = 131_072
_README = """OffGridFlow data pack
entity: {name}
run: {run}
factor set: {factor_set}, sha256 {sha}
audit anchor: {anchor}

report_facts     every figure of the report; fact_id is the same in PDF, Inline XBRL, xBRL-XML and workbook
scope_totals     daily sums per account, service and region; each is a sum of emission_lines
emission_lines   the ledger, one row per billed row: measure = norm_quantity x intensity, half-even at 12 decimals
factors          every factor and coefficient the ledger cites (factor_ids, coefficient_ids), with its source;
                 values whose terms do not allow redistribution are empty, key and citation stay
data_dictionary  column, type, unit and meaning of every table
ogf-ghg.zip      the XBRL taxonomy package of the report

The audit anchor is the newest signed root over the tenant's audit log when the facts were first built. To check it:
offgridflow audit verify EXPORT --keys KEYS --root ROOT --event-hash HASH
with root and hash as stated above; the fact text_audit_trail says how to come by the export and the keys.

Tables come as CSV (UTF-8, decimal point, lists joined by blanks) and as Parquet with the same rows.
Texts are the provider's and the tenant's own, unchanged: import them as text, not as formulas.
"""


def build_datapack(
    engine: Engine,
    facts: pa.Table,
    tables: Mapping[str, ir.Table],
    factor_set: FactorSet,
    profile: ReportProfile,
    out: Path,
) -> Path:
    """Write the data pack of one report.

    Args:
        engine: runs the tables.
        facts: rows of `schemas.REPORT_FACTS`.
        tables: names of lake tables to their rows of the period; `emission_lines` must be among them.
        factor_set: the pinned factor set.
        profile: entity and run.
        out: zip to write; replaced atomically.

    Returns:
        `out`.
    """
    readme = _README.format(
        name=profile.display_name,
        run=profile.run_id,
        factor_set=profile.factor_set_name,
        sha=factor_set.sha,
        anchor=trail_line(fact_set(facts)),
    )
    with (
        replacing(out) as partial,
        tempfile.TemporaryDirectory(prefix="ogf-pack-") as folder,
        zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as pack,
    ):
        _put(pack, "README.txt", readme.encode())
        ordered = facts.sort_by("sort_order")
        _put_table(pack, Path(folder), "report_facts", ordered.schema, ordered.to_batches())
        for name, rows in tables.items():
            declared = schemas.table(name)
            keys = dict.fromkeys((declared.partition, *declared.key))
            reader = engine.reader(rows.order_by(list(keys)), declared)
            _put_table(pack, Path(folder), name, declared.arrow_schema, reader)
        factors = cited_factors(engine, tables["emission_lines"], factor_set)
        _put(pack, "factors.csv", _csv(FACTOR_COLUMNS, factors))
        _put(pack, "data_dictionary.csv", _dictionary(["report_facts", *tables]))
        _put(pack, "ogf-ghg.zip", taxonomy_package())
    return out


def _put(pack: zipfile.ZipFile, name: str, content: bytes) -> None:
    pack.writestr(_entry(name), content)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, ZIP_TIME)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


def _put_table(
    pack: zipfile.ZipFile, folder: Path, name: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]
) -> None:
    """The table as Parquet and CSV, by way of two temporary files."""
    parquet, text = folder / f"{name}.parquet", folder / f"{name}.csv"
    flat = pa.schema([pa.field(f.name, pa.string()) if pa.types.is_list(f.type) else f for f in schema])
    with pq.ParquetWriter(parquet, schema, compression="zstd") as columns, pacsv.CSVWriter(text, flat) as lines:
        for group in _groups(batches):
            columns.write_table(group, row_group_size=ROW_GROUP)
            lines.write_table(_flat(group, flat))
    for path in (parquet, text):
        entry = _entry(path.name)
        entry.file_size = path.stat().st_size
        with path.open("rb") as source, pack.open(entry, "w") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        path.unlink()


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Tables of exactly ROW_GROUP rows, the last one smaller, however the batches were cut."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        while rows >= ROW_GROUP:
            table = pa.Table.from_batches(held)
            yield table.slice(0, ROW_GROUP)
            rest = table.slice(ROW_GROUP)
            held, rows = rest.to_batches(), rest.num_rows
    if rows:
        yield pa.Table.from_batches(held)


def _flat(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Lists as text joined by blanks, because CSV has no lists."""
    columns = [pc.binary_join(column, " ") if pa.types.is_list(column.type) else column for column in rows.columns]
    return pa.Table.from_arrays(columns, schema=schema)


def _csv(names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def _dictionary(names: Sequence[str]) -> bytes:
    rows = [
        {
            "table": name,
            "column": column.name,
            "type": str(column.type),
            "unit": column.unit,
            "nullable": column.nullable,
            "meaning": column.meaning,
        }
        for name in names
        for column in schemas.table(name).columns
    ]
    return _csv(["table", "column", "type", "unit", "nullable", "meaning"], rows)
