"""Bills into the lake: restatements replace, bad deliveries leave the old days, S3 behaves like a folder."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import SecretStr

from offgridflow_pipeline.connectors.access import Access, AwsAccess, LocalAccess
from offgridflow_pipeline.connectors.connections import Connection
from offgridflow_pipeline.connectors.deliveries.listing import Delivery, Refused
from offgridflow_pipeline.connectors.errors import AccessDeniedError
from offgridflow_pipeline.connectors.ingest import Ingested, ingest_days
from offgridflow_pipeline.connectors.sources import Source, open_source
from offgridflow_pipeline.connectors.stores import StoredObject
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
from offgridflow_pipeline_tests.counterparts.s3 import CREDENTIAL, REGION, S3Server

OCTOBER = [date(2026, 10, 1) + timedelta(days=n) for n in range(31)]
SEPTEMBER = [date(2026, 9, 1) + timedelta(days=n) for n in range(30)]
FIFTH, SIXTH = date(2026, 10, 5), date(2026, 10, 6)


class CountingSource:
    """A source that counts what is asked of it."""

    def __init__(self, source: Source, fetched: list[str]) -> None:
        self._source, self._fetched = source, fetched

    def survey(self, days: Sequence[date]) -> tuple[list[Delivery], list[Refused]]:
        return self._source.survey(days)

    def fetch(self, item: StoredObject, target: Path) -> None:
        self._fetched.append(item.uri)
        self._source.fetch(item, target)


class Bench:
    """A tenant with one lake; `run` ingests its connections."""

    def __init__(self, engine: Engine, lake: Lake, root: Path) -> None:
        self.engine, self.lake, self.root = engine, lake, root
        self.raw = RawObjects(str(root / "lake"))
        self.access: Access = LocalAccess()
        self.fetched: list[str] = []

    def open(self, connection: Connection) -> Source:
        return CountingSource(open_source(connection, self.access), self.fetched)

    def run(
        self,
        uri: Path | str,
        days: Sequence[date] = OCTOBER,
        kind: str = "cur",
        table: schemas.Table = schemas.AWS_BILLING_EXTRACT,
    ) -> Ingested:
        return self.run_all([Connection(id="billing", kind=kind, uri=str(uri))], days, table)

    def run_all(
        self,
        connections: Sequence[Connection],
        days: Sequence[date] = OCTOBER,
        table: schemas.Table = schemas.AWS_BILLING_EXTRACT,
        paused: Sequence[str] = (),
        only: str | None = None,
    ) -> Ingested:
        return ingest_days(
            self.engine, self.lake, self.raw, table=table, tenant="acme", connections=connections,
            open_source=self.open, days=days, run_id="run", paused=paused, only=only,
        )  # fmt: skip

    def version(self) -> int | None:
        return self.lake.version("acme", "aws_billing_extract")

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
    first = bench.run(tmp_path / "bills")
    assert first.committed == [FIFTH]
    for _ in range(2):
        again = bench.run(tmp_path / "bills")
        assert (again.committed, again.lake_version) == ([], first.lake_version)
        assert again.digests == first.digests
    assert bench.costs() == {FIFTH: [1, 1]}
    assert bench.version() == first.lake_version


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
    version = bench.version()
    random.Random(3).shuffle(rows)
    write_cur_delivery(tmp_path / "bills", [rows[n::7] for n in range(7)], assembly="a2")
    assert bench.run(tmp_path / "bills").committed == []
    assert bench.costs() == before
    assert bench.version() == version


def test_a_delivery_that_restates_three_days_commits_exactly_these_in_one_version(bench: Bench, tmp_path: Path) -> None:
    rows = [_on(day, "2") for day in OCTOBER]
    write_cur_delivery(tmp_path / "bills", [rows], assembly="a1")
    version = bench.run(tmp_path / "bills").lake_version
    for n in (3, 4, 20):
        rows[n] = _on(OCTOBER[n], "2.5")
    write_cur_delivery(tmp_path / "bills", [rows], assembly="a2")
    result = bench.run(tmp_path / "bills")
    assert result.committed == [OCTOBER[3], OCTOBER[4], OCTOBER[20]]
    assert version is not None
    assert result.lake_version == version + 1
    assert [day for day, costs in sorted(bench.costs().items()) if costs == [Decimal("2.5")]] == result.committed


def test_an_invoice_number_that_arrives_later_changes_no_day(bench: Bench, tmp_path: Path) -> None:
    write_cur_delivery(tmp_path / "bills", [[_on(FIFTH, "1", bill__InvoiceId="")]], assembly="a1")
    bench.run(tmp_path / "bills")
    write_cur_delivery(tmp_path / "bills", [[_on(FIFTH, "1", bill__InvoiceId="2026-1")]], assembly="a2")
    assert bench.run(tmp_path / "bills").committed == []


def test_a_month_of_days_reads_each_object_once(bench: Bench, tmp_path: Path) -> None:
    parts = [[_on(day, "1")] for day in OCTOBER[:4]]
    write_cur_delivery(tmp_path / "bills", parts)
    bench.run(tmp_path / "bills")
    assert sorted(bench.fetched) == sorted(str(p) for p in (tmp_path / "bills").rglob("*.csv.gz"))


def test_a_connection_that_fails_keeps_its_days_and_says_so_on_itself(bench: Bench, tmp_path: Path) -> None:
    write_bill(tmp_path / "good" / "bill.csv", [_on(FIFTH, "1")])
    good = Connection(id="good", kind="cur", uri=str(tmp_path / "good"))
    bench.run_all([good])
    broken = Connection(id="broken", kind="cur2", uri=str(tmp_path / "nowhere"))
    result = bench.run_all([good, broken])
    assert set(result.refused) == set(OCTOBER)
    assert result.failures["good"] is None
    assert "nowhere" in str(result.failures["broken"])
    assert bench.costs() == {FIFTH: [1]}


def test_a_paused_connection_keeps_its_rows_and_a_removed_one_does_not(bench: Bench, tmp_path: Path) -> None:
    both = []
    for number, name in enumerate(("one", "two"), start=1):
        write_bill(tmp_path / name / "bill.csv", [_on(FIFTH, str(number))])
        both.append(Connection(id=name, kind="cur", uri=str(tmp_path / name)))
    bench.run_all(both)
    write_bill(tmp_path / "one" / "bill.csv", [_on(FIFTH, "7")])
    result = bench.run_all(both[:1], paused=["two"])
    assert bench.costs() == {FIFTH: [2, 7]}
    assert set(result.digests) == {("one", FIFTH)}
    assert result.kept == {"two"}
    bench.run_all(both[:1])
    assert bench.costs() == {FIFTH: [7]}


def test_a_restatement_of_one_connection_changes_no_row_of_another(bench: Bench, tmp_path: Path) -> None:
    both = []
    for number, name in enumerate(("one", "two"), start=1):
        write_bill(tmp_path / name / "bill.csv", [_on(FIFTH, str(number))])
        both.append(Connection(id=name, kind="cur", uri=str(tmp_path / name)))
    bench.run_all(both)
    for name in ("one", "two"):
        write_bill(tmp_path / name / "bill.csv", [_on(FIFTH, "7")])
    result = bench.run_all(both, only="one")
    assert bench.costs() == {FIFTH: [2, 7]}
    assert result.kept == {"two"}


def test_a_denied_connection_is_refused_with_the_missing_permission(bench: Bench, tmp_path: Path) -> None:
    def denied(_: Connection) -> Source:
        raise AccessDeniedError("s3:ListBucket on bills is missing: add it to the role.")

    bench.open = denied  # type: ignore[method-assign]
    result = bench.run(tmp_path)
    assert set(result.refused.values()) == {"s3:ListBucket on bills is missing: add it to the role."}
    assert bench.version() is None


def test_a_reconciling_feed_is_not_read_into_the_bill(bench: Bench, tmp_path: Path) -> None:
    write_bill(tmp_path / "bills" / "bill.csv", [_on(FIFTH, "1")])
    other = Connection(id="other", kind="cur", uri=str(tmp_path / "bills"), role="reconciliation")
    assert bench.run_all([other]).failures == {}
    assert bench.costs() == {}


def test_the_state_of_a_period_advances_only_when_all_its_days_are_read(bench: Bench, tmp_path: Path) -> None:
    write_cur_delivery(tmp_path / "bills", [[_on(FIFTH, "1"), _on(SIXTH, "2")]])
    assert bench.run(tmp_path / "bills", [FIFTH]).states == {"billing": {}}
    (unit,) = bench.run(tmp_path / "bills").states["billing"]
    assert unit == "2026-10-01/2026-11-01"


def _upload(s3: S3Server, bucket: str, folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            key = f"prefix/report/{path.relative_to(folder).as_posix()}"
            s3.client().put_object(Bucket=bucket, Key=key, Body=path.read_bytes())


def test_a_delivery_on_s3_is_listed_fetched_and_written(bench: Bench, s3: S3Server, tmp_path: Path) -> None:
    bucket = s3.new_bucket()
    bench.access = AwsAccess(
        access_key_id=CREDENTIAL, secret_access_key=SecretStr(CREDENTIAL), region=REGION, endpoint_url=s3.endpoint
    )
    write_cur_delivery(tmp_path / "bills", [[_on(FIFTH, "1")], [_on(SIXTH, "4")]])
    _upload(s3, bucket, tmp_path / "bills")
    result = bench.run(f"s3://{bucket}/prefix/report")
    assert result.refused == {}
    assert bench.costs() == {FIFTH: [1], SIXTH: [4]}
    head = s3.client().head_object(Bucket=bucket, Key="prefix/report/20261001-20261101/report-00001.csv.gz")
    assert result.snapshots[0]["etag"] == head["ETag"]
    assert result.snapshots[0]["uri"].startswith(f"s3://{bucket}/prefix/report/")
