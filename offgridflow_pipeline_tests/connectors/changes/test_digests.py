"""Day digests: equal for any order and chunking, different for any changed row, fast, and exact modulo 2^256."""

from __future__ import annotations

import hashlib
import random
import time
from collections import defaultdict
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offgridflow_pipeline.connectors.changes.digests import DayDigest, changed_days, day_digests
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline_tests.connectors.bills import cur_row, extracted, write_bill

FIFTH, SIXTH = date(2026, 10, 5), date(2026, 10, 6)

Row = tuple[str, date, str]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _digests(engine: Engine, rows: list[Row]) -> dict[tuple[str, date], DayDigest]:
    table = pa.table(
        {
            "connection_id": pa.array([r[0] for r in rows], pa.string()),
            "usage_date": pa.array([r[1] for r in rows], pa.date32()),
            "source_row_hash": pa.array([r[2] for r in rows], pa.string()),
        }
    )
    return day_digests(engine, engine.register("rows", table))


def _counted_independently(rows: list[Row]) -> dict[tuple[str, date], DayDigest]:
    hashes: defaultdict[tuple[str, date], list[int]] = defaultdict(list)
    for connection, day, digest in rows:
        hashes[connection, day].append(int(digest, 16))
    return {key: DayDigest(len(found), f"{sum(found) % 2**256:064x}") for key, found in hashes.items()}


_ROWS = st.lists(
    st.tuples(
        st.sampled_from(["aws", "azure"]),
        st.sampled_from([FIFTH, SIXTH]),
        # Extremes too: all ones make every word carry.
        st.one_of(st.binary(min_size=32, max_size=32).map(bytes.hex), st.sampled_from(["f" * 64, "0" * 64])),
    ),
    max_size=30,
)
_ONE_ENGINE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)


@_ONE_ENGINE
@given(rows=_ROWS, seed=st.randoms(use_true_random=False))
def test_a_digest_is_the_count_and_sum_of_the_hashes_in_any_order(
    engine: Engine, rows: list[Row], seed: random.Random
) -> None:
    shuffled = seed.sample(rows, len(rows))
    assert _digests(engine, shuffled) == _counted_independently(rows)


def test_a_changed_an_added_and_a_doubled_row_each_change_their_day_alone(engine: Engine) -> None:
    rows = [("aws", day, _hash(f"{day}-{n}")) for day in (FIFTH, SIXTH) for n in range(5)]
    before = _digests(engine, rows)
    changed = _digests(engine, [*rows[:-1], ("aws", SIXTH, _hash("changed"))])
    added = _digests(engine, [*rows, ("aws", SIXTH, _hash("added"))])
    doubled = _digests(engine, [*rows, rows[-1]])
    for after in (changed, added, doubled):
        assert changed_days(before, after, [FIFTH, SIXTH]) == {SIXTH}


def test_a_day_that_lost_all_its_rows_is_changed_and_one_that_never_had_any_is_not(engine: Engine) -> None:
    before = _digests(engine, [("aws", FIFTH, _hash("row"))])
    assert changed_days(before, {}, [FIFTH, SIXTH]) == {FIFTH}


def test_days_that_were_not_asked_for_are_left_out(engine: Engine) -> None:
    after = _digests(engine, [("aws", FIFTH, _hash("row")), ("aws", SIXTH, _hash("row"))])
    assert changed_days({}, after, [SIXTH]) == {SIXTH}


def test_a_bill_cut_into_other_files_with_new_line_ids_has_the_same_digests(engine: Engine, tmp_path: Path) -> None:
    rows = [
        cur_row(
            identity__TimeInterval=f"{day}T00:00:00Z/{day + timedelta(days=1)}T00:00:00Z", lineItem__UnblendedCost=cost
        )
        for day in (FIFTH, SIXTH)
        for cost in ("1", "2", "2", "3.50")
    ]
    first = extracted(engine, write_bill(tmp_path / "one.csv", rows), "cur")
    again = [row | {"identity/LineItemId": f"new-{n}", "bill/InvoiceId": "2026"} for n, row in enumerate(rows)]
    random.Random(7).shuffle(again)
    parts = [write_bill(tmp_path / f"{n}.csv.gz", again[n::3]) for n in range(3)]
    assert day_digests(engine, extracted(engine, parts, "cur")) == day_digests(engine, first)


def test_a_cost_restated_by_a_cent_changes_the_day(engine: Engine, tmp_path: Path) -> None:
    first = day_digests(engine, extracted(engine, write_bill(tmp_path / "a.csv", [cur_row()]), "cur"))
    cent = cur_row(lineItem__UnblendedCost="5.53")
    second = day_digests(engine, extracted(engine, write_bill(tmp_path / "b.csv", [cent]), "cur"))
    assert changed_days(first, second, [FIFTH]) == {FIFTH}


def test_a_million_rows_take_seconds_and_add_up(engine: Engine) -> None:
    engine.connection.raw_sql(
        "CREATE TABLE many AS SELECT 'aws' AS connection_id, DATE '2026-10-01' + (i % 31)::INT AS usage_date, "
        "sha256(i::VARCHAR) AS source_row_hash FROM range(1000000) r(i)"
    )
    started = time.monotonic()
    found = day_digests(engine, engine.connection.table("many"))
    assert time.monotonic() - started < 30
    hashes = [int(_hash(str(i)), 16) for i in range(4, 1_000_000, 31)]
    assert found["aws", FIFTH] == DayDigest(len(hashes), f"{sum(hashes) % 2**256:064x}")
