"""Deliveries: what a manifest names, which version is the newest, and manifests that cannot be trusted."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from offgridflow_pipeline.connectors.connections import Connection, load_connections
from offgridflow_pipeline.connectors.deliveries import Delivery, deliveries
from offgridflow_pipeline.connectors.errors import ConnectionConfigError, DeliveryError
from offgridflow_pipeline_tests.connectors.bills import cur_row, focus_row, write_bill, write_cur_delivery

OCTOBER = [date(2026, 10, 5)]


def _found(folder: Path, kind: str = "cur", days: list[date] | None = None) -> list[Delivery]:
    return deliveries(Connection(id="billing", kind=kind, uri=str(folder)), days or OCTOBER)


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


def _connections(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "connections.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_connections_are_read_per_tenant_with_paths_relative_to_the_file(tmp_path: Path) -> None:
    entries = {"acme": [{"id": "a", "kind": "cur", "uri": "bills/a"}, {"id": "b", "kind": "focus", "uri": "s3://x/y"}]}
    found = load_connections(_connections(tmp_path, entries))
    assert [(c.id, c.uri) for c in found["acme"]] == [("a", str(tmp_path / "bills" / "a")), ("b", "s3://x/y")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "connections.json"),
        ({"acme": [{"id": "a", "kind": "gcp", "uri": "x"}]}, "kind"),
        ({"acme": [{"id": "../a", "kind": "cur", "uri": "x"}]}, "id"),
        ({"acme": [{"id": "a", "kind": "cur", "uri": "x", "key": "secret"}]}, "key"),
        ({"acme": [{"id": "a", "kind": "cur", "uri": "x"}] * 2}, "tenant acme uses the id 'a' twice"),
    ],
)
def test_a_wrong_connections_file_is_refused_with_its_place(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(ConnectionConfigError, match=message):
        load_connections(_connections(tmp_path, content))


def test_a_missing_connections_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConnectionConfigError, match="OFFGRIDFLOW_CONNECTIONS_FILE"):
        load_connections(tmp_path / "none.json")
