"""Small `scope_totals` data whose rows say which write they came from, and how to read that back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa

from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.lake.tables import Lake

if TYPE_CHECKING:
    from offgridflow_pipeline.lake.engine import Engine

DATASET = "scope_totals"
TENANT = "acme"
DAYS = tuple(date(2026, 10, 1) + timedelta(days=n) for n in range(4))


def totals(rows_per_day: Mapping[date, int], mark: str, *, tenant: str = TENANT) -> pa.Table:
    """Rows of the given days; `mark` stands in ServiceName, line_count numbers the rows of a day from 0."""
    keys = [(day, n) for day, count in rows_per_day.items() for n in range(count)]
    values = {
        "tenant_id": [tenant] * len(keys),
        "usage_date": [day for day, _ in keys],
        "ServiceName": [mark] * len(keys),
        "line_count": [n for _, n in keys],
        "billed_cost": [Decimal("0.1")] * len(keys),
        "factor_set_sha": ["0" * 64] * len(keys),
        "method_id": ["ofg-1"] * len(keys),
    }
    schema = schemas.SCOPE_TOTALS.arrow_schema
    return pa.table([pa.array(values.get(f.name, [None] * len(keys)), f.type) for f in schema], schema=schema)


def marks(engine: Engine, lake: Lake, *, tenant: str = TENANT, version: int | None = None) -> dict[date, Counter[str]]:
    """What the table holds: day -> mark -> number of rows; fails when a row stands twice in a day."""
    stored = engine.to_arrow(
        engine.table(lake.slice(tenant, DATASET, version=version)).select("usage_date", "ServiceName", "line_count")
    ).to_pylist()
    seen = Counter((r["usage_date"], r["ServiceName"], r["line_count"]) for r in stored)
    assert not seen or max(seen.values()) == 1, f"duplicate rows: {seen.most_common(3)}"
    found: dict[date, Counter[str]] = {}
    for row in stored:
        found.setdefault(row["usage_date"], Counter())[row["ServiceName"]] += 1
    return found
