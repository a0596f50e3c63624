"""Bad bills: refused with file, row, column and cure, or counted the way the method says."""

from __future__ import annotations

import gzip
import random
import struct
import time
import zlib
from decimal import Decimal
from pathlib import Path

import pytest

from offgridflow_pipeline.connectors.errors import BillingObjectError
from offgridflow_pipeline.connectors.reading.extracts import ReadLimits
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline_tests.connectors.bills import (
    csv_bytes,
    cur_row,
    extracted,
    focus_row,
    write_bill,
    write_bytes,
)

FEEDS = pytest.mark.parametrize(("feed", "row"), [("cur", cur_row()), ("focus", focus_row())], ids=["cur", "focus"])
SUFFIXES = pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])


def _refusal(engine: Engine, path: Path, feed: str = "cur", limits: ReadLimits | None = None) -> BillingObjectError:
    """The error of a refused object; every one names the file and a cure."""
    with pytest.raises(BillingObjectError) as caught:
        extracted(engine, path, feed, limits=limits)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.rstrip(".").rpartition(". ")[2].split()[0] in {
        "Add", "Check", "Correct", "Deliver", "Export", "Remove", "Split",
    }  # fmt: skip
    return caught.value


def _rows(count: int) -> list[dict[str, str]]:
    noise = random.Random(1)
    return [cur_row(lineItem__ResourceId=f"i-{noise.getrandbits(128):032x}") for _ in range(count)]


@pytest.mark.parametrize("kept", [0.2, 0.9, 0.999])
def test_a_cut_off_gzip_file_is_refused_and_never_read_in_part(engine: Engine, tmp_path: Path, kept: float) -> None:
    whole = gzip.compress(csv_bytes(_rows(20_000)), mtime=0)
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(whole[: int(len(whole) * kept)])
    assert "the gzip stream is damaged or cut off" in str(_refusal(engine, path))


def test_a_gzip_file_without_its_trailer_is_refused(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(gzip.compress(csv_bytes(_rows(2000)), mtime=0)[:-8])
    assert "the gzip stream is damaged or cut off" in str(_refusal(engine, path))


def test_a_damaged_gzip_file_is_refused(engine: Engine, tmp_path: Path) -> None:
    content = bytearray(gzip.compress(csv_bytes(_rows(2000)), mtime=0))
    for position in range(len(content) // 2, len(content) // 2 + 200):
        content[position] ^= 0xFF
    path = tmp_path / "damaged.csv.gz"
    path.write_bytes(content)
    _refusal(engine, path)


def test_text_in_another_encoding_is_refused_with_its_row(engine: Engine, tmp_path: Path) -> None:
    rows = [cur_row(), cur_row(), cur_row(lineItem__ResourceId="Straße"), cur_row()]
    path = write_bytes(tmp_path / "latin.csv", csv_bytes(rows).decode().encode("latin-1"))
    refusal = _refusal(engine, path)
    assert "the text is not UTF-8" in str(refusal)
    assert refusal.row == 3


@SUFFIXES
def test_another_encoding_far_into_the_file_is_refused(engine: Engine, tmp_path: Path, suffix: str) -> None:
    rows = [*_rows(8000), cur_row(lineItem__ResourceId="Straße"), *_rows(10)]
    content = csv_bytes(rows).decode().encode("latin-1")
    assert len(content) > 2**20
    refusal = _refusal(engine, write_bytes(tmp_path / f"latin{suffix}", content))
    assert "the text is not UTF-8" in str(refusal)


def test_utf_16_is_refused(engine: Engine, tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "wide.csv", csv_bytes([cur_row()]).decode().encode("utf-16"))
    assert "is not UTF-8" in str(_refusal(engine, path))


@pytest.mark.parametrize(
    ("feed", "row", "column"),
    [
        ("cur", {k: v for k, v in cur_row().items() if k != "lineItem/UsageAmount"}, "line_item_usage_amount"),
        ("focus", {k: v for k, v in focus_row().items() if k != "BilledCost"}, "BilledCost"),
        ("focus", {"a": "1", "b": "2"}, "BillingAccountId"),
    ],
)
@SUFFIXES
def test_a_missing_required_column_is_named(
    engine: Engine, tmp_path: Path, feed: str, row: dict[str, str], column: str, suffix: str
) -> None:
    refusal = _refusal(engine, write_bill(tmp_path / f"bill{suffix}", [row]), feed)
    assert refusal.column == column
    assert f"the required column {column} is missing" in str(refusal)
    assert "choose the right format" in str(refusal)


@pytest.mark.parametrize("amount", ["NaN", "nan", "Infinity", "-inf", "twelve", "1,5", "0x10", "1e30"])
def test_a_quantity_that_is_no_number_is_refused_with_row_column_and_value(
    engine: Engine, tmp_path: Path, amount: str
) -> None:
    rows = [cur_row(), cur_row(lineItem__UsageAmount=amount), cur_row()]
    refusal = _refusal(engine, write_bill(tmp_path / "bill.csv", rows))
    assert (refusal.row, refusal.column) == (2, "lineItem/UsageAmount")
    assert amount in str(refusal)


@pytest.mark.parametrize("column", ["ConsumedQuantity", "BilledCost"])
def test_a_focus_number_that_is_none_is_refused(engine: Engine, tmp_path: Path, column: str) -> None:
    path = write_bill(tmp_path / "bill.csv.gz", [focus_row(), focus_row(**{column: "NaN"})])
    refusal = _refusal(engine, path, "focus")
    assert (refusal.row, refusal.column) == (2, column)


def test_a_cost_that_is_no_number_is_refused(engine: Engine, tmp_path: Path) -> None:
    refusal = _refusal(engine, write_bill(tmp_path / "bill.csv", [cur_row(lineItem__UnblendedCost="free")]))
    assert (refusal.row, refusal.column) == (1, "lineItem/UnblendedCost")


def test_a_row_without_cost_is_refused_because_the_bill_would_not_tie(engine: Engine, tmp_path: Path) -> None:
    refusal = _refusal(engine, write_bill(tmp_path / "bill.csv", [cur_row(lineItem__UnblendedCost="")]))
    assert (refusal.row, refusal.column) == (1, "lineItem/UnblendedCost")


@pytest.mark.parametrize("amount", ["-3", "-0.5E-3", "9.984E-7", "+2", " 7 "])
def test_negative_and_exponent_quantities_are_kept(engine: Engine, tmp_path: Path, amount: str) -> None:
    rows = extracted(engine, write_bill(tmp_path / "bill.csv", [cur_row(lineItem__UsageAmount=amount)]), "cur")
    kept = engine.to_arrow(rows.line_item_usage_amount.as_table())[0].to_pylist()
    assert [Decimal(text) for text in kept] == [Decimal(amount)]


@pytest.mark.parametrize("interval", ["soon", "2026-13-01T00:00:00Z/2026-13-02T00:00:00Z", ""])
def test_a_row_without_a_readable_day_is_refused(engine: Engine, tmp_path: Path, interval: str) -> None:
    row = cur_row(identity__TimeInterval=interval, lineItem__UsageStartDate="")
    refusal = _refusal(engine, write_bill(tmp_path / "bill.csv", [cur_row(), row]))
    assert (refusal.row, refusal.column) == (2, "identity/TimeInterval")


def test_a_focus_row_without_a_readable_day_is_refused(engine: Engine, tmp_path: Path) -> None:
    path = write_bill(tmp_path / "bill.csv", [focus_row(ChargePeriodStart="NULL")])
    refusal = _refusal(engine, path, "focus")
    assert (refusal.row, refusal.column) == (1, "ChargePeriodStart")


@SUFFIXES
def test_a_row_with_too_few_or_too_many_cells_is_refused_with_its_row(
    engine: Engine, tmp_path: Path, suffix: str
) -> None:
    good = csv_bytes([cur_row(), cur_row()])
    assert _refusal(engine, write_bytes(tmp_path / f"few{suffix}", good + b"1,2,3\n")).row == 3
    row = good.splitlines()[1]
    assert _refusal(engine, write_bytes(tmp_path / f"many{suffix}", good + row + b",1,2\n")).row == 3


def test_a_quote_that_never_closes_is_refused(engine: Engine, tmp_path: Path) -> None:
    content = csv_bytes([cur_row(), cur_row()]) + b'"' + csv_bytes([cur_row()]).splitlines()[1] + b"\n"
    _refusal(engine, write_bytes(tmp_path / "quote.csv", content))


@FEEDS
def test_an_empty_file_is_refused(engine: Engine, tmp_path: Path, feed: str, row: dict[str, str]) -> None:
    assert row
    path = tmp_path / "empty.csv"
    path.write_bytes(b"")
    assert "is empty (0 bytes)" in str(_refusal(engine, path, feed))


def test_a_compressed_empty_file_is_refused(engine: Engine, tmp_path: Path) -> None:
    assert "no readable header row" in str(_refusal(engine, write_bytes(tmp_path / "empty.csv.gz", b"")))


@FEEDS
@SUFFIXES
def test_a_header_without_rows_is_a_valid_empty_bill(
    engine: Engine, tmp_path: Path, feed: str, row: dict[str, str], suffix: str
) -> None:
    rows = extracted(engine, write_bill(tmp_path / f"empty{suffix}", [], header=list(row)), feed)
    assert engine.to_arrow(rows).num_rows == 0


@SUFFIXES
def test_a_cell_of_ten_megabytes_is_refused(engine: Engine, tmp_path: Path, suffix: str) -> None:
    noise = random.Random(2).randbytes(5 * 2**20).hex()
    rows = [cur_row(), cur_row(lineItem__ResourceId=noise), cur_row()]
    refusal = _refusal(engine, write_bill(tmp_path / f"wide{suffix}", rows))
    assert "row is longer than 2097152 bytes. Remove the oversized cell" in str(refusal)
    assert refusal.row == 2


def test_a_header_of_ten_megabytes_is_refused(engine: Engine, tmp_path: Path) -> None:
    _refusal(engine, write_bytes(tmp_path / "wide.csv", b"x" * 10 * 2**20 + b"\n" + csv_bytes([cur_row()])))


def test_a_zip_bomb_is_refused_before_it_is_unpacked(engine: Engine, tmp_path: Path) -> None:
    head = csv_bytes([cur_row()])
    path = tmp_path / "bomb.csv.gz"
    with gzip.open(path, "wb") as stream:
        stream.write(head)
        for _ in range(200):
            stream.write(b"0" * 2**20)
    started = time.process_time()
    assert "decompression bomb" in str(_refusal(engine, path, limits=ReadLimits(maximum_ratio=200)))
    assert time.process_time() - started < 5


def test_a_zip_bomb_with_a_false_trailer_is_refused(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "bomb.csv.gz"
    content = gzip.compress(csv_bytes([cur_row()]) + b"0" * (64 * 2**20), mtime=0)
    path.write_bytes(content[:-4] + struct.pack("<I", 100))
    _refusal(engine, path, limits=ReadLimits(maximum_ratio=200))


@pytest.mark.parametrize("following", [0, 20_000], ids=["at the end", "in the middle"])
def test_a_row_larger_than_the_engines_buffer_is_refused_and_never_dropped(
    engine: Engine, tmp_path: Path, following: int
) -> None:
    path = tmp_path / "wide.csv"
    content = csv_bytes([cur_row()])
    path.write_bytes(content + b"x" * (33 * 2**20) + b"\n" + content.splitlines(keepends=True)[1] * following)
    assert "Remove the oversized cell" in str(_refusal(engine, path))


def test_a_bomb_behind_a_harmless_beginning_is_refused(engine: Engine, tmp_path: Path) -> None:
    squeezed = zlib.compressobj(9, wbits=31)
    content = squeezed.compress(csv_bytes(_rows(1000)))
    for _ in range(100):
        content += squeezed.compress(b"0" * 2**20)
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(content + squeezed.flush())
    assert "decompression bomb" in str(_refusal(engine, path, limits=ReadLimits(maximum_ratio=400)))


def test_a_bill_larger_than_allowed_is_refused(engine: Engine, tmp_path: Path) -> None:
    path = write_bill(tmp_path / "bill.csv.gz", _rows(500))
    _refusal(engine, path, limits=ReadLimits(maximum_bytes=1000))


def test_a_damaged_parquet_file_is_refused(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "bill.parquet"
    path.write_bytes(b"PAR1" + b"\0" * 100 + b"PAR1")
    assert "not a readable Parquet file" in str(_refusal(engine, path))


def test_the_same_bytes_twice_count_once(engine: Engine, tmp_path: Path) -> None:
    paths = [write_bill(tmp_path / name, [cur_row(), cur_row()]) for name in ("a.csv", "b.csv")]
    assert engine.to_arrow(extracted(engine, paths, "cur")).num_rows == 2


def test_no_required_column_is_outside_the_declared_ones() -> None:
    from offgridflow_pipeline.connectors.reading import header

    for dialect, required in header._required().items():
        assert set(required) <= set(header.SOURCE_COLUMNS[dialect])
