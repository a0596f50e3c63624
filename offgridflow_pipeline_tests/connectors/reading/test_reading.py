"""Reading: spellings of headers, dialects of files, exact row numbers, nothing lost."""

from __future__ import annotations

import json
import random
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from offgridflow_pipeline.connectors.errors import BillingObjectError
from offgridflow_pipeline.connectors.reading.header import canonical_cur
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline_tests.connectors.bills import (
    CUR_ROW,
    csv_bytes,
    cur_row,
    extracted,
    focus_row,
    write_bill,
    write_bytes,
)


def _records(engine: Engine, rows: ir.Table, *columns: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = engine.to_arrow(
        rows.order_by(["source_object", "source_row"]).select(*columns)
    ).to_pylist()
    return found


@pytest.mark.parametrize(
    ("delivered", "canonical"),
    [
        ("lineItem/UsageAmount", "line_item_usage_amount"),
        ("line_item_usage_amount", "line_item_usage_amount"),
        ("LineItem/UsageAmount", "line_item_usage_amount"),
        ("lineItem/LineItemType", "line_item_line_item_type"),
        ("savingsPlan/SavingsPlanARN", "savings_plan_savings_plan_a_r_n"),
        ("reservation/ReservationARN", "reservation_reservation_a_r_n"),
        ("product/instanceType", "product_instance_type"),
        ("product/ProductName", "product_product_name"),
        ("identity/TimeInterval", "identity_time_interval"),
        ("pricing/publicOnDemandCost", "pricing_public_on_demand_cost"),
        (" bill/PayerAccountId ", "bill_payer_account_id"),
    ],
)
def test_every_spelling_of_a_cur_header_gives_one_name(delivered: str, canonical: str) -> None:
    assert canonical_cur(delivered) == canonical


def test_legacy_and_snake_headers_give_the_same_rows(engine: Engine, tmp_path: Path) -> None:
    legacy = write_bill(tmp_path / "legacy.csv", [cur_row()])
    snake = write_bill(tmp_path / "snake.csv", [{canonical_cur(k): v for k, v in cur_row().items()}])
    first, second = (
        _records(engine, extracted(engine, p, "cur"), "line_item_usage_amount", "source_row_hash")
        for p in (legacy, snake)
    )
    assert first == second


def test_columns_are_bound_by_name_and_not_by_position(engine: Engine, tmp_path: Path) -> None:
    turned = list(reversed(CUR_ROW))
    straight = write_bill(tmp_path / "a.csv", [cur_row(extra__Two="2", extra__One="1")])
    reverse = write_bill(
        tmp_path / "b.csv", [cur_row(extra__Two="2", extra__One="1")], ["extra/One", *turned, "extra/Two"]
    )
    columns = ("line_item_unblended_cost", "source_row_hash", "other_columns")
    assert _records(engine, extracted(engine, straight, "cur"), *columns) == _records(
        engine, extracted(engine, reverse, "cur"), *columns
    )


def test_a_byte_order_mark_other_capitals_and_blanks_do_not_matter(engine: Engine, tmp_path: Path) -> None:
    head, _, body = csv_bytes([focus_row()]).decode().partition("\n")
    shouted = ",".join(f" {name.upper()} " for name in head.split(","))
    path = write_bytes(tmp_path / "bill.csv", f"\ufeff{shouted}\n{body}".encode())
    (row,) = _records(engine, extracted(engine, path, "focus"), "BilledCost", "ServiceProviderName")
    assert row == {"BilledCost": "4.6", "ServiceProviderName": "Microsoft"}


def test_unknown_columns_are_kept_as_json_when_they_hold_something(engine: Engine, tmp_path: Path) -> None:
    row = focus_row(x_Odd='a "quoted" \\ value', x_Empty="")
    (kept,) = _records(engine, extracted(engine, write_bill(tmp_path / "bill.csv", [row]), "focus"), "other_columns")
    assert json.loads(kept["other_columns"])["x_Odd"] == 'a "quoted" \\ value'
    assert "x_Empty" not in json.loads(kept["other_columns"])


def test_tags_of_a_legacy_report_become_one_map(engine: Engine, tmp_path: Path) -> None:
    row = cur_row(**{"resourceTags/user:team": "search", "resourceTags/user:empty": ""})
    (kept,) = _records(engine, extracted(engine, write_bill(tmp_path / "b.csv", [row]), "cur"), "resource_tags")
    assert json.loads(kept["resource_tags"]) == {"user:team": "search"}


def test_a_bound_column_that_occurs_twice_is_refused(engine: Engine, tmp_path: Path) -> None:
    head, _, body = csv_bytes([cur_row()]).decode().partition("\n")
    path = write_bytes(tmp_path / "twice.csv", f"{head},lineItem/UsageAmount\n{body.strip()},9\n".encode())
    with pytest.raises(BillingObjectError, match="the column occurs twice") as caught:
        extracted(engine, path, "cur")
    assert caught.value.column == "lineItem/UsageAmount"


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False], ids=["last line ended", "last line open"])
def test_line_ends_of_both_kinds_are_read(engine: Engine, tmp_path: Path, ending: str, last: bool) -> None:
    text = csv_bytes([cur_row(), cur_row(lineItem__UsageAmount="2")]).decode().replace("\n", ending)
    path = write_bytes(tmp_path / "bill.csv", (text if last else text.removesuffix(ending)).encode())
    rows = _records(engine, extracted(engine, path, "cur"), "source_row", "line_item_usage_amount", "pricing_unit")
    assert [(r["source_row"], r["line_item_usage_amount"], r["pricing_unit"]) for r in rows] == [
        (1, "24.0", "Hrs"), (2, "2", "Hrs"),
    ]  # fmt: skip


def test_quoted_commas_quotes_and_line_breaks_stay_in_their_cell(engine: Engine, tmp_path: Path) -> None:
    odd = 'a, "b"\nc'
    path = write_bill(tmp_path / "bill.csv", [cur_row(lineItem__ResourceId=odd), cur_row()])
    rows = _records(engine, extracted(engine, path, "cur"), "source_row", "line_item_resource_id")
    assert rows == [
        {"source_row": 1, "line_item_resource_id": odd},
        {"source_row": 2, "line_item_resource_id": "i-0abc"},
    ]


def test_the_word_null_means_nothing_in_focus_files_only(engine: Engine, tmp_path: Path) -> None:
    focus = write_bill(tmp_path / "f.csv", [focus_row(ResourceId="NULL", ServiceName="")])
    (row,) = _records(engine, extracted(engine, focus, "focus"), "ResourceId", "ServiceName")
    assert row == {"ResourceId": None, "ServiceName": None}
    cur = write_bill(tmp_path / "c.csv", [cur_row(lineItem__ResourceId="NULL")])
    (row,) = _records(engine, extracted(engine, cur, "cur"), "line_item_resource_id")
    assert row == {"line_item_resource_id": "NULL"}


def test_account_ids_keep_their_leading_zeros(engine: Engine, tmp_path: Path) -> None:
    (row,) = _records(
        engine, extracted(engine, write_bill(tmp_path / "b.csv", [cur_row()]), "cur"), "bill_payer_account_id"
    )
    assert row["bill_payer_account_id"] == "000011112222"


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_row_numbers_are_exact_with_several_threads(tmp_path: Path, suffix: str) -> None:
    count = 60_000
    padding = "p" * 600  # more than one buffer of the parallel reader
    rows = [cur_row(lineItem__ResourceId=f"{n}-{padding}") for n in range(1, count + 1)]
    path = write_bill(tmp_path / f"bill{suffix}", rows)
    assert suffix == ".csv.gz" or path.stat().st_size > 2 * 16 * 2**20
    with Engine(memory_mb=512, threads=2, temp_dir=tmp_path) as engine:
        read = extracted(engine, path, "cur")
        wrong = read.filter(read.line_item_resource_id.split("-")[0] != read.source_row.cast("string"))
        assert engine.to_arrow(read.count().as_table())[0].to_pylist() == [count]
        assert engine.to_arrow(wrong).num_rows == 0


def test_parquet_and_csv_of_the_same_rows_give_the_same_extract(engine: Engine, tmp_path: Path) -> None:
    values = {canonical_cur(k): v for k, v in cur_row().items()}
    as_csv = write_bill(tmp_path / "bill.csv", [values])
    columns: dict[str, pa.Array] = {k: pa.array([v]) for k, v in values.items()}
    columns["line_item_usage_amount"] = pa.array([24.0])
    for name in ("line_item_usage_start_date", "line_item_usage_end_date"):
        columns[name] = pa.array([datetime.fromisoformat(values[name])], pa.timestamp("ms", tz="UTC"))
    pq.write_table(pa.table(columns), tmp_path / "bill.parquet")
    wanted = ("usage_date", "line_item_usage_amount", "line_item_usage_start_date", "source_row", "source_row_hash")
    first, second = (
        _records(engine, extracted(engine, p, "cur2"), *wanted) for p in (as_csv, tmp_path / "bill.parquet")
    )
    assert first == second


def test_maps_of_cur_2_fill_columns_that_are_not_delivered(engine: Engine, tmp_path: Path) -> None:
    values = {canonical_cur(k): v for k, v in cur_row().items() if not k.startswith("product/")}
    text_map = pa.map_(pa.string(), pa.string())
    columns: dict[str, pa.Array] = {k: pa.array([v]) for k, v in values.items()}
    columns["product"] = pa.array([[("instance_type", "c5.large"), ("region", "eu-west-1")]], text_map)
    columns["resource_tags"] = pa.array([[("user_team", "search")]], text_map)
    pq.write_table(pa.table(columns), tmp_path / "bill.parquet")
    (row,) = _records(
        engine, extracted(engine, tmp_path / "bill.parquet", "cur2"),
        "product_instance_type", "product_region", "resource_tags",
    )  # fmt: skip
    assert (row["product_instance_type"], row["product_region"]) == ("c5.large", "eu-west-1")
    assert json.loads(row["resource_tags"]) == {"user_team": "search"}


@pytest.mark.parametrize("feed", ["cur", "focus"])
def test_hashes_ignore_order_volatile_columns_and_the_spelling_of_numbers(
    engine: Engine, tmp_path: Path, feed: str
) -> None:
    first, second = {
        "cur": (
            cur_row(),
            cur_row(identity__LineItemId="other", bill__InvoiceId="77", lineItem__UsageAmount="2.4E1"),
        ),
        "focus": (
            focus_row(InvoiceId="", x_ExportTime="1"),
            focus_row(InvoiceId="7", x_ExportTime="2", ConsumedQuantity="24.00", ServiceName=" Virtual Machines "),
        ),
    }[feed]
    hashes = [
        _records(engine, extracted(engine, write_bill(tmp_path / f"{n}.csv", [row]), feed), "source_row_hash")
        for n, row in enumerate((first, second))
    ]
    assert hashes[0] == hashes[1]


def test_the_day_of_a_row_is_the_utc_date_of_its_charge_period(engine: Engine, tmp_path: Path) -> None:
    starts = {
        "2026-10-05T00:00:00Z": date(2026, 10, 5),
        "2026-10-05 23:59:59": date(2026, 10, 5),
        "2026-10-05T23:30:00-02:00": date(2026, 10, 6),
        "2026-10-05T00:30:00+02:00": date(2026, 10, 4),
        "2026-10-05": date(2026, 10, 5),
    }
    path = write_bill(tmp_path / "bill.csv", [focus_row(ChargePeriodStart=s) for s in starts])
    assert [r["usage_date"] for r in _records(engine, extracted(engine, path, "focus"), "usage_date")] == [
        *starts.values()
    ]


def test_sums_over_shuffled_parts_equal_a_plain_sum(engine: Engine, tmp_path: Path) -> None:
    chance = random.Random(7)
    costs = [Decimal(chance.randrange(-(10**12), 10**12)).scaleb(-10) for _ in range(500)]
    rows = [cur_row(lineItem__UnblendedCost=f"{c:f}", lineItem__ResourceId=str(n)) for n, c in enumerate(costs)]
    chance.shuffle(rows)
    parts = [write_bill(tmp_path / f"{n}.csv.gz", rows[n::7]) for n in range(7)]
    read = extracted(engine, parts, "cur")
    total = read.line_item_unblended_cost.cast("decimal(38, 18)").sum()
    assert engine.to_arrow(total.as_table())[0].to_pylist() == [sum(costs)]


def test_lineage_says_where_each_row_came_from(engine: Engine, tmp_path: Path) -> None:
    path = write_bill(tmp_path / "bill.csv", [cur_row()])
    (row,) = _records(
        engine, extracted(engine, path, "cur"), "tenant_id", "connection_id", "feed", "source_object", "extracted_at"
    )
    assert row == {
        "tenant_id": "acme", "connection_id": "billing", "feed": "cur", "source_object": str(path),
        "extracted_at": datetime(2026, 11, 23, tzinfo=UTC),
    }  # fmt: skip
