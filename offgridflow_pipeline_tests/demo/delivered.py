"""Reads the generated bills as a person would, with csv, gzip and pyarrow, and none of the pipeline's code."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from offgridflow_pipeline.demo.generator import DemoBills
from offgridflow_pipeline.demo.tenants import DemoFeed

Row = dict[str, Any]


def feed(bills: DemoBills, kind: str, tenant: str = "") -> DemoFeed:
    """The feed of a kind; several tenants have a FOCUS feed."""
    (found,) = [f for t in bills.tenants if tenant in t.slug for f in (*t.feeds, *t.statements) if f.kind == kind]
    return found


def newest_manifests(found: DemoFeed) -> list[Path]:
    """The last manifest of each billing period, oldest period first."""
    newest: dict[str, tuple[str, Path]] = {}
    for path in found.uri.rglob("*anifest.json"):
        period = re.search(r"BILLING_PERIOD=[\d-]+|\d{8}-\d{8}", str(path))[0]
        if found.kind == "cur" and path.parent.name != period:
            continue  # the copy inside an assembly
        content = json.loads(path.read_text())
        written = content.get("executionTime") or content.get("runInfo", {}).get("submittedTime") or ""
        newest[period] = max(newest.get(period, ("", path)), (written, path))
    return [newest[period][1] for period in sorted(newest)]


def files_of(found: DemoFeed, manifest: Path) -> list[Path]:
    """Data files that a manifest names; the bucket's or container's root is the folder above the feed."""
    content = json.loads(manifest.read_text())
    names = content.get("dataFiles") or content.get("reportKeys") or [blob["blobName"] for blob in content["blobs"]]
    return [found.uri.parent / re.sub(r"^s3://[^/]+/", "", name) for name in names]


def rows_of(paths: Sequence[Path]) -> list[Row]:
    """Rows of csv.gz or Parquet files."""
    rows: list[Row] = []
    for path in paths:
        if path.suffix == ".parquet":
            rows += pq.read_table(path).to_pylist()
        else:
            with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as stream:
                rows += csv.DictReader(stream)
    return rows


def bill_rows(found: DemoFeed) -> list[Row]:
    """Rows of the newest delivery of every month; of an append-only table all of them."""
    if found.kind.startswith("gcp"):
        return rows_of(sorted(found.uri.rglob("*.parquet")))
    return [row for manifest in newest_manifests(found) for row in rows_of(files_of(found, manifest))]


def number(value: Any) -> Decimal:
    """A number of a file, exactly: doubles by their shortest text."""
    return Decimal(value if isinstance(value, str) else repr(value)) if not isinstance(value, Decimal) else value


def by(rows: Sequence[Row], name: str) -> dict[Any, list[Row]]:
    """The rows by the value of a column."""
    found: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        found[row[name]].append(row)
    return found
