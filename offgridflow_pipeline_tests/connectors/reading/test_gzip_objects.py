"""Gzip bills: whole, of several members, or with a trailer that says something else; nothing is read in part."""

from __future__ import annotations

import gzip
import random
import struct
import tracemalloc
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
from offgridflow_pipeline_tests.connectors.bills import csv_bytes, cur_row, extracted, local_objects

_MEMBER_START = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"


def _content(rows: int) -> bytes:
    return csv_bytes([cur_row(lineItem__ResourceId=f"i-{number:032x}") for number in range(rows)])


def _resources(engine: Engine, path: Path) -> list[str]:
    rows = extracted(engine, path, "cur")
    return engine.reader(rows.select("source_row", "line_item_resource_id")).read_all().to_pandas().sort_values(
        "source_row"
    )["line_item_resource_id"].tolist()  # fmt: skip


def _with_extra_field(content: bytes, extra: bytes) -> bytes:
    """One member whose header carries `extra` (RFC 1952, FEXTRA)."""
    packed = zlib.compressobj(6, wbits=-15)
    head = b"\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\x03" + struct.pack("<H", len(extra)) + extra
    tail = struct.pack("<II", zlib.crc32(content), len(content))
    return head + packed.compress(content) + packed.flush() + tail


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bill.csv.gz"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Objects that were unpacked to count their bytes before the engine read them."""
    found: list[Path] = []
    count = gzip_objects._counted_size

    def noted(item: LocalObject, limits: ReadLimits) -> int:
        found.append(item.path)
        return count(item, limits)

    monkeypatch.setattr(gzip_objects, "_counted_size", noted)
    return found


def test_one_member_is_unpacked_once_and_read_in_its_order(engine: Engine, path: Path, counted: list[Path]) -> None:
    path.write_bytes(gzip.compress(_content(30_000), mtime=0))
    assert _resources(engine, path) == [f"i-{number:032x}" for number in range(30_000)]
    assert counted == []


@pytest.mark.parametrize("cut", [0.001, 0.5, 0.999], ids=["early", "middle", "late"])
def test_two_members_are_one_bill(engine: Engine, path: Path, counted: list[Path], cut: float) -> None:
    content = _content(30_000)
    middle = int(len(content) * cut)
    path.write_bytes(gzip.compress(content[:middle], mtime=0) + gzip.compress(content[middle:], mtime=0))
    assert _resources(engine, path) == [f"i-{number:032x}" for number in range(30_000)]
    assert counted == [path]


def test_zeros_behind_the_stream_belong_to_no_member(engine: Engine, path: Path) -> None:
    path.write_bytes(gzip.compress(_content(500), mtime=0) + bytes(100))
    assert len(_resources(engine, path)) == 500


def test_a_relative_path_is_read_and_its_damage_told(
    engine: Engine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    content = bytearray(gzip.compress(_content(20), mtime=0))
    path.write_bytes(content)
    assert len(_resources(engine, Path(path.name))) == 20
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(BillingObjectError, match="the gzip stream is damaged"):
        _resources(engine, Path(path.name))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 12_000), max_size=6), level=st.integers(0, 9))
def test_any_division_into_members_gives_the_same_rows(engine: Engine, path: Path, cuts: list[int], level: int) -> None:
    content = _content(60)
    places = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    members = [content[start:end] for start, end in pairwise(places)]
    path.write_bytes(b"".join(gzip.compress(member, level, mtime=0) for member in members))
    assert _resources(engine, path) == [f"i-{number:032x}" for number in range(60)]


def test_bytes_that_look_like_a_second_member_cost_a_look_and_change_nothing(
    engine: Engine, path: Path, counted: list[Path]
) -> None:
    path.write_bytes(_with_extra_field(_content(500), b"xx" + _MEMBER_START + b"\xff" * 40))
    assert len(_resources(engine, path)) == 500
    assert counted == []


def test_a_file_full_of_beginnings_is_not_looked_at_one_by_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[bytes] = []

    def failed(beginning: bytes) -> bool:
        looks.append(beginning)
        return False

    monkeypatch.setattr(gzip_objects, "_unpacks", failed)
    path.write_bytes(_MEMBER_START * 50_000)
    assert gzip_objects._may_have_more_members(path)
    assert len(looks) == gzip_objects._CANDIDATES


def test_a_bomb_in_a_later_member_is_refused_and_never_held(engine: Engine, path: Path) -> None:
    bomb = zlib.compressobj(9, wbits=31)
    packed = b"".join(bomb.compress(bytes(2**20)) for _ in range(128)) + bomb.flush()
    path.write_bytes(gzip.compress(_content(2000), mtime=0) + packed + gzip.compress(b"end\n", mtime=0))
    tracemalloc.start()
    try:
        with pytest.raises(BillingObjectError, match="decompression bomb"):
            extracted(engine, path, "cur", limits=ReadLimits(maximum_ratio=100))
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()


def test_a_second_member_across_two_chunks_of_the_search_is_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = gzip.compress(_content(100), mtime=0)
    path.write_bytes(first + gzip.compress(b"more\n", mtime=0))
    for size in range(len(first) - 5, len(first) + 5):
        monkeypatch.setattr(gzip_objects, "_CHUNK_BYTES", size)
        assert gzip_objects._may_have_more_members(path)


def test_an_object_whose_trailer_cannot_state_its_size_is_counted(
    engine: Engine, path: Path, counted: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gzip_objects, "_SURELY_STATED_BYTES", 10_000)
    path.write_bytes(gzip.compress(_content(500), mtime=0))
    assert len(_resources(engine, path)) == 500
    assert counted == [path]


@pytest.mark.parametrize(
    ("name", "tail"),
    [
        ("wrong checksum", lambda content: struct.pack("<II", zlib.crc32(content) ^ 1, len(content))),
        ("states more", lambda content: struct.pack("<II", zlib.crc32(content), len(content) + 1)),
        ("states much more", lambda content: struct.pack("<II", zlib.crc32(content), 2 * len(content))),
        ("states less", lambda content: struct.pack("<II", zlib.crc32(content), len(content) - 1)),
        ("states nothing", lambda content: struct.pack("<II", zlib.crc32(content), 0)),
        ("no size", lambda content: struct.pack("<I", zlib.crc32(content))),
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


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n", b"\n\n"], ids=repr)
@pytest.mark.parametrize("members", [0, 1, 2], ids=["plain", "one member", "two members"])
@pytest.mark.parametrize("size", [4_300_000, 10_000_000])
def test_a_last_row_larger_than_the_engines_buffer_is_refused_and_never_dropped(
    engine: Engine, path: Path, ending: bytes, members: int, size: int
) -> None:
    noise = random.Random(3).randbytes(size // 2).hex()
    content = csv_bytes([cur_row(), cur_row(), cur_row(lineItem__ResourceId=noise)]).rstrip() + ending
    parts = {0: [], 1: [content], 2: [content[:700], content[700:]]}[members]
    path.write_bytes(b"".join(gzip.compress(part, 1, mtime=0) for part in parts) or content)
    with pytest.raises(BillingObjectError, match="Remove the oversized cell"):
        _resources(engine, path)


def test_what_fails_while_the_engine_reads_is_told_although_the_engine_goes_on(path: Path) -> None:
    noise = random.Random(3).randbytes(2_150_000).hex()
    content = csv_bytes([cur_row(), cur_row(), cur_row(lineItem__ResourceId=noise)]).rstrip()
    path.write_bytes(gzip.compress(content, 1, mtime=0))
    for _ in range(20):  # without the record of it the engine gave the first two rows in a fifth of the runs
        with Engine(512, 2) as engine, pytest.raises(BillingObjectError, match="Remove the oversized cell"):
            extracted(engine, path, "cur")


def test_an_object_that_the_engine_leaves_unread_is_refused(engine: Engine, path: Path) -> None:
    path.write_bytes(gzip.compress(_content(200_000), mtime=0))
    (item,) = local_objects(path)
    rows = extract(engine, [item], schemas.table("aws_billing_extract"), tenant="t", connection_id="c", feed="cur")
    with pytest.raises(BillingObjectError, match="not read to its end"), reading_errors([item]):
        engine.to_arrow(rows.select("line_item_resource_id").limit(1))


@given(pieces=st.lists(st.text("ab\r\n", max_size=6).map(str.encode), max_size=8))
def test_the_last_line_is_as_long_however_the_text_is_cut(pieces: list[bytes]) -> None:
    last_line = gzip_objects.LastLine()
    for piece in pieces:
        last_line.add(piece)
    assert last_line.length == len(b"".join(pieces).rstrip(b"\r\n").rpartition(b"\n")[2])


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
