"""A process that replaces the same days again and again, to be killed: ``python -m ... ROOT FIRST_GENERATION``."""

from __future__ import annotations

import sys

import pyarrow as pa

from offgridflow_pipeline.lake.tables import Lake
from offgridflow_pipeline_tests.lake.totals import DATASET, DAYS, TENANT, totals

ROWS = 5_000


def main(root: str, first: int) -> None:
    """Write generation after generation, each announced on standard output when it begins."""
    lake = Lake(root)
    data = totals(dict.fromkeys(DAYS, ROWS), "")
    position = data.schema.get_field_index("ServiceName")
    generation = first
    while True:
        mark = pa.array([f"generation-{generation}"] * data.num_rows)
        print(generation, flush=True)
        lake.replace(TENANT, DATASET, DAYS, data.set_column(position, data.schema.field(position), mark), run_id="")
        generation += 1


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
