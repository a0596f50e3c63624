"""Deliveries: what a manifest names, which version is the newest, and manifests that cannot be trusted."""

from __future__ import annotations

import json
import os
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from offgridflow_pipeline.connectors.access import LocalAccess
from offgridflow_pipeline.connectors.connections import Connection
from offgridflow_pipeline.connectors.deliveries.listing import Delivery, deliveries
from offgridflow_pipeline.connectors.errors import DeliveryError
from offgridflow_pipeline.connectors.stores import StoredObject, open_store
from offgridflow_pipeline_tests.connectors.bills import cur_row, focus_row, write_bill, write_cur_delivery

OCTOBER = [date(2026, 10, 5)]


def _found(folder: Path, kind: str = "cur", days: list[date] | None = None) -> list[Delivery]:
    store = open_store(str(folder), LocalAccess())
    return deliveries(store, Connection(id="billing", kind=kind, uri=str(folder)), days or OCTOBER)


def _names(delivery: Delivery) -> list[str]:
    return [Path(item.uri).name for item in delivery.objects]


def test_a_legacy_manifest_names_its_files_period_and_version(tmp_path: Path) -> None:
    write_cur_delivery(tmp_path, [[cur_row()], [cur_row()]], assembly="a7")
    write_bill(tmp_path / "20261001-20261101" / "report-00099.csv.gz", [cur_row()])  # left over: not in the manifest
    (delivery,) = _found(tmp_path)
    assert _names(delivery) == ["report-00001.csv.gz", "report-00002.csv.gz"]
    assert (delivery.period_start, delivery.period_end) == (date(2026, 10, 1), date(2026, 11, 1))
    assert "a7" in delivery.version


def test_periods_that_no_asked_day_lies_in_are_not_read(tmp_path: Path) -> None:
    write_cur_delivery(tmp_path, [[cur_row()]])
    write_cur_delivery(tmp_path, [[cur_row()]], period="20260901-20261001")
    assert [d.period_start for d in _found(tmp_path)] == [date(2026, 10, 1)]
    assert len(_found(tmp_path, days=[date(2026, 9, 30), date(2026, 10, 1)])) == 2
    assert _found(tmp_path, days=[date(2026, 11, 1)]) == []


def test_the_manifest_copy_inside_an_assembly_folder_is_not_a_second_delivery(tmp_path: Path) -> None:
    manifest = write_cur_delivery(tmp_path, [[cur_row()]], assembly="a2")
    for assembly in ("a1", "a2"):
        folder = manifest.parent / assembly
        folder.mkdir()
        (folder / manifest.name).write_text(manifest.read_text())
    assert len(_found(tmp_path)) == 1


def _data_export(folder: Path, execution: str, content: dict[str, str], month: str = "2026-10") -> Path:
    part = f"data/BILLING_PERIOD={month}/{execution}/export-00001.csv.gz"
    write_bill(folder / part, [content])
    manifest = folder / "metadata" / f"BILLING_PERIOD={month}" / execution / "export-Manifest.json"
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps({"executionId": execution, "dataFiles": [f"s3://bucket/prefix/{part}"]}))
    return manifest


def test_of_several_executions_of_a_data_export_the_newest_counts(tmp_path: Path) -> None:
    for execution in ("20261103T000000Z-bb", "20261120T000000Z-aa", "20261110T000000Z-cc"):
        _data_export(tmp_path, execution, cur_row(lineItem__ResourceId=execution))
    (delivery,) = _found(tmp_path, "cur2")
    assert "20261120T000000Z-aa" in delivery.objects[0].uri
    assert delivery.period_end == date(2026, 11, 1)


def test_december_ends_with_the_year(tmp_path: Path) -> None:
    _data_export(tmp_path, "20260103T000000Z-aa", cur_row(), month="2025-12")
    (delivery,) = _found(tmp_path, "cur2", [date(2025, 12, 31)])
    assert (delivery.period_start, delivery.period_end) == (date(2025, 12, 1), date(2026, 1, 1))


def _azure_export(folder: Path, run: str, submitted: str, size_error: int = 0) -> None:
    part = write_bill(folder / "20261001-20261031" / run / "part_0_0001.csv", [focus_row()])
    manifest: dict[str, Any] = {
        "runInfo": {"runId": run, "submittedTime": submitted, "startDate": "2026-10-01T00:00:00Z"},
        "blobs": [
            {
                "blobName": f"exports/focus/20261001-20261031/{run}/{part.name}",
                "byteCount": part.stat().st_size + size_error,
            }
        ],
    }
    (part.parent / "manifest.json").write_text(json.dumps(manifest))


def test_of_several_azure_runs_the_one_submitted_last_counts(tmp_path: Path) -> None:
    _azure_export(tmp_path, "run-z", "2026-11-01T00:00:00Z")
    _azure_export(tmp_path, "run-a", "2026-11-02T00:00:00Z")
    (delivery,) = _found(tmp_path, "focus")
    assert "/run-a/" in delivery.objects[0].uri
    assert delivery.period_start == date(2026, 10, 1)


def test_an_azure_blob_of_another_size_than_its_manifest_says_is_refused(tmp_path: Path) -> None:
    _azure_export(tmp_path, "run-a", "2026-11-02T00:00:00Z", size_error=1)
    with pytest.raises(DeliveryError, match=r"part_0_0001\.csv has \d+ bytes, its manifest says \d+: deliver again"):
        _found(tmp_path, "focus")


def test_a_single_file_and_a_folder_without_manifest_are_deliveries_without_period(tmp_path: Path) -> None:
    path = write_bill(tmp_path / "bill.csv.gz", [cur_row()])
    (tmp_path / "readme.txt").write_text("not a bill")
    for place in (path, tmp_path):
        (delivery,) = _found(place)
        assert _names(delivery) == ["bill.csv.gz"]
        assert delivery.period_start is None
        assert delivery.touches(OCTOBER)


def test_a_manifest_that_is_no_json_is_refused(tmp_path: Path) -> None:
    manifest = write_cur_delivery(tmp_path, [[cur_row()]])
    manifest.write_text(manifest.read_text()[:40])
    with pytest.raises(DeliveryError, match=r"report-Manifest\.json is not a readable manifest"):
        _found(tmp_path)


@pytest.mark.parametrize("content", ["[]", '"text"', "7", "null"])
def test_a_manifest_that_is_no_object_is_refused(tmp_path: Path, content: str) -> None:
    write_cur_delivery(tmp_path, [[cur_row()]]).write_text(content)
    with pytest.raises(DeliveryError, match=r"report-Manifest\.json"):
        _found(tmp_path)


def test_a_manifest_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"files": []}')
    with pytest.raises(DeliveryError, match="none of reportKeys, dataFiles, blobs"):
        _found(tmp_path)


def test_a_manifest_that_names_a_missing_file_refuses_the_delivery(tmp_path: Path) -> None:
    manifest = write_cur_delivery(tmp_path, [[cur_row()], [cur_row()]])
    (manifest.parent / "report-00002.csv.gz").unlink()
    with pytest.raises(DeliveryError, match=r"names .*report-00002\.csv\.gz.*incomplete, wait or deliver again"):
        _found(tmp_path)


def test_a_manifest_without_a_readable_period_is_refused(tmp_path: Path) -> None:
    manifest = write_cur_delivery(tmp_path, [[cur_row()]])
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content | {"billingPeriod": {"start": "soon"}}))
    with pytest.raises(DeliveryError, match="no readable billing period"):
        _found(tmp_path)


def test_nothing_delivered_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="does not exist: check the connection's uri"):
        _found(tmp_path / "nowhere")
    (tmp_path / "readme.txt").write_text("not a bill")
    with pytest.raises(DeliveryError, match="no csv, csv.gz or parquet file and no manifest"):
        _found(tmp_path)


def test_a_legacy_create_new_report_is_read_from_the_assembly_that_its_manifest_names(tmp_path: Path) -> None:
    period = tmp_path / "20261001-20261101"
    for assembly in ("a1", "a2"):
        write_bill(period / assembly / "report-1.csv.gz", [cur_row(lineItem__ResourceId=assembly)])
        manifest = {
            "assemblyId": assembly,
            "account": "000011112222",
            "billingPeriod": {"start": "20261001T000000.000Z", "end": "20261101T000000.000Z"},
            "reportKeys": [f"prefix/report/20261001-20261101/{assembly}/report-1.csv.gz"],
        }
        for folder in (period / assembly, period):
            (folder / "report-Manifest.json").write_text(json.dumps(manifest))
    (delivery,) = _found(tmp_path)
    assert [item.uri for item in delivery.objects] == [str(period / "a2" / "report-1.csv.gz")]


def test_a_legacy_report_for_athena_is_read_from_its_year_and_month_folders(tmp_path: Path) -> None:
    for month in ("9", "10"):
        write_bill(tmp_path / "report" / "report" / "year=2026" / f"month={month}" / "report-1.parquet", [cur_row()])
        start = date(2026, int(month), 1)
        period = f"{start:%Y%m%d}-{date(2026, start.month + 1, 1):%Y%m%d}"
        manifest = tmp_path / "report" / period / "report-Manifest.json"
        manifest.parent.mkdir()
        content = {
            "assemblyId": f"a{month}",
            "billingPeriod": dict(zip(("start", "end"), period.split("-"), strict=True)),
            "reportKeys": [f"prefix/report/report/year=2026/month={month}/report-1.parquet"],
        }
        manifest.write_text(json.dumps(content))
    (delivery,) = _found(tmp_path / "report")
    assert [Path(item.uri).parent.name for item in delivery.objects] == ["month=10"]


def test_manifests_for_other_programs_beside_a_report_are_left_alone(tmp_path: Path) -> None:
    manifest = write_cur_delivery(tmp_path, [[cur_row()]])
    for name in ("report-RedshiftManifest.json", "report-QuickSightManifest.json"):
        (manifest.parent / name).write_text('{"entries": []}')
    assert len(_found(tmp_path)) == 1


def test_a_data_export_that_overwrites_has_no_execution_folder(tmp_path: Path) -> None:
    manifest = _data_export(tmp_path, ".", cur_row())
    assert manifest.parent.name == "BILLING_PERIOD=2026-10"
    content = json.loads(manifest.read_text().replace("/./", "/"))
    manifest.write_text(json.dumps(content | {"executionId": "e-7"}))
    (delivery,) = _found(tmp_path, "cur2")
    assert delivery.version == "e-7"
    assert _names(delivery) == ["export-00001.csv.gz"]


class _CountingStore:
    """A store that counts what is read."""

    def __init__(self) -> None:
        self.store = open_store("/any", LocalAccess())
        self.read: list[str] = []

    def list(self, uri: str) -> list[StoredObject]:
        return self.store.list(uri)

    def read_bytes(self, item: StoredObject) -> bytes:
        self.read.append(item.uri)
        return self.store.read_bytes(item)

    def download(self, item: StoredObject, target: Path) -> None:
        self.store.download(item, target)


def test_only_manifests_that_may_bill_the_days_are_read(tmp_path: Path) -> None:
    for month in range(1, 11):
        for execution in ("20261103T000000Z-bb", "20261120T000000Z-aa"):
            _data_export(tmp_path / "new", execution, cur_row(), month=f"2026-{month:02d}")
        write_cur_delivery(tmp_path / "old", [[cur_row()]], period=f"2026{month:02d}01-2026{month + 1:02d}01")
    for kind, folder in (("cur2", "new"), ("cur", "old")):
        store = _CountingStore()
        connection = Connection(id="billing", kind=kind, uri=str(tmp_path / folder))
        assert len(deliveries(store, connection, OCTOBER)) == 1
        assert len(store.read) == (1 if kind == "cur2" else 2)  # October lies in the folder that September ends with


def _azure_run(root: Path, run: str, dataset: str, submitted: str = "2026-11-02T00:00:00Z") -> None:
    part = write_bill(root / "20261001-20261031" / run / "part_0_0001.csv", [focus_row()])
    manifest = {
        "exportConfig": {"exportName": dataset.lower(), "resourceId": "/subscriptions/0a1b", "type": dataset},
        "runInfo": {"runId": run, "submittedTime": submitted, "startDate": "2026-10-01T00:00:00"},
        "blobs": [{"blobName": f"{root.name}/20261001-20261031/{run}/{part.name}", "byteCount": part.stat().st_size}],
    }
    (part.parent / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("kind", "run"), [("azure_actual", "r-actual"), ("azure_amortized", "r-amortized"), ("focus", "r-focus")]
)
def test_of_azure_exports_side_by_side_a_connection_reads_its_own_dataset(tmp_path: Path, kind: str, run: str) -> None:
    for dataset, name in (("ActualCost", "r-actual"), ("AmortizedCost", "r-amortized"), ("FocusCost", "r-focus")):
        _azure_run(tmp_path / name, name, dataset)
    (delivery,) = _found(tmp_path, kind)
    assert [Path(item.uri).parent.name for item in delivery.objects] == [run]
    assert delivery.feed == kind


def test_a_folder_with_exports_of_other_kinds_only_is_refused_not_read_as_empty(tmp_path: Path) -> None:
    _azure_run(tmp_path / "amortized", "r1", "AmortizedCost")
    with pytest.raises(DeliveryError, match="holds no manifest of the kind azure_actual .* is of another"):
        _found(tmp_path, "azure_actual")
    with pytest.raises(DeliveryError, match="holds no manifest of the kind cur"):
        _found(tmp_path, "cur")


def test_an_azure_run_without_blobs_is_a_month_without_rows(tmp_path: Path) -> None:
    _azure_run(tmp_path / "actual", "r1", "ActualCost")
    manifest = tmp_path / "actual" / "20261001-20261031" / "r1" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"blobs": []}))
    (delivery,) = _found(tmp_path, "azure_actual")
    assert delivery.objects == ()


def _old_azure_file(root: Path, name: str, written: int, period: str = "20261001-20261031") -> Path:
    path = write_bill(root / period / name, [focus_row()])
    os.utime(path, (written, written))
    return path


def test_of_old_azure_exports_without_manifest_the_newest_file_of_a_period_counts(tmp_path: Path) -> None:
    _old_azure_file(tmp_path / "daily", "daily_b.csv", 100)
    newest = _old_azure_file(tmp_path / "daily", "daily_a.csv", 200)
    _old_azure_file(tmp_path / "daily", "daily_c.csv", 300, period="20260901-20260930")
    (delivery,) = _found(tmp_path, "azure_actual")
    assert [item.uri for item in delivery.objects] == [str(newest)]
    assert (delivery.period_start, delivery.period_end) == (date(2026, 10, 1), date(2026, 11, 1))
    assert delivery.version == "daily_a.csv"


def test_of_old_azure_runs_in_parts_the_newest_run_counts_with_all_its_parts(tmp_path: Path) -> None:
    for run, written in (("run-b", 100), ("run-a", 200)):
        for part in ("part_0.csv", "part_1.csv"):
            _old_azure_file(tmp_path / "daily", f"{run}/{part}", written)
    (delivery,) = _found(tmp_path, "azure_amortized")
    assert [Path(item.uri).parent.name for item in delivery.objects] == ["run-a", "run-a"]


def test_two_old_azure_exports_of_one_month_are_refused(tmp_path: Path) -> None:
    _old_azure_file(tmp_path / "daily", "a.csv", 100)
    _old_azure_file(tmp_path / "monthly", "b.csv", 100)
    with pytest.raises(DeliveryError, match="two exports of the same bill"):
        _found(tmp_path, "azure_actual")


def test_once_an_azure_export_writes_manifests_files_without_one_are_an_unfinished_run(tmp_path: Path) -> None:
    root = tmp_path / "daily"
    _azure_run(root, "r1", "ActualCost")
    _old_azure_file(root, "r2/part_0.csv", 300)
    _old_azure_file(root, "r3/part_0.csv", 300, period="20261101-20261130")
    old = _old_azure_file(root, "old.csv", 300, period="20260901-20260930")
    days = [date(2026, 9, 5), date(2026, 10, 5), date(2026, 11, 5)]
    found = _found(tmp_path, "azure_actual", days)
    assert sorted(Path(item.uri).parent.name for d in found for item in d.objects) == ["20260901-20260930", "r1"]
    assert str(old) in [item.uri for d in found for item in d.objects]
