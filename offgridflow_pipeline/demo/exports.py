"""Writes bills the way the providers deliver them: files, folders and manifests.

AWS Data Exports (create-new layout) and Microsoft Cost Management exports, after billing-feeds.md 4.1 and
5.1. Bytes depend on the content alone (no clock), so that equal bills have equal hashes.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from uuid import UUID, uuid5

import pyarrow as pa
import pyarrow.parquet as pq

_NAMESPACE = UUID("6f1d3c5e-52c4-4f0b-9b5e-0d9a3c7f1e21")


@dataclass(frozen=True, slots=True)
class DeliveredAt:
    """When and for which month a delivery was made."""

    month: str
    written: datetime

    @property
    def period(self) -> tuple[date, date]:
        """First day of the month and of the next one."""
        first = date.fromisoformat(f"{self.month}-01")
        return first, date(first.year + first.month // 12, first.month % 12 + 1, 1)


def write_data_export(
    root: Path, export: str, bucket: str, columns: Sequence[tuple[str, str]], table: pa.Table, at: DeliveredAt
) -> Path:
    """Write one execution of an AWS data export (Parquet) and, after it, its manifest; return the manifest."""
    execution = str(uuid5(_NAMESPACE, f"{export}/{at.month}/{at.written.isoformat()}"))
    folder = f"BILLING_PERIOD={at.month}/{at.written:%Y%m%dT%H%M%SZ}-{execution}"
    half = max(1, table.num_rows // 2)
    names = []
    for number, chunk in enumerate((table.slice(0, half), table.slice(half)), start=1):
        name = f"data/{folder}/{export}-{number:05d}.snappy.parquet"
        path = root / export / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(chunk, path, compression="snappy", use_deprecated_int96_timestamps=False)
        names.append(f"s3://{bucket}/{export}/{name}")
    start, end = at.period
    manifest = {
        "executionId": execution,
        "executionTime": f"{at.written:%Y-%m-%dT%H:%M:%SZ}",
        "exportName": export,
        "tableName": "COST_AND_USAGE_REPORT",
        "billingPeriod": {"start": f"{start}T00:00:00.000Z", "end": f"{end}T00:00:00.000Z"},
        "compression": "PARQUET",
        "format": "PARQUET",
        "columns": [{"name": name, "type": kind} for name, kind in columns],
        "dataFiles": names,
    }
    path = root / export / "metadata" / folder / f"{export}-Manifest.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return path


def write_cost_management_export(
    root: Path, export: str, columns: Sequence[str], rows: Sequence[dict[str, str]], at: DeliveredAt
) -> Path:
    """Write one run of a Microsoft FOCUS export (csv.gz with byte order mark) and its manifest; return the manifest."""
    start, end = at.period
    run = str(uuid5(_NAMESPACE, f"{export}/{at.month}/{at.written.isoformat()}"))
    last = date.fromordinal(end.toordinal() - 1)
    folder = f"{export}/{start:%Y%m%d}-{last:%Y%m%d}/{at.written:%Y%m%d%H%M}/{run}"
    blob = f"{folder}/part_0_0001.csv.gz"
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    content = gzip.compress(("\ufeff" + text.getvalue()).encode(), compresslevel=6, mtime=0)
    path = root / blob
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    manifest = {
        "manifestVersion": "2024-04-01",
        "byteCount": len(content),
        "blobCount": 1,
        "dataRowCount": len(rows),
        "exportConfig": {
            "exportName": export, "resourceId": "/providers/Microsoft.Billing/billingAccounts/88419027",
            "dataVersion": "1.2", "apiVersion": "2023-07-01-preview", "type": "FocusCost",
            "timeFrame": "MonthToDate", "granularity": "Daily",
        },
        "deliveryConfig": {
            "partitionData": True, "dataOverwriteBehavior": "CreateNewReport", "fileFormat": "Csv",
            "compressionMode": "Gzip", "containerUri": "", "rootFolderPath": "",
        },
        "runInfo": {
            "executionType": "Scheduled", "submittedTime": f"{at.written:%Y-%m-%dT%H:%M:%SZ}", "runId": run,
            "startDate": f"{start}T00:00:00", "endDate": f"{last}T00:00:00",
        },
        "blobs": [{"blobName": blob, "byteCount": len(content), "dataRowCount": len(rows)}],
    }  # fmt: skip
    path = root / folder / "manifest.json"
    path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return path
