"""Small bills for tests: rows of each feed with overridable fields, written as the providers write them."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from offgridflow_pipeline.connectors.feeds import EXTRACT_TABLES, FEEDS
from offgridflow_pipeline.connectors.reading.extracts import LocalObject, ReadLimits, extract, reading_errors
from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.lake.engine import Engine

SHARED = Path(__file__).resolve().parents[3] / "shared" / "billing"
TABLES = {name: schemas.table(EXTRACT_TABLES[feed.dialect]) for name, feed in FEEDS.items()}
EXTRACTED_AT = datetime(2026, 11, 23, tzinfo=UTC)

CUR_ROW = {
    "identity/LineItemId": "id",
    "identity/TimeInterval": "2026-10-05T00:00:00Z/2026-10-06T00:00:00Z",
    "bill/InvoiceId": "",
    "bill/BillingEntity": "AWS",
    "bill/PayerAccountId": "000011112222",
    "bill/BillingPeriodStartDate": "2026-10-01T00:00:00Z",
    "bill/BillingPeriodEndDate": "2026-11-01T00:00:00Z",
    "lineItem/UsageAccountId": "000033334444",
    "lineItem/LineItemType": "Usage",
    "lineItem/UsageStartDate": "2026-10-05T00:00:00Z",
    "lineItem/UsageEndDate": "2026-10-06T00:00:00Z",
    "lineItem/ProductCode": "AmazonEC2",
    "lineItem/UsageType": "EUC1-BoxUsage:m5.xlarge",
    "lineItem/Operation": "RunInstances",
    "lineItem/ResourceId": "i-0abc",
    "lineItem/UsageAmount": "24.0",
    "lineItem/CurrencyCode": "USD",
    "lineItem/UnblendedCost": "5.52",
    "product/instanceType": "m5.xlarge",
    "product/vcpu": "4",
    "product/memory": "16 GiB",
    "product/regionCode": "eu-central-1",
    "pricing/unit": "Hrs",
}

FOCUS_ROW = {
    "BillingAccountId": "/providers/Microsoft.Billing/billingAccounts/1",
    "BillingCurrency": "EUR",
    "BillingPeriodStart": "2026-10-01T00:00:00Z",
    "BillingPeriodEnd": "2026-11-01T00:00:00Z",
    "ChargePeriodStart": "2026-10-05T00:00:00Z",
    "ChargePeriodEnd": "2026-10-06T00:00:00Z",
    "ChargeCategory": "Usage",
    "ChargeDescription": "D4s v5",
    "ProviderName": "Microsoft",
    "PublisherName": "Microsoft",
    "InvoiceIssuerName": "Microsoft",
    "ServiceName": "Virtual Machines",
    "SubAccountId": "/subscriptions/0A1B",
    "RegionId": "westeurope",
    "ResourceId": "/subscriptions/0A1B/vm1",
    "ConsumedQuantity": "24",
    "ConsumedUnit": "Hours",
    "BilledCost": "4.6",
    "EffectiveCost": "4.6",
    "ListCost": "4.6",
}

Row = Mapping[str, str]
#: Feed and columns of extract rows -> SQL of their mapping; the rows have this name in it.
_MAPPINGS: dict[tuple[str, ibis.Schema], str] = {}
_ROWS = "extract_rows_of_a_bill"


def cur_row(**changed: str) -> dict[str, str]:
    """A row of the legacy CUR; keyword ``lineItem__UsageAmount`` changes ``lineItem/UsageAmount``."""
    return CUR_ROW | {name.replace("__", "/"): value for name, value in changed.items()}


def focus_row(**changed: str) -> dict[str, str]:
    """A FOCUS row of Microsoft."""
    return FOCUS_ROW | changed


def csv_bytes(rows: Sequence[Row], header: Iterable[str] | None = None) -> bytes:
    """The rows as CSV with the union of their columns (or `header`) in order of appearance."""
    names = list(header) if header is not None else list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def write_bill(path: Path, rows: Sequence[Row], header: Iterable[str] | None = None) -> Path:
    """Write the rows; compressed when the name ends in .gz."""
    return write_bytes(path, csv_bytes(rows, header))


def write_bytes(path: Path, content: bytes) -> Path:
    """Write the bytes; compressed when the name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


def write_cur_delivery(
    folder: Path, parts: Sequence[Sequence[Row]], *, assembly: str = "a1", period: str = "20261001-20261101"
) -> Path:
    """A legacy CUR period (overwrite layout): parts and the manifest that names them; returns the manifest."""
    keys = []
    for number, rows in enumerate(parts, start=1):
        write_bill(folder / period / f"report-{number:05d}.csv.gz", rows, header=list(CUR_ROW))
        keys.append(f"prefix/report/{period}/report-{number:05d}.csv.gz")
    start, end = period.split("-")
    manifest = folder / period / "report-Manifest.json"
    manifest.write_text(
        json.dumps(
            {
                "assemblyId": assembly,
                "billingPeriod": {"start": f"{start}T000000.000Z", "end": f"{end}T000000.000Z"},
                "reportKeys": keys,
            }
        )
    )
    return manifest


def local_objects(paths: Path | Sequence[Path]) -> list[LocalObject]:
    """The files as fetched objects."""
    chosen = [paths] if isinstance(paths, Path) else paths
    return [LocalObject(p, str(p), hashlib.sha256(p.read_bytes()).hexdigest()) for p in chosen]


def extracted(
    engine: Engine,
    paths: Path | Sequence[Path],
    feed: str,
    *,
    connection_id: str = "billing",
    limits: ReadLimits | None = None,
) -> ir.Table:
    """Extract rows of the files, evaluated."""
    objects = local_objects(paths)
    with reading_errors(objects):
        return engine.spool(
            extract(
                engine, objects, TABLES[feed], tenant="acme", connection_id=connection_id, feed=feed,
                limits=limits, extracted_at=EXTRACTED_AT,
            )
        )  # fmt: skip


def mapped_lines(engine: Engine, rows: ir.Table, feed: str) -> ir.Table:
    """`usage_lines` of the feed, evaluated.

    It is put into SQL once for all bills, which costs more than a small bill: extract rows have equal columns in each.
    """
    from offgridflow_pipeline.usage.normalise import usage_lines

    kind = (feed, rows.schema())
    if kind not in _MAPPINGS:
        sql = str(engine.connection.compile(usage_lines(rows, feed)))
        assert rows.get_name() in sql
        _MAPPINGS[kind] = sql.replace(rows.get_name(), _ROWS)
    name = f"lines_{uuid.uuid4().hex[:12]}"
    engine.connection.raw_sql(f'CREATE TABLE "{name}" AS {_MAPPINGS[kind].replace(_ROWS, rows.get_name())}')
    return engine.connection.table(name)


def lines(engine: Engine, paths: Path | Sequence[Path], feed: str) -> pa.Table:
    """Usage lines of the files in the order of their rows."""
    found = mapped_lines(engine, extracted(engine, paths, feed), feed)
    return engine.to_arrow(found.order_by(["x_SourceObject", "x_SourceRow"]))


def one_line(engine: Engine, folder: Path, feed: str, row: Row) -> dict[str, Any]:
    """The usage line of a single row."""
    (found,) = lines(engine, write_bill(folder / "one.csv", [row]), feed).to_pylist()
    return dict(found)


class OneBill:
    """The rows of many cases in one bill, read once."""

    def __init__(self, folder: Path, feed: str, rows: Sequence[Row]) -> None:
        with Engine(memory_mb=256, threads=1, temp_dir=folder) as engine:
            found = lines(engine, write_bill(folder / "bill.csv", rows), feed).to_pylist()
        self._lines = {repr(row): line for row, line in zip(rows, found, strict=True)}

    def line(self, row: Row) -> dict[str, Any]:
        """The usage line of the row."""
        return self._lines[repr(row)]
