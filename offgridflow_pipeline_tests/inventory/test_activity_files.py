"""The form of activity files: every fault is named with row, column, message and cure; no file costs more than bounds."""

from __future__ import annotations

import gzip
import io
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offgridflow_pipeline.inventory.activity_files import (
    KINDS,
    MAXIMUM_FAULTS,
    ActivityKind,
    FileForm,
    activity_columns,
    examine,
)
from offgridflow_pipeline.inventory.activity_rows import MAXIMUM_ROWS

GOOD = {
    "fuel": "site,fuel,quantity,unit,period_start,period_end,meter\nBerlin,natural_gas,120.5,kWh,2026-01-01,2026-01-31,M1\n",
    "electricity": "site,country,quantity,unit,period_start,period_end\nBerlin,DE,1200,kWh,2026-01-01,2026-01-31\n",
    "travel": "mode,quantity,unit,date\nair,1200,km,2026-03-04\n",
    "spend": "supplier,category,amount,currency,date\nACME Hosting,518210,-12.50,EUR,2026-03-04\n",
}


def form(kind: ActivityKind, text: str | bytes) -> FileForm:
    return examine(kind, io.BytesIO(text.encode() if isinstance(text, str) else text))


def faults(kind: ActivityKind, text: str | bytes) -> list[tuple[int, str, str]]:
    return [(fault.row, fault.column, fault.message) for fault in form(kind, text).faults]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dialect", ["comma", "semicolon", "byte order mark", "gzip", "carriage returns"])
def test_a_sound_file_is_accepted_in_every_dialect_that_people_save(kind: ActivityKind, dialect: str) -> None:
    text = GOOD[kind]
    content = {
        "comma": text.encode(),
        "semicolon": text.replace(",", ";").encode(),
        "byte order mark": b"\xef\xbb\xbf" + text.encode(),
        "gzip": gzip.compress(text.encode(), mtime=0),
        "carriage returns": text.replace("\n", "\r\n").encode(),
    }[dialect]
    found = form(kind, content)
    assert (found.faults, found.row_count) == ((), 1)


@pytest.mark.parametrize("kind", KINDS)
def test_every_column_has_a_form_that_is_checked(kind: ActivityKind) -> None:
    header = ",".join(column.name for column in activity_columns(kind))
    row = ",".join("\x01" for _ in activity_columns(kind))
    assert {column for _, column, _ in faults(kind, f"{header}\n{row}\n")} == {c.name for c in activity_columns(kind)}


@pytest.mark.parametrize(
    ("change", "row", "column", "message"),
    [
        (("1200", "1.200,5"), 2, "", "7 cells, but the header has 6"),
        (("1200", "1 200"), 2, "quantity", "'1 200' is no number"),
        (("1200", "-1"), 2, "quantity", "the quantity is negative"),
        (("1200", "1e5"), 2, "quantity", "'1e5' is no number"),
        (("1200", ""), 2, "quantity", "the cell is empty"),
        (("DE", "Germany"), 2, "country", "'Germany' is no code"),
        ((",kWh", ",kwh"), 2, "unit", "'kwh' is not known"),
        (("2026-01-31", "31.01.2026"), 2, "period_end", "'31.01.2026' is no day"),
        (("2026-01-31", "2026-02-30"), 2, "period_end", "'2026-02-30' is no day"),
        (("2026-01-31", "2025-12-31"), 2, "period_end", "the period ends before it begins"),
        (("country,", ""), 1, "country", "the column is missing"),
        (("quantity", "site"), 1, "'site'", "the column is there twice"),
        (("country,", "country,secret,"), 1, "'secret'", "the column is not known"),
        (("Berlin", "=HYPERLINK(1)"), 2, "site", "the cell begins like a formula"),
        (("Berlin", "\tBerlin"), 2, "site", "the cell begins like a formula"),
        (("Berlin", "@SUM"), 2, "site", "the cell begins like a formula"),
        (("Berlin", "\u00a0=SUM"), 2, "site", "the cell begins like a formula"),
        (("1200", "\u0661\u0662"), 2, "quantity", "'\u0661\u0662' is no number"),
        (("Berlin", "Ber\u202elin"), 2, "site", "the text holds control characters (U+202E)"),
        (("Berlin", "Ber\u2028lin"), 2, "site", "the text holds control characters (U+2028)"),
        (("Berlin", "x" * 2001), 2, "site", "the text is too long"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_place_and_a_cure(
    change: tuple[str, str], row: int, column: str, message: str
) -> None:
    found = form("electricity", GOOD["electricity"].replace(*change, 1)).faults
    assert (row, column, message) in [(fault.row, fault.column, fault.message) for fault in found]
    assert all(fault.cure for fault in found)


@pytest.mark.parametrize(
    "name", ["Halle\u00a07", "Halle\u202f7", "\U0001f469\u200d\U0001f4bb", "\u0646\u06cc\u200c\u0645"]
)
def test_spaces_that_do_not_break_and_joiners_of_letters_are_text(name: str) -> None:
    assert form("electricity", GOOD["electricity"].replace("Berlin", name)).is_accepted


def test_a_day_may_be_billed_once_per_meter_whatever_the_order_of_the_rows() -> None:
    header = "site,country,quantity,unit,period_start,period_end,meter\n"
    rows = [
        "A,DE,1,kWh,2026-04-01,2026-04-30,M1\n",
        "A,DE,1,kWh,2026-02-01,2026-02-28,M1\n",
        "A,DE,1,kWh,2026-01-01,2026-12-31,M1\n",
        "B,DE,1,kWh,2026-01-01,2026-12-31,M1\n",
    ]
    assert faults("electricity", header + "".join(rows)) == [
        (3, "period_start", "the period overlaps that of row 4 for the meter 'M1'"),
        (2, "period_start", "the period overlaps that of row 4 for the meter 'M1'"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"PK\x03\x04rest", "the workbook or archive ends early"),
        (b"mode,quantity,unit,date\n\xff\xfe\n", "the text is not UTF-8"),
        (b"mode,quantity,unit,date\na\x00b\n", "the text holds a NUL character: this is no CSV"),
        (b"mode,quantity,unit,date\n", "there is no row below the header"),
        (b'mode,quantity,unit,date\n"air,1,km,2026-01-01\n', "the quoting is broken (unexpected end of data)"),
        (b"\x1f\x8b\x08garbage", "the gzip file is damaged"),
        (gzip.compress(b"mode,quantity,unit,date\n", mtime=0)[:-9], "the gzip file ends early"),
        (gzip.compress(b"mode,quantity,unit,date\n", mtime=0) * 2, "the gzip file holds several parts"),
    ],
)
def test_what_is_no_table_is_refused_with_the_reason(content: bytes, message: str) -> None:
    [fault] = form("travel", content).faults
    assert fault.message == message
    assert fault.cure


@pytest.mark.parametrize("filling", [b"a", b"a,b\n", b'"'])
def test_a_compression_bomb_costs_neither_memory_nor_time(filling: bytes) -> None:
    packer = zlib.compressobj(9, wbits=31)
    piece = filling * (2**20 // len(filling))
    bomb = b"".join([packer.compress(b"mode,quantity,unit,date\n"), *(packer.compress(piece) for _ in range(200))])
    bomb += packer.flush()
    assert len(bomb) < 2**20
    tracemalloc.start()
    found = form("travel", bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not found.is_accepted
    assert peak < 8 * 2**20


def test_faults_and_rows_are_bounded() -> None:
    found = form("travel", GOOD["travel"] + "air,x,km,2026-03-04\n" * 1000)
    assert (len(found.faults), found.more_faults) == (MAXIMUM_FAULTS, 900)
    found = form("travel", GOOD["travel"] + "air,1,km,2026-03-04\n" * MAXIMUM_ROWS)
    assert [fault.message for fault in found.faults] == ["there are more than 100,000 rows"]


@given(st.sampled_from(KINDS), st.binary(max_size=400) | st.text(max_size=400).map(str.encode))
def test_no_content_breaks_the_check(kind: ActivityKind, content: bytes) -> None:
    for whole in (content, GOOD[kind].encode() + content, gzip.compress(content, mtime=0), b"\x1f\x8b" + content):
        found = form(kind, whole)
        assert all(fault.message and fault.cure for fault in found.faults)
        assert all(len(fault.message) < 400 for fault in found.faults)
