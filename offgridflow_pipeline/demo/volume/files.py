"""Writes the chunks of a large bill as one file and adds up what they cost. Bytes depend on the chunks alone."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from offgridflow_pipeline.demo.volume.draws import Chunk


def write_csv(path: Path, chunks: Iterator[Chunk]) -> int:
    """Write the chunks as csv.gz, quoted where they hold JSON; return their cost in cost units."""
    total = 0
    with path.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=3, fileobj=raw, mtime=0) as stream:
        for number, chunk in enumerate(chunks):
            total += chunk.cost
            text = pa.BufferOutputStream()
            style: Literal["needed", "none"] = "needed" if chunk.has_json else "none"
            options = pacsv.WriteOptions(include_header=number == 0, quoting_style=style)
            pacsv.write_csv(chunk.table, text, options)
            stream.write(text.getvalue())
    return total


def write_parquet(path: Path, chunks: Iterator[Chunk]) -> int:
    """Write the chunks as Parquet, a row group each; return their cost in cost units."""
    total, writer = 0, None
    try:
        for chunk in chunks:
            total += chunk.cost
            writer = writer or pq.ParquetWriter(path, chunk.table.schema, compression="snappy")
            writer.write_table(chunk.table)
    finally:
        if writer is not None:
            writer.close()
    return total
