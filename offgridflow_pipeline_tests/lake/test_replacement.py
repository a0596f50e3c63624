"""Replacing partitions: what changes, what stays, what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from offgridflow_pipeline.lake import partition_files, schemas
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline.lake.tables import Lake, LakeWriteError
from offgridflow_pipeline_tests.lake.totals import DATASET, DAYS, TENANT, marks, totals

MONDAY, TUESDAY, WEDNESDAY, _ = DAYS


def test_only_the_named_partitions_change(lake: Lake, engine: Engine) -> None:
    lake.replace(TENANT, DATASET, [MONDAY, TUESDAY], totals({MONDAY: 2, TUESDAY: 3}, "first"), run_id="1")
    lake.replace(TENANT, DATASET, [TUESDAY], totals({TUESDAY: 1}, "second"), run_id="2")
    assert marks(engine, lake) == {MONDAY: {"first": 2}, TUESDAY: {"second": 1}}


def test_a_named_partition_without_rows_becomes_empty(lake: Lake, engine: Engine) -> None:
    lake.replace(TENANT, DATASET, [MONDAY, TUESDAY], totals({MONDAY: 2, TUESDAY: 3}, "first"), run_id="1")
    lake.replace(TENANT, DATASET, [MONDAY, WEDNESDAY], totals({}, "none"), run_id="2")
    assert marks(engine, lake) == {TUESDAY: {"first": 3}}
    assert lake.partitions(TENANT, DATASET) == [TUESDAY.isoformat()]


def test_the_same_replacement_twice_is_the_same_as_once(lake: Lake, engine: Engine) -> None:
    for _ in range(2):
        lake.replace(TENANT, DATASET, [MONDAY], totals({MONDAY: 3}, "again"), run_id="1")
    assert marks(engine, lake) == {MONDAY: {"again": 3}}


def test_a_slice_stays_pinned_to_its_version(lake: Lake, engine: Engine) -> None:
    first = lake.replace(TENANT, DATASET, [MONDAY], totals({MONDAY: 3}, "first"), run_id="1")
    pinned = lake.slice(TENANT, DATASET)
    second = lake.replace(TENANT, DATASET, [MONDAY], totals({MONDAY: 1}, "second"), run_id="2")
    assert second > first == pinned.version
    assert engine.to_arrow(engine.table(pinned).count().as_table())[0][0].as_py() == 3
    assert marks(engine, lake, version=first) == {MONDAY: {"first": 3}}


def test_a_slice_of_some_partitions_holds_no_other(lake: Lake, engine: Engine) -> None:
    lake.replace(TENANT, DATASET, DAYS, totals(dict.fromkeys(DAYS, 2), "all"), run_id="1")
    wanted = engine.table(lake.slice(TENANT, DATASET, [TUESDAY])).usage_date
    assert set(engine.to_arrow(wanted.as_table())[0].to_pylist()) == {TUESDAY}
    nothing = engine.table(lake.slice(TENANT, DATASET, []))
    assert engine.to_arrow(nothing).num_rows == 0


def test_a_table_that_does_not_exist_reads_as_empty_with_its_declared_schema(lake: Lake, engine: Engine) -> None:
    missing = lake.slice(TENANT, DATASET)
    assert missing.version is None
    read = engine.reader(engine.table(missing), schemas.SCOPE_TOTALS).read_all()
    assert read.num_rows == 0
    assert read.schema.names == list(schemas.SCOPE_TOTALS.column_names)
    assert lake.partitions(TENANT, DATASET) == []
    assert lake.stored_schema(TENANT, DATASET) is None


def test_the_stored_columns_are_the_declared_ones(lake: Lake, engine: Engine) -> None:
    lake.replace(TENANT, DATASET, [MONDAY], totals({MONDAY: 1}, "first"), run_id="1")
    stored = lake.stored_schema(TENANT, DATASET)
    assert stored is not None
    assert stored.names == list(schemas.SCOPE_TOTALS.column_names)
    back = engine.reader(engine.table(lake.slice(TENANT, DATASET)), schemas.SCOPE_TOTALS).read_all()
    assert back.cast(schemas.SCOPE_TOTALS.arrow_schema).equals(totals({MONDAY: 1}, "first"))


def test_the_stored_types_of_the_ledger_are_spelled_as_declared(lake: Lake) -> None:
    declared = schemas.EMISSION_LINES.arrow_schema
    lake.replace(TENANT, "emission_lines", [MONDAY], declared.empty_table(), run_id="1")
    stored = lake.stored_schema(TENANT, "emission_lines")
    assert stored is not None
    assert [(f.name, str(f.type)) for f in stored] == [(f.name, str(f.type)) for f in declared]


def test_a_stream_that_can_be_read_only_once_is_written_whole(lake: Lake, engine: Engine) -> None:
    data = totals({MONDAY: 5, TUESDAY: 5}, "stream")
    batches: Iterator[pa.RecordBatch] = iter(data.to_batches(max_chunksize=3))
    stream = pa.RecordBatchReader.from_batches(data.schema, batches)
    lake.replace(TENANT, DATASET, [MONDAY, TUESDAY], stream, run_id="1")
    assert marks(engine, lake) == {MONDAY: {"stream": 5}, TUESDAY: {"stream": 5}}


def test_monthly_tables_are_replaced_by_month(lake: Lake, engine: Engine) -> None:
    def facts(month: str, value: str) -> pa.Table:
        schema = schemas.REPORT_FACTS.arrow_schema
        row = {
            "tenant_id": TENANT, "month": month, "fact_id": "f", "sort_order": 1, "metric": "m",
            "period_start": date(2026, 1, 1), "period_end": date(2026, 1, 31), "dims": "{}",
            "value_type": "number", "value": value, "is_text_block": False,
        }  # fmt: skip
        return pa.table([pa.array([row.get(f.name)], f.type) for f in schema], schema=schema)

    for month in ("2026-09", "2026-10"):
        lake.replace(TENANT, "report_facts", [month], facts(month, "1"), run_id="1")
    lake.replace(TENANT, "report_facts", ["2026-10"], facts("2026-10", "2"), run_id="2")
    table = engine.table(lake.slice(TENANT, "report_facts"))
    rows = engine.to_arrow(table.select("month", "value").order_by("month")).to_pylist()
    assert rows == [{"month": "2026-09", "value": "1"}, {"month": "2026-10", "value": "2"}]


def test_tenants_lie_in_tables_of_their_own(lake: Lake, engine: Engine) -> None:
    lake.replace("acme", DATASET, [MONDAY], totals({MONDAY: 1}, "a"), run_id="1")
    lake.replace("beta", DATASET, [MONDAY], totals({MONDAY: 2}, "b", tenant="beta"), run_id="1")
    lake.replace("beta", DATASET, [MONDAY], totals({}, "b", tenant="beta"), run_id="2")
    assert marks(engine, lake, tenant="acme") == {MONDAY: {"a": 1}}


@pytest.mark.parametrize("tenant", ["", "a", "../other", "acme/..", "Acme", "acme--two", "acme-", "a" * 200])
def test_a_tenant_that_is_no_slug_never_becomes_a_path(lake: Lake, tenant: str) -> None:
    with pytest.raises(LakeWriteError, match="slug"):
        lake.uri(tenant, DATASET)


def _wrong_type() -> pa.Table:
    data = totals({MONDAY: 1}, "x")
    position = data.schema.get_field_index("line_count")
    return data.set_column(position, pa.field("line_count", pa.int32()), pa.array([0], pa.int32()))


def _with_null() -> pa.Table:
    data = totals({MONDAY: 1}, "x")
    position = data.schema.get_field_index("method_id")
    return data.set_column(position, pa.field("method_id", pa.string()), pa.array([None], pa.string()))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (totals({MONDAY: 1, TUESDAY: 1}, "x"), r"usage_date 2026-10-02 lie outside the replaced partitions"),
        (totals({MONDAY: 1}, "x", tenant="beta"), r"rows of another tenant than 'acme' in tenant_id"),
        (totals({MONDAY: 1}, "x").drop_columns(["kwh"]), r"columns kwh: not as declared"),
        (totals({MONDAY: 1}, "x").append_column("extra", pa.array([1])), r"columns extra: not as declared"),
        (_wrong_type(), r"line_count is int32, declared int64: cast it"),
        (_with_null(), r"method_id holds nulls"),
    ],
    ids=["another day", "another tenant", "column missing", "column too many", "wrong type", "null"],
)
@pytest.mark.parametrize("streamed", [False, True], ids=["table", "stream"])
def test_wrong_data_is_refused_and_changes_nothing(
    lake: Lake, engine: Engine, data: pa.Table, message: str, streamed: bool
) -> None:
    before = lake.replace(TENANT, DATASET, [MONDAY], totals({MONDAY: 2}, "old"), run_id="1")
    offered = pa.RecordBatchReader.from_batches(data.schema, data.to_batches()) if streamed else data
    with pytest.raises(LakeWriteError, match=message):
        lake.replace(TENANT, DATASET, [MONDAY], offered, run_id="2")
    assert lake.version(TENANT, DATASET) == before
    assert marks(engine, lake) == {MONDAY: {"old": 2}}


def test_a_replacement_that_names_no_partition_is_refused(lake: Lake) -> None:
    with pytest.raises(LakeWriteError, match="no partitions named"):
        lake.replace(TENANT, DATASET, [], totals({}, "x"), run_id="1")


@pytest.mark.parametrize("text", ["2026-13-01", "2026-10", "20261001", "'; drop", ""])
def test_a_partition_that_is_no_day_is_refused(lake: Lake, text: str) -> None:
    with pytest.raises(LakeWriteError, match="is not a day, YYYY-MM-DD"):
        lake.replace(TENANT, DATASET, [text], totals({}, "x"), run_id="1")


@pytest.mark.parametrize("text", ["2026-13", "2026-1", "2026-10-01", "../2026", ""])
def test_a_partition_that_is_no_month_is_refused(lake: Lake, text: str) -> None:
    empty = schemas.REPORT_FACTS.arrow_schema.empty_table()
    with pytest.raises(LakeWriteError, match="is not a month, YYYY-MM"):
        lake.replace(TENANT, "report_facts", [text], empty, run_id="1")


def test_days_may_be_named_as_iso_text_and_twice(lake: Lake, engine: Engine) -> None:
    lake.replace(TENANT, DATASET, [MONDAY.isoformat(), MONDAY], totals({MONDAY: 2}, "x"), run_id="1")
    count = engine.table(lake.slice(TENANT, DATASET, [MONDAY.isoformat()])).count()
    assert engine.to_arrow(count.as_table())[0].to_pylist() == [2]


@pytest.mark.parametrize("days", [[MONDAY], [MONDAY, TUESDAY]], ids=["one day", "two days"])
def test_a_source_that_breaks_leaves_no_file_behind(lake: Lake, engine: Engine, days: list[date]) -> None:
    lake.replace(TENANT, DATASET, days, totals(dict.fromkeys(days, 1), "old"), run_id="1")
    before = set(Path(lake.uri(TENANT, DATASET)).rglob("*.parquet"))
    data = totals(dict.fromkeys(days, 2), "new")

    def broken() -> Iterator[pa.RecordBatch]:
        yield from data.to_batches()
        raise OSError("the connection was cut")

    with pytest.raises(OSError, match="cut"):
        lake.replace(TENANT, DATASET, days, pa.RecordBatchReader.from_batches(data.schema, broken()), run_id="2")
    assert set(Path(lake.uri(TENANT, DATASET)).rglob("*.parquet")) == before
    assert marks(engine, lake) == {day: {"old": 1} for day in days}


def test_rows_that_wait_on_disk_are_all_written(lake: Lake, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_files, "SPOOL_BYTES", 1)  # every batch goes to the temporary files
    data = totals(dict.fromkeys(DAYS, 50), "spooled")
    shuffled = data.take(pa.array([(n * 67) % data.num_rows for n in range(data.num_rows)]))
    stream = pa.RecordBatchReader.from_batches(data.schema, shuffled.combine_chunks().to_batches(max_chunksize=7))
    lake.replace(TENANT, DATASET, DAYS, stream, run_id="1")
    assert marks(engine, lake) == dict.fromkeys(DAYS, {"spooled": 50})


def test_a_table_stored_with_other_columns_is_refused_and_kept(lake: Lake) -> None:
    older = totals({MONDAY: 1}, "older").drop_columns(["kwh"])
    write_deltalake(lake.uri(TENANT, DATASET), older, partition_by=["usage_date"])
    with pytest.raises(LakeWriteError, match=r"stored with other columns than declared \(kwh\): move the old table"):
        lake.replace(TENANT, DATASET, [MONDAY], totals({MONDAY: 1}, "newer"), run_id="1")
    assert lake.version(TENANT, DATASET) == 0


def test_what_deltalake_reads_back_is_what_was_written(lake: Lake) -> None:
    data = totals({MONDAY: 2, TUESDAY: 1}, "x")
    lake.replace(TENANT, DATASET, [MONDAY, TUESDAY], data, run_id="1")
    delta = DeltaTable(lake.uri(TENANT, DATASET))
    assert (
        delta.to_pyarrow_table()
        .sort_by([("usage_date", "ascending"), ("line_count", "ascending")])
        .cast(data.schema)
        .equals(data)
    )
    assert delta.count() == 3


def test_an_unknown_table_is_refused_with_the_known_names(lake: Lake) -> None:
    with pytest.raises(schemas.UnknownTableError, match="usage_lines"):
        lake.uri(TENANT, "usage_line")
