"""Gzip bills: whole, of several members, or with a trailer that says something else; nothing is read in part."""

from __future__ import annotations

import gzip
import random
import struct
import zlib
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offgridflow_pipeline.connectors.errors import BillingObjectError
from offgridflow_pipeline.connectors.reading import gzip_objects
from offgridflow_pipeline.connectors.reading.extracts import LocalObject, ReadLimits, extract, reading_errors
from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline_tests.connectors.bills import csv_bytes, cur_row, extracted

_MEMBER_START = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"


def _content(rows: int) -> bytes:
    return csv_bytes([cur_row(lineItem__ResourceId=f"i-{number:032x}") for number in range(rows)])


def _resources(engine: Engine, path: Path) -> list[str]:
    rows = extracted(engine, path, "cur")
    return engine.reader(rows.select("source_row", "line_item_resource_id")).read_all().to_pandas().sort_values(
        "source_row"
    )["line_item_resource_id"].tolist()  # fmt: skip


def _compression(path: Path) -> str:
    item = LocalObject(path, str(path), "0" * 64)
    return gzip_objects.engine_source(item, gzip_objects.probed(item, ReadLimits()))[1]


def _with_extra_field(content: bytes, extra: bytes) -> bytes:
    """One member whose header carries `extra` (RFC 1952, FEXTRA)."""
    packed = zlib.compressobj(6, wbits=-15)
    head = b"\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\x03" + struct.pack("<H", len(extra)) + extra
    tail = struct.pack("<II", zlib.crc32(content), len(content))
    return head + packed.compress(content) + packed.flush() + tail


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bill.csv.gz"


def test_one_member_is_unpacked_here_and_read_in_its_order(engine: Engine, path: Path) -> None:
    path.write_bytes(gzip.compress(_content(30_000), mtime=0))
    assert _compression(path) == "none"
    assert _resources(engine, path) == [f"i-{number:032x}" for number in range(30_000)]


@pytest.mark.parametrize("cut", [0.001, 0.5, 0.999], ids=["early", "middle", "late"])
def test_two_members_are_one_bill(engine: Engine, path: Path, cut: float) -> None:
    content = _content(30_000)
    middle = int(len(content) * cut)
    path.write_bytes(gzip.compress(content[:middle], mtime=0) + gzip.compress(content[middle:], mtime=0))
    assert _compression(path) == "gzip"
    assert _resources(engine, path) == [f"i-{number:032x}" for number in range(30_000)]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 12_000), max_size=6), level=st.integers(0, 9))
def test_any_division_into_members_gives_the_same_rows(engine: Engine, path: Path, cuts: list[int], level: int) -> None:
    content = _content(60)
    places = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    members = [content[start:end] for start, end in pairwise(places)]
    path.write_bytes(b"".join(gzip.compress(member, level, mtime=0) for member in members))
    assert _resources(engine, path) == [f"i-{number:032x}" for number in range(60)]


def test_bytes_that_look_like_a_second_member_do_not_change_what_is_read(engine: Engine, path: Path) -> None:
    path.write_bytes(_with_extra_field(_content(500), b"xx" + _MEMBER_START + b"\xff" * 40))
    assert _compression(path) == "none"
    assert len(_resources(engine, path)) == 500


def test_a_second_member_across_two_chunks_of_the_search_is_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = gzip.compress(_content(100), mtime=0)
    path.write_bytes(first + gzip.compress(b"more\n", mtime=0))
    for size in range(len(first) - 5, len(first) + 5):
        monkeypatch.setattr(gzip_objects, "_CHUNK_BYTES", size)
        assert gzip_objects._may_have_more_members(path)


def test_an_object_whose_trailer_cannot_state_its_size_is_left_to_the_engine(
    engine: Engine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gzip_objects, "_SURELY_STATED_BYTES", 10_000)
    path.write_bytes(gzip.compress(_content(500), mtime=0))
    assert _compression(path) == "gzip"
    assert len(_resources(engine, path)) == 500


@pytest.mark.parametrize(
    ("name", "tail"),
    [
        ("wrong checksum", lambda content: struct.pack("<II", zlib.crc32(content) ^ 1, len(content))),
        ("states more", lambda content: struct.pack("<II", zlib.crc32(content), len(content) + 1)),
        ("states much more", lambda content: struct.pack("<II", zlib.crc32(content), 2 * len(content))),
        ("states less", lambda content: struct.pack("<II", zlib.crc32(content), len(content) - 1)),
        ("states nothing", lambda content: struct.pack("<II", zlib.crc32(content), 0)),
        ("no size", lambda content: struct.pack("<I", zlib.crc32(content))),
        ("zeros behind it", lambda content: struct.pack("<II", zlib.crc32(content), len(content)) + bytes(100)),
        ("text behind it", lambda content: struct.pack("<II", zlib.crc32(content), len(content)) + b"and more text"),
        ("a cut second member", lambda content: struct.pack("<II", zlib.crc32(content), len(content)) + _MEMBER_START),
    ],
)  # fmt: skip
@pytest.mark.parametrize("rows", [20, 40_000])
def test_a_trailer_that_does_not_fit_is_refused_and_no_row_is_read(
    engine: Engine, path: Path, name: str, tail: object, rows: int
) -> None:
    assert name and callable(tail)
    content = _content(rows)
    packed = zlib.compressobj(1, wbits=-15)
    path.write_bytes(_MEMBER_START + packed.compress(content) + packed.flush() + tail(content))
    with pytest.raises(BillingObjectError, match="damaged") as caught:
        _resources(engine, path)
    assert str(caught.value).startswith(str(path))


def test_a_stream_longer_than_its_trailer_behind_the_probe_is_refused(
    engine: Engine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gzip_objects, "_PROBE_BYTES", 1000)
    content = _content(20_000)
    packed = zlib.compressobj(1, wbits=-15)
    tail = struct.pack("<II", zlib.crc32(content), len(content) // 2)
    path.write_bytes(_MEMBER_START + packed.compress(content) + packed.flush() + tail)
    with pytest.raises(BillingObjectError, match="damaged"):
        _resources(engine, path)


def test_an_endless_last_row_is_refused_and_never_dropped(engine: Engine, path: Path) -> None:
    noise = random.Random(3).randbytes(17 * 2**20).hex().encode()
    path.write_bytes(gzip.compress(_content(5) + noise, 1, mtime=0))
    with pytest.raises(BillingObjectError, match="Remove the oversized cell"):
        _resources(engine, path)


@pytest.mark.parametrize(
    "name", ["a b.csv.gz", "ä'ü.csv.gz", "100%20.csv.gz", "a#b?c.csv.gz", "x[1]*.csv.gz", "a=b&c.csv.gz"]
)
def test_any_file_name_can_be_read(engine: Engine, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(_content(3), mtime=0))
    assert len(_resources(engine, tmp_path / name)) == 3


def _objects(folder: Path, count: int) -> list[LocalObject]:
    """Object number n has n + 1 rows of the resource i-n."""
    items = []
    for number in range(count):
        path = folder / f"{number}.csv.gz"
        path.write_bytes(
            gzip.compress(csv_bytes([cur_row(lineItem__ResourceId=f"i-{number}")] * (number + 1)), mtime=0)
        )
        items.append(LocalObject(path, f"s3://bill/{number}.csv.gz", str(number)))
    return items


def _counted(engine: Engine, items: list[LocalObject]) -> dict[str, int]:
    table = schemas.table("aws_billing_extract")
    with reading_errors(items):
        rows = extract(engine, items, table, tenant="t", connection_id="c", feed="cur")
        counted = engine.reader(rows.group_by("line_item_resource_id").aggregate(n=rows.count())).read_all()
    return {row["line_item_resource_id"]: row["n"] for row in counted.to_pylist()}


def test_many_objects_are_read_in_one_table(engine: Engine, tmp_path: Path) -> None:
    assert _counted(engine, _objects(tmp_path, 7)) == {f"i-{number}": number + 1 for number in range(7)}


def test_the_damaged_one_of_many_objects_is_named(engine: Engine, tmp_path: Path) -> None:
    items = _objects(tmp_path, 4)
    content = bytearray(items[2].path.read_bytes())
    content[-8] ^= 1
    items[2].path.write_bytes(content)
    with pytest.raises(BillingObjectError, match=r"^s3://bill/2\.csv\.gz: the gzip stream is damaged"):
        _counted(engine, items)
