"""Deliveries that cannot be used, beside deliveries that can; and deliveries of many objects."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path

import pytest

from offgridflow_pipeline.connectors.access import LocalAccess
from offgridflow_pipeline.connectors.connections import Connection
from offgridflow_pipeline.connectors.deliveries.listing import Delivery, deliveries
from offgridflow_pipeline.connectors.errors import DeliveryError
from offgridflow_pipeline.connectors.reading.extracts import OBJECTS_AT_ONCE, extract, extracts
from offgridflow_pipeline.connectors.sources import Source, open_source
from offgridflow_pipeline.connectors.stores import open_store
from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline_tests.connectors.bills import (
    cur_row,
    focus_row,
    local_objects,
    write_bill,
    write_cur_delivery,
)

BOTH = [date(2026, 9, 30), date(2026, 10, 1)]


def _connection(folder: Path, kind: str = "cur") -> Connection:
    return Connection(id="billing", kind=kind, uri=str(folder))


def _source(folder: Path) -> Source:
    return open_source(_connection(folder), LocalAccess())


def _deliveries(folder: Path, days: list[date]) -> list[Delivery]:
    return deliveries(open_store(str(folder), LocalAccess()), _connection(folder), days)


def test_an_unusable_period_does_not_hide_the_others(tmp_path: Path) -> None:
    write_cur_delivery(tmp_path, [[cur_row()]], period="20260901-20261001")
    broken = write_cur_delivery(tmp_path, [[cur_row()]], period="20261001-20261101")
    (broken.parent / "report-00001.csv.gz").unlink()
    found, refused = _source(tmp_path).survey(BOTH)
    assert [d.period_start for d in found] == [date(2026, 9, 1)]
    assert [r.touches([date(2026, 10, 7)]) for r in refused] == [True]
    assert not refused[0].touches([date(2026, 9, 30)])
    with pytest.raises(DeliveryError, match="incomplete"):
        _deliveries(tmp_path, BOTH)
    assert len(_deliveries(tmp_path, BOTH[:1])) == 1


def test_a_manifest_that_is_no_json_refuses_the_period_its_folder_names(tmp_path: Path) -> None:
    write_cur_delivery(tmp_path, [[cur_row()]], period="20260901-20261001")
    write_cur_delivery(tmp_path, [[cur_row()]], period="20261001-20261101").write_text("{")
    found, refused = _source(tmp_path).survey(BOTH)
    assert [d.period_start for d in found] == [date(2026, 9, 1)]
    assert refused[0].period is not None
    assert refused[0].period.start == date(2026, 10, 1)


@pytest.mark.parametrize(
    "content",
    [
        {"reportKeys": "report-00001.csv.gz", "billingPeriod": {"start": "20261001", "end": "20261101"}},
        {"reportKeys": [7], "billingPeriod": {"start": "20261001", "end": "20261101"}},
        {"reportKeys": []},
        {"reportKeys": [], "billingPeriod": "October"},
        {"blobs": [{"byteCount": 7}], "runInfo": {"startDate": "2026-10-01"}},
    ],
)
def test_a_manifest_of_another_shape_is_refused_by_name(tmp_path: Path, content: dict[str, object]) -> None:
    write_cur_delivery(tmp_path, [[cur_row()]]).write_text(json.dumps(content))
    with pytest.raises(DeliveryError, match=r"report-Manifest\.json"):
        _deliveries(tmp_path, BOTH)


def test_two_exports_of_one_bill_under_one_prefix_are_refused(tmp_path: Path) -> None:
    write_cur_delivery(tmp_path / "hourly", [[cur_row()]])
    shutil.copytree(tmp_path / "hourly", tmp_path / "daily")
    with pytest.raises(DeliveryError, match="two exports of the same bill"):
        _deliveries(tmp_path, BOTH)
    assert len(_deliveries(tmp_path / "daily", BOTH)) == 1


def _many(folder: Path, count: int) -> list[Path]:
    return [
        write_bill(folder / f"part-{n}.csv.gz", [cur_row(lineItem__ResourceId=f"i-{n}-{k}") for k in range(3)])
        for n in range(count)
    ]


def test_a_delivery_of_many_objects_fits_into_little_memory(tmp_path: Path) -> None:
    objects = local_objects(_many(tmp_path, 30))
    with Engine(memory_mb=256, threads=2, temp_dir=tmp_path) as engine:
        rows = extract(engine, objects, schemas.AWS_BILLING_EXTRACT, tenant="acme", connection_id="billing", feed="cur")
        found = engine.to_arrow(rows.select("source_object", "source_row", "line_item_resource_id")).to_pylist()
    assert len(found) == 90
    assert all(r["line_item_resource_id"].endswith(f"-{r['source_row'] - 1}") for r in found)


def test_extracts_read_every_object_once_and_the_same_bytes_once(tmp_path: Path, engine: Engine) -> None:
    paths = _many(tmp_path, OBJECTS_AT_ONCE + 2)
    again = tmp_path / "again.csv.gz"
    shutil.copyfile(paths[0], again)
    tables = list(
        extracts(
            engine, local_objects([*paths, again]), schemas.AWS_BILLING_EXTRACT,
            tenant="acme", connection_id="billing", feed="cur",
        )
    )  # fmt: skip
    read = [set(engine.to_arrow(t.select("source_object"))[0].to_pylist()) for t in tables]
    assert [len(r) for r in read] == [OBJECTS_AT_ONCE, 2]
    assert set.union(*read) == {str(p) for p in paths}


def _azure_run(folder: Path, first: date, last: date, run: str) -> None:
    dates = f"{first:%Y%m%d}-{last:%Y%m%d}"
    part = write_bill(folder / dates / run / "part_0_0001.csv", [focus_row()])
    manifest = {
        "exportConfig": {"exportName": "focus", "resourceId": "/subscriptions/s", "type": "FocusCost"},
        "runInfo": {
            "runId": run,
            "submittedTime": run,
            "startDate": f"{first}T00:00:00",
            "endDate": f"{last}T00:00:00",
        },
        "blobs": [{"blobName": f"{dates}/{run}/{part.name}", "byteCount": part.stat().st_size}],
    }
    (part.parent / "manifest.json").write_text(json.dumps(manifest))


def test_selected_dates_of_a_month_that_was_exported_too_are_refused_and_not_counted_twice(tmp_path: Path) -> None:
    _azure_run(tmp_path, date(2026, 10, 1), date(2026, 10, 31), "a")
    _azure_run(tmp_path, date(2026, 10, 10), date(2026, 10, 12), "b")
    found, refused = open_source(_connection(tmp_path, "focus"), LocalAccess()).survey(
        [date(2026, 10, n) for n in range(1, 32)]
    )
    assert [(d.period_start, d.period_end) for d in found] == [
        (date(2026, 10, 1), date(2026, 11, 1)), (date(2026, 10, 10), date(2026, 10, 13)),
    ]  # fmt: skip
    (refusal,) = refused
    assert [n for n in range(1, 32) if refusal.touches([date(2026, 10, n)])] == [10, 11, 12]
    assert "counting both would double them" in refusal.reason


def test_selected_dates_alone_are_a_delivery_of_these_days(tmp_path: Path) -> None:
    _azure_run(tmp_path, date(2026, 10, 29), date(2026, 11, 4), "a")
    _azure_run(tmp_path, date(2026, 11, 5), date(2026, 11, 11), "b")
    source = open_source(_connection(tmp_path, "focus"), LocalAccess())
    found, refused = source.survey([date(2026, 10, 30), date(2026, 11, 9)])
    assert [(d.period_start, d.period_end) for d in found] == [
        (date(2026, 10, 29), date(2026, 11, 5)), (date(2026, 11, 5), date(2026, 11, 12)),
    ]  # fmt: skip
    assert refused == []
