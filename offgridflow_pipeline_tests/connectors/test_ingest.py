"""Bills into the lake: restatements replace, bad deliveries leave the old days, S3 behaves like a folder."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from offgridflow_pipeline.connectors.connections import Connection
from offgridflow_pipeline.connectors.deliveries import deliveries
from offgridflow_pipeline.connectors.errors import DeliveryError
from offgridflow_pipeline.connectors.ingest import Ingested, ingest_days
from offgridflow_pipeline.connectors.location import download, list_objects
from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline.lake.objects import RawObjects
from offgridflow_pipeline.lake.tables import Lake
from offgridflow_pipeline_tests.connectors.bills import (
    CUR_ROW,
    cur_row,
    focus_row,
    write_bill,
    write_cur_delivery,
)
from offgridflow_pipeline_tests.counterparts.s3 import S3Server

OCTOBER = [date(2026, 10, 1) + timedelta(days=n) for n in range(31)]
SEPTEMBER = [date(2026, 9, 1) + timedelta(days=n) for n in range(30)]
FIFTH, SIXTH = date(2026, 10, 5), date(2026, 10, 6)


class Bench:
    """A tenant with one lake; `run` ingests its connections."""

    def __init__(self, engine: Engine, lake: Lake, root: Path) -> None:
        self.engine, self.lake, self.root = engine, lake, root
        self.raw = RawObjects(str(root / "lake"))

    def run(
        self,
        uri: Path | str,
        days: Sequence[date] = OCTOBER,
        kind: str = "cur",
        table: schemas.Table = schemas.AWS_BILLING_EXTRACT,
    ) -> Ingested:
        connection = Connection(id="billing", kind=kind, uri=str(uri))
        return ingest_days(
            self.engine, self.lake, self.raw, table=table, tenant="acme", connections=[connection], days=days, run_id="run",
        )  # fmt: skip

    def costs(
        self, table: str = "aws_billing_extract", column: str = "line_item_unblended_cost"
    ) -> dict[date, list[Decimal]]:
        rows = self.engine.table(self.lake.slice("acme", table))
        found: dict[date, list[Decimal]] = {}
        for row in self.engine.to_arrow(rows.select("usage_date", cost=rows[column])).to_pylist():
            found.setdefault(row["usage_date"], []).append(Decimal(row["cost"]))
        return {day: sorted(costs) for day, costs in found.items()}


@pytest.fixture
def bench(engine: Engine, lake: Lake, tmp_path: Path) -> Bench:
    return Bench(engine, lake, tmp_path)


def _on(day: date, cost: str, **changed: str) -> dict[str, str]:
    interval = f"{day}T00:00:00Z/{day + timedelta(days=1)}T00:00:00Z"
    return cur_row(identity__TimeInterval=interval, lineItem__UnblendedCost=cost, **changed)


def test_a_delivery_fills_its_days_and_says_what_was_read(bench: Bench, tmp_path: Path) -> None:
    write_cur_delivery(tmp_path / "bills", [[_on(FIFTH, "1"), _on(FIFTH, "2")], [_on(SIXTH, "4")]])
    result = bench.run(tmp_path / "bills")
    assert bench.costs() == {FIFTH: [1, 2], SIXTH: [4]}
    assert result.refused == {}
    assert [s["row_count"] for s in result.snapshots] == [2, 1]
    for snapshot in result.snapshots:
        assert snapshot["billing_period"] == date(2026, 10, 1)
        with bench.raw.local_path("acme", snapshot["sha256"]) as kept:
            assert kept.read_bytes() == Path(snapshot["uri"]).read_bytes()


def test_a_restated_delivery_replaces_the_period_and_is_never_added(bench: Bench, tmp_path: Path) -> None:
    write_cur_delivery(tmp_path / "bills", [[_on(FIFTH, "1")], [_on(SIXTH, "4")]], assembly="a1")
    bench.run(tmp_path / "bills")
    write_cur_delivery(tmp_path / "bills", [[_on(FIFTH, "1.5")]], assembly="a2")
    bench.run(tmp_path / "bills")
    assert bench.costs() == {FIFTH: [Decimal("1.5")]}


def test_the_same_delivery_again_changes_no_row(bench: Bench, tmp_path: Path) -> None:
    write_cur_delivery(tmp_path / "bills", [[_on(FIFTH, "1"), _on(FIFTH, "1")]])
    for _ in range(3):
        bench.run(tmp_path / "bills")
    assert bench.costs() == {FIFTH: [1, 1]}


def test_only_the_days_asked_for_are_replaced(bench: Bench, tmp_path: Path) -> None:
    write_cur_delivery(tmp_path / "bills", [[_on(FIFTH, "1"), _on(SIXTH, "4")]], assembly="a1")
    bench.run(tmp_path / "bills")
    write_cur_delivery(tmp_path / "bills", [[_on(FIFTH, "2"), _on(SIXTH, "8")]], assembly="a2")
    bench.run(tmp_path / "bills", [SIXTH])
    assert bench.costs() == {FIFTH: [1], SIXTH: [8]}


def test_the_same_file_under_two_names_counts_once_with_a_notice(bench: Bench, tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        write_bill(tmp_path / "bills" / name, [_on(FIFTH, "1")])
    result = bench.run(tmp_path / "bills")
    assert bench.costs() == {FIFTH: [1]}
    assert len(result.notices) == 1
    assert "b.csv has the same bytes as" in result.notices[0]


def test_a_row_outside_the_billing_period_refuses_the_delivery_and_keeps_the_old_days(
    bench: Bench, tmp_path: Path
) -> None:
    write_cur_delivery(tmp_path / "bills", [[_on(FIFTH, "1")]], assembly="a1")
    bench.run(tmp_path / "bills")
    stranger = _on(date(2026, 9, 30), "7")
    write_cur_delivery(tmp_path / "bills", [[_on(FIFTH, "2"), stranger]], assembly="a2")
    result = bench.run(tmp_path / "bills")
    assert bench.costs() == {FIFTH: [1]}
    assert set(result.refused) == set(OCTOBER)
    message = result.refused[FIFTH]
    assert "report-00001.csv.gz, row 2" in message
    assert "2026-09-30, outside the billing period 2026-10-01 to 2026-11-01" in message


@pytest.mark.parametrize("damage", ["truncated", "not a number", "column missing", "wrong manifest"])
def test_a_bad_delivery_leaves_its_days_and_other_months_are_written(bench: Bench, tmp_path: Path, damage: str) -> None:
    bills = tmp_path / "bills"
    write_cur_delivery(bills, [[_on(FIFTH, "1")]], assembly="a1")
    bench.run(bills)
    september = _on(SEPTEMBER[0], "3", bill__BillingPeriodStartDate="2026-09-01T00:00:00Z")
    write_cur_delivery(bills, [[september]], period="20260901-20261001")
    manifest = write_cur_delivery(bills, [[_on(FIFTH, "2")]], assembly="a2")
    part = manifest.parent / "report-00001.csv.gz"
    if damage == "truncated":
        part.write_bytes(part.read_bytes()[:-20])
    elif damage == "not a number":
        write_bill(part, [_on(FIFTH, "2"), _on(FIFTH, "NaN")], header=list(CUR_ROW))
    elif damage == "column missing":
        write_bill(part, [{k: v for k, v in _on(FIFTH, "2").items() if k != "lineItem/UsageType"}])
    else:
        part.unlink()
    result = bench.run(bills, [*SEPTEMBER, *OCTOBER])
    assert FIFTH in result.refused
    assert "report-00001.csv.gz" in result.refused[FIFTH]
    assert bench.costs()[FIFTH] == [1]
    if damage != "wrong manifest":
        assert bench.costs() == {FIFTH: [1], SEPTEMBER[0]: [3]}
        assert set(result.refused) == set(OCTOBER)


def test_a_bad_file_of_one_connection_does_not_stop_the_other_feed(bench: Bench, tmp_path: Path) -> None:
    write_bill(tmp_path / "cur" / "bill.csv", [_on(FIFTH, "free")])
    write_bill(tmp_path / "focus" / "bill.csv", [focus_row()])
    assert bench.run(tmp_path / "cur").refused
    result = bench.run(tmp_path / "focus", kind="focus", table=schemas.FOCUS_BILLING_EXTRACT)
    assert result.refused == {}
    assert bench.costs("focus_billing_extract", "BilledCost") == {FIFTH: [Decimal("4.6")]}


def test_a_header_only_delivery_empties_its_days(bench: Bench, tmp_path: Path) -> None:
    write_cur_delivery(tmp_path / "bills", [[_on(FIFTH, "1")]], assembly="a1")
    bench.run(tmp_path / "bills")
    write_cur_delivery(tmp_path / "bills", [[]], assembly="a2")
    assert bench.run(tmp_path / "bills").refused == {}
    assert bench.costs() == {}


def test_a_shuffled_and_rechunked_delivery_gives_the_same_rows(bench: Bench, tmp_path: Path) -> None:
    rows = [_on(OCTOBER[n % 31], str(n), lineItem__ResourceId=f"i-{n}") for n in range(120)]
    write_cur_delivery(tmp_path / "bills", [rows], assembly="a1")
    bench.run(tmp_path / "bills")
    before = bench.costs()
    random.Random(3).shuffle(rows)
    write_cur_delivery(tmp_path / "bills", [rows[n::7] for n in range(7)], assembly="a2")
    bench.run(tmp_path / "bills")
    assert bench.costs() == before


@pytest.fixture
def bucket(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3.new_bucket()


def _upload(s3: S3Server, bucket: str, folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            key = f"prefix/report/{path.relative_to(folder).as_posix()}"
            s3.client().put_object(Bucket=bucket, Key=key, Body=path.read_bytes())


def test_a_delivery_on_s3_is_listed_fetched_and_written(
    bench: Bench, s3: S3Server, bucket: str, tmp_path: Path
) -> None:
    write_cur_delivery(tmp_path / "bills", [[_on(FIFTH, "1")], [_on(SIXTH, "4")]])
    _upload(s3, bucket, tmp_path / "bills")
    result = bench.run(f"s3://{bucket}/prefix/report")
    assert result.refused == {}
    assert bench.costs() == {FIFTH: [1], SIXTH: [4]}
    head = s3.client().head_object(Bucket=bucket, Key="prefix/report/20261001-20261101/report-00001.csv.gz")
    assert result.snapshots[0]["etag"] == head["ETag"]
    assert result.snapshots[0]["uri"].startswith(f"s3://{bucket}/prefix/report/")


def test_an_object_overwritten_between_listing_and_reading_is_refused(
    s3: S3Server, bucket: str, tmp_path: Path
) -> None:
    write_cur_delivery(tmp_path / "bills", [[_on(FIFTH, "1")]])
    _upload(s3, bucket, tmp_path / "bills")
    connection = Connection(id="billing", kind="cur", uri=f"s3://{bucket}/prefix")
    (delivery,) = deliveries(connection, OCTOBER)
    write_cur_delivery(tmp_path / "bills", [[_on(FIFTH, "2")]])
    _upload(s3, bucket, tmp_path / "bills")
    with pytest.raises(DeliveryError, match="changed while it was read: run again"):
        download(delivery.objects[0], tmp_path / "fetched")


def test_an_empty_prefix_is_said_so(bucket: str) -> None:
    with pytest.raises(DeliveryError, match=f"s3://{bucket}/none holds no object"):
        list_objects(f"s3://{bucket}/none")


def test_a_local_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = write_bill(tmp_path / "bill.csv", [cur_row()])
    (listed,) = list_objects(str(path))
    write_bill(path, [cur_row(), cur_row()])
    with pytest.raises(DeliveryError, match="changed while it was read"):
        download(listed, tmp_path / "copy.csv")
