"""`python -m benchmarks.extraction FEED BILLS LAKE`: extract and normalise a folder of bills as the assets do.

One run over all days: the extract table of the feed, then `usage_lines`, on a local lake with the default memory
setting. Prints rows and billed cost of the usage lines as JSON; the parent process measures.
"""

from __future__ import annotations

import json
import sys
from datetime import date, timedelta
from pathlib import Path

from offgridflow_pipeline.connectors.access import LocalAccess
from offgridflow_pipeline.connectors.connections import Connection
from offgridflow_pipeline.connectors.feeds import EXTRACT_TABLES, FEEDS
from offgridflow_pipeline.connectors.ingest import ingest_days
from offgridflow_pipeline.connectors.sources import open_source
from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline.lake.objects import RawObjects
from offgridflow_pipeline.lake.tables import Lake
from offgridflow_pipeline.settings import load_settings
from offgridflow_pipeline.usage.normalise import usage_lines

TENANT = "benchmark"


def main(feed: str, bills: Path, root: Path, first: str, count: int) -> None:
    """Extract, normalise, print."""
    settings = load_settings()
    lake, table = Lake(str(root)), schemas.table(EXTRACT_TABLES[FEEDS[feed].dialect])
    start = date.fromisoformat(first)
    days = [start + timedelta(days=n) for n in range(count)]
    connection = Connection(id="bench", kind=feed, uri=str(bills))
    with Engine(settings.engine_memory_mb, settings.engine_threads) as engine:
        result = ingest_days(
            engine, lake, RawObjects(str(root)), table=table, tenant=TENANT, connections=[connection],
            open_source=lambda c: open_source(c, LocalAccess()), days=days, run_id="benchmark",
        )  # fmt: skip
        if result.refused:
            raise SystemExit(str(result.refused))
        rows = usage_lines(engine.table(lake.slice(TENANT, table.name, days)), feed)
        reader = engine.reader(rows, schemas.USAGE_LINES)
        lake.replace(TENANT, schemas.USAGE_LINES.name, days, reader, run_id="benchmark")
        lines = engine.table(lake.slice(TENANT, schemas.USAGE_LINES.name, days))
        (found,) = engine.to_arrow(lines.aggregate(rows=lines.count(), cost=lines.BilledCost.sum())).to_pylist()
    print(json.dumps({"rows": found["rows"], "cost": str(found["cost"])}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
