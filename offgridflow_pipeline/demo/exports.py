"""Writes bills the way the providers deliver them: files, folders and manifests.

AWS Data Exports and legacy reports (create-new layout), Microsoft Cost Management exports and BigQuery table
extracts, after billing-feeds.md 4.1, 5.1 and 6.1. Bytes depend on the content alone (no clock), so that equal
bills have equal hashes.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from uuid import UUID, uuid5

import pyarrow as pa
import pyarrow.parquet as pq

from offgridflow_pipeline.months import first_day, next_month

_NAMESPACE = UUID("6f1d3c5e-52c4-4f0b-9b5e-0d9a3c7f1e21")


@dataclass(frozen=True, slots=True)
class DeliveredAt:
    """When and for which month a delivery was made."""

    month: str
    written: datetime

    @property
    def period(self) -> tuple[date, date]:
        """First day of the month and of the next one."""
        first = first_day(self.month)
        return first, next_month(first)

    @property
    def last_day(self) -> date:
        """Last day of the month."""
        return date.fromordinal(self.period[1].toordinal() - 1)

    def run(self, export: str) -> str:
        """Id of the run that made the delivery."""
        return str(uuid5(_NAMESPACE, f"{export}/{self.month}/{self.written.isoformat()}"))


@dataclass(frozen=True, slots=True)
class DataExport:
    """An AWS data export: its name, the table it is of, and the bucket that its manifests name."""

    name: str
    table: str
    bucket: str


@dataclass(frozen=True, slots=True)
class CostExport:
    """A Microsoft export: name, dataset (``FocusCost``, ``ActualCost``, ``AmortizedCost``), its version and scope."""

    name: str
    dataset: str
    version: str
    scope: str


def write_data_export(root: Path, export: DataExport, table: pa.Table, at: DeliveredAt) -> Path:
    """Write one execution of a data export in Parquet, two files, and after them its manifest; return the manifest."""
    half = max(1, table.num_rows // 2)
    names = []
    for number, chunk in enumerate((table.slice(0, half), table.slice(half)), start=1):
        path = _data_file(root, export, at, f"{export.name}-{number:05d}.snappy.parquet")
        pq.write_table(chunk, path, compression="snappy", use_deprecated_int96_timestamps=False)
        names.append(path)
    columns = [{"name": field.name, "type": str(field.type)} for field in table.schema]
    return _write_export_manifest(root, export, at, "PARQUET", columns, names)


def write_text_data_export(
    root: Path, export: DataExport, columns: Sequence[str], rows: Iterable[Mapping[str, str]], at: DeliveredAt
) -> Path:
    """Write one execution of a data export as csv.gz and after it its manifest; return the manifest."""
    path = _data_file(root, export, at, f"{export.name}-00001.csv.gz")
    path.write_bytes(_csv_gz(columns, rows))
    described = [{"name": name, "type": "string"} for name in columns]
    return _write_export_manifest(root, export, at, "TEXT_OR_CSV", described, [path])


def _data_file(root: Path, export: DataExport, at: DeliveredAt, name: str) -> Path:
    path = root / export.name / "data" / _execution_folder(export, at) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _execution_folder(export: DataExport, at: DeliveredAt) -> str:
    return f"BILLING_PERIOD={at.month}/{at.written:%Y%m%dT%H%M%SZ}-{at.run(export.name)}"


def _write_export_manifest(
    root: Path,
    export: DataExport,
    at: DeliveredAt,
    form: str,
    columns: Sequence[Mapping[str, str]],
    files: Sequence[Path],
) -> Path:
    start, end = at.period
    return _write_json(
        root / export.name / "metadata" / _execution_folder(export, at) / f"{export.name}-Manifest.json",
        {
            "executionId": at.run(export.name),
            "executionTime": f"{at.written:%Y-%m-%dT%H:%M:%SZ}",
            "exportName": export.name,
            "tableName": export.table,
            "billingPeriod": {"start": f"{start}T00:00:00.000Z", "end": f"{end}T00:00:00.000Z"},
            "compression": "PARQUET" if form == "PARQUET" else "GZIP",
            "format": form,
            "columns": list(columns),
            "dataFiles": [f"s3://{export.bucket}/{path.relative_to(root).as_posix()}" for path in files],
        },
    )


def write_legacy_report(
    root: Path,
    report: str,
    bucket: str,
    account: str,
    columns: Sequence[str],
    rows: Sequence[Mapping[str, str]],
    at: DeliveredAt,
) -> Path:
    """Write one assembly of a legacy cost and usage report and its manifest, there and at the period; return that."""
    start, end = at.period
    assembly = at.run(report)
    period = root / report / f"{start:%Y%m%d}-{end:%Y%m%d}"
    folder = period / assembly
    folder.mkdir(parents=True, exist_ok=True)
    half = max(1, len(rows) // 2)
    names = []
    for number, chunk in enumerate((rows[:half], rows[half:]), start=1):
        path = folder / f"{report}-{number}.csv.gz"
        path.write_bytes(_csv_gz(columns, chunk))
        names.append(path.relative_to(root).as_posix())
    manifest = {
        "assemblyId": assembly,
        "account": account,
        "columns": [dict(zip(("category", "name"), name.split("/", 1), strict=True)) for name in columns],
        "charset": "UTF-8",
        "compression": "GZIP",
        "contentType": "text/csv",
        "reportId": str(uuid5(_NAMESPACE, report)),
        "reportName": report,
        "billingPeriod": {"start": f"{start:%Y%m%d}T000000.000Z", "end": f"{end:%Y%m%d}T000000.000Z"},
        "bucket": bucket,
        "reportKeys": names,
        "additionalArtifactKeys": [],
    }
    _write_json(folder / f"{report}-Manifest.json", manifest)
    return _write_json(period / f"{report}-Manifest.json", manifest)


def write_cost_management_export(
    root: Path, export: CostExport, columns: Sequence[str], rows: Sequence[Mapping[str, str]], at: DeliveredAt
) -> Path:
    """Write one run of a Microsoft export (csv.gz with byte order mark) and its manifest; return the manifest."""
    start = at.period[0]
    run = at.run(export.name)
    folder = f"{export.name}/{start:%Y%m%d}-{at.last_day:%Y%m%d}/{at.written:%Y%m%d%H%M}/{run}"
    blob = f"{folder}/part_0_0001.csv.gz"
    content = _csv_gz(columns, rows, mark="\ufeff", line_end="\r\n")
    path = root / blob
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    manifest = {
        "manifestVersion": "2024-04-01",
        "byteCount": len(content),
        "blobCount": 1,
        "dataRowCount": len(rows),
        "exportConfig": {
            "exportName": export.name, "resourceId": export.scope, "dataVersion": export.version,
            "apiVersion": "2023-07-01-preview", "type": export.dataset, "timeFrame": "MonthToDate",
            "granularity": "Daily",
        },
        "deliveryConfig": {
            "partitionData": True, "dataOverwriteBehavior": "CreateNewReport", "fileFormat": "Csv",
            "compressionMode": "Gzip", "containerUri": "", "rootFolderPath": "",
        },
        "runInfo": {
            "executionType": "Scheduled", "submittedTime": f"{at.written:%Y-%m-%dT%H:%M:%SZ}", "runId": run,
            "startDate": f"{start}T00:00:00", "endDate": f"{at.last_day}T00:00:00",
        },
        "blobs": [{"blobName": blob, "byteCount": len(content), "dataRowCount": len(rows)}],
    }  # fmt: skip
    return _write_json(root / folder / "manifest.json", manifest)


def write_table_extract(root: Path, table: str, partition: str, rows: pa.Table) -> Path:
    """Write what ``EXPORT DATA`` of BigQuery leaves of some partitions of a table; return the Parquet file."""
    path = root / table / partition / "000000000000.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path, compression="snappy", use_deprecated_int96_timestamps=False)
    return path


def write_carbon_export(root: Path, export: DataExport, model_version: str, month: str, table: pa.Table) -> Path:
    """Write a month of AWS's carbon export as one model version states it, and after it its manifest; return that."""
    partition = f"model_version={model_version}/usage_period={month}"
    path = root / export.name / "data" / partition / f"{export.name}-00001.snappy.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="snappy", use_deprecated_int96_timestamps=False)
    return _write_json(
        root / export.name / "metadata" / partition / f"{export.name}-Manifest.json",
        {
            "executionId": str(uuid5(_NAMESPACE, f"{export.name}/{partition}")),
            "exportName": export.name,
            "tableName": export.table,
            "compression": "PARQUET",
            "format": "PARQUET",
            "dataFiles": [f"s3://{export.bucket}/{path.relative_to(root).as_posix()}"],
        },
    )


def _csv_gz(columns: Sequence[str], rows: Iterable[Mapping[str, str]], mark: str = "", line_end: str = "\n") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=line_end)
    writer.writerow(columns)
    writer.writerows([row.get(name, "") for name in columns] for row in rows)
    return gzip.compress((mark + text.getvalue()).encode(), compresslevel=6, mtime=0)


def _write_json(path: Path, content: Mapping[str, object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path
