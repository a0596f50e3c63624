"""The three-cloud demonstration through extraction, staging and classification: complete, and mostly classified."""

from __future__ import annotations

import hashlib
from collections import Counter
from decimal import Decimal

import pytest

from offgridflow_pipeline.connectors.feeds import EXTRACT_TABLES, FEEDS
from offgridflow_pipeline.connectors.reading.extracts import LocalObject, extract, reading_errors
from offgridflow_pipeline.demo.generator import DemoBills
from offgridflow_pipeline.demo.tenants import DemoFeed
from offgridflow_pipeline.emissions.classify import classify
from offgridflow_pipeline.emissions.models import UsageKey
from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline.lake.schemas import USAGE_KEY_COLUMNS
from offgridflow_pipeline.usage.normalise import usage_lines
from offgridflow_pipeline_tests.demo.delivered import Row, files_of, newest_manifests

MONTH = "2026-10"
NUMBERS = ("x_VCpus", "x_MemoryGiB", "x_GpuCount")
TABLES = {t.name: t for t in vars(schemas).values() if isinstance(t, schemas.Table)}


@pytest.mark.parametrize("position", [0, 1, 2])
def test_nine_tenths_of_a_tenants_usage_cost_are_mapped_or_proxied(
    engine: Engine, bills: DemoBills, position: int
) -> None:
    cost = Counter[str]()
    for found in bills.tenants[position].feeds:
        lines = lines_of(engine, found)
        (control,) = [c for c in found.controls if c.month == MONTH]
        assert (len(lines), sum(row["BilledCost"] for row in lines)) == (control.rows, control.billed_cost)
        for row in lines:
            if row["x_Disposition"] == "countable":
                amortised = row["EffectiveCost"] if row["EffectiveCost"] is not None else row["BilledCost"]
                cost[classify(key_of(row)).disposition] += abs(amortised)
    counted = sum(cost.values())
    assert (cost["mapped"] + cost["proxied"]) / counted >= Decimal("0.9"), dict(cost)


def lines_of(engine: Engine, found: DemoFeed) -> list[Row]:
    """Usage lines of the month, from the newest delivery (of an append-only table from all of it)."""
    gcp = found.kind.startswith("gcp")
    paths = sorted(found.uri.rglob("*.parquet")) if gcp else files_of(found, newest_manifests(found)[-1])
    objects = [LocalObject(path, str(path), hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths]
    table = TABLES[EXTRACT_TABLES[FEEDS[found.kind].dialect]]
    rows = extract(engine, objects, table, tenant="t", connection_id=found.id, feed=found.kind)
    with reading_errors(objects):
        rows = engine.spool(rows)
    wanted = (*USAGE_KEY_COLUMNS, "usage_date", "BilledCost", "EffectiveCost")
    lines = usage_lines(rows, found.kind, wanted)
    made: list[Row] = engine.to_arrow(lines).to_pylist()
    return [row for row in made if f"{row['usage_date']:%Y-%m}" == MONTH]


def key_of(row: Row) -> UsageKey:
    return UsageKey(*(row[name] if row[name] is not None or name in NUMBERS else "" for name in USAGE_KEY_COLUMNS))
