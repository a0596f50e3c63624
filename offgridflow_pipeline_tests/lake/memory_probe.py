"""Writes ledger rows over 31 days and prints this process's peak memory in MiB: ``python -m ... ROOT ROWS``."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from offgridflow_pipeline.lake import partition_files, schemas
from offgridflow_pipeline.lake.tables import Lake

FIRST = date(2026, 10, 1)
DAYS = tuple(FIRST + timedelta(days=n) for n in range(31))
BATCH_ROWS = 4_096
#: Smaller than in production, so that the plateau is reached with few rows.
BYTES = 8 << 20


def main(root: str, rows: int) -> None:
    """Replace the 31 days by `rows` rows that arrive in no order of days."""
    partition_files.SPOOL_BYTES = partition_files.ROW_GROUP_BYTES = BYTES
    schema = schemas.EMISSION_LINES.arrow_schema
    batch = pa.RecordBatch.from_arrays([_column(field) for field in schema], schema=schema)

    def batches() -> Iterator[pa.RecordBatch]:
        for _ in range(rows // BATCH_ROWS):
            yield batch

    data = pa.RecordBatchReader.from_batches(schema, batches())
    Lake(root).replace("acme", "emission_lines", DAYS, data, run_id="probe")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def _column(field: pa.Field) -> pa.Array:
    kind = field.type
    made: dict[bool, Any] = {
        pa.types.is_decimal(kind): lambda n: Decimal(n) / 1000,
        pa.types.is_list(kind): lambda n: [f"factor-{n % 50}"],
        pa.types.is_string(kind): lambda n: f"{field.name}-{n:032d}",
        pa.types.is_date(kind): lambda n: DAYS[n * 7 % 31],
        pa.types.is_integer(kind): lambda n: n,
    }
    if field.name == "tenant_id":
        return pa.array(["acme"] * BATCH_ROWS, kind)
    return pa.array([made[True](n) for n in range(BATCH_ROWS)], kind)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
