"""Old or new, never a mixture: failures, retries, kills and competing writers."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from hypothesis import given, settings
from hypothesis import strategies as st

from offgridflow_pipeline.lake import tables
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline.lake.tables import Lake, LakeConflictError
from offgridflow_pipeline_tests.lake.endless_writer import ROWS
from offgridflow_pipeline_tests.lake.totals import DATASET, DAYS, TENANT, marks, totals


class _SourceBrokeError(RuntimeError):
    pass


def _breaking(data: pa.Table, after_rows: int) -> pa.RecordBatchReader:
    """A stream that yields some rows and then fails, as a source that is cut off does."""

    def batches() -> Iterator[pa.RecordBatch]:
        yield from data.slice(0, after_rows).to_batches(max_chunksize=2)
        raise _SourceBrokeError

    return pa.RecordBatchReader.from_batches(data.schema, batches())


_STEP = st.tuples(
    st.lists(st.sampled_from(DAYS), min_size=1, max_size=3, unique=True),
    st.integers(min_value=0, max_value=4),
    st.sampled_from(["write", "break", "break then retry", "retry"]),
)


@settings(max_examples=12, deadline=None)
@given(st.lists(_STEP, min_size=1, max_size=5))
def test_any_interleaving_of_writes_failures_and_retries_leaves_the_last_whole_write(
    steps: list[tuple[list[date], int, str]],
) -> None:
    with tempfile.TemporaryDirectory(prefix="ogf-lake-") as folder, Engine(128, 1) as engine:
        lake = Lake(folder)
        expected: dict[date, dict[str, int]] = {}
        for number, (days, count, how) in enumerate(steps):
            mark = f"write-{number}"
            data = totals(dict.fromkeys(days, count), mark)
            if "break" in how:
                with pytest.raises(_SourceBrokeError):
                    lake.replace(TENANT, DATASET, days, _breaking(data, after_rows=count), run_id=mark)
            if how != "break":
                for _ in range(2 if how == "retry" else 1):
                    lake.replace(TENANT, DATASET, days, data, run_id=mark)
                for day in days:
                    expected[day] = {mark: count}
            assert marks(engine, lake) == {day: held for day, held in expected.items() if sum(held.values())}


def test_a_writer_killed_at_any_moment_leaves_a_whole_generation(tmp_path: Path, engine: Engine) -> None:
    root = str(tmp_path / "killed")
    lake = Lake(root)
    chance = random.Random(20261123)
    generation = 0
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-m", "offgridflow_pipeline_tests.lake.endless_writer", root, str(generation)],
            stdout=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parents[2],
        ) as writer:  # fmt: skip
            assert writer.stdout is not None
            assert int(writer.stdout.readline()) == generation
            time.sleep(chance.uniform(0.0, 0.5))
            writer.send_signal(signal.SIGKILL)
            begun = [generation, *(int(line) for line in writer.stdout)]
        held = marks(engine, lake)
        if held:
            whole = {mark for day in DAYS for mark in held[day]}
            assert len(whole) == 1
            assert all(held[day].total() == ROWS for day in DAYS)
        generation = begun[-1] + 1
    lake.replace(TENANT, DATASET, DAYS, totals(dict.fromkeys(DAYS, 2), "retry"), run_id="retry")
    assert marks(engine, lake) == dict.fromkeys(DAYS, {"retry": 2})


def test_of_two_writers_on_the_same_days_one_wins_whole(lake: Lake, engine: Engine) -> None:
    lake.replace(TENANT, DATASET, DAYS, totals(dict.fromkeys(DAYS, 1), "before"), run_id="0")
    for number in range(5):
        outcomes = _at_once(lake, {f"left-{number}": DAYS, f"right-{number}": DAYS})
        held = marks(engine, lake)
        winners = {mark for day in DAYS for mark in held[day]}
        assert len(winners) == 1
        assert winners <= set(outcomes)
        assert all(held[day].total() == 50 for day in DAYS)


def test_writers_on_different_days_both_succeed(lake: Lake, engine: Engine) -> None:
    lake.replace(TENANT, DATASET, DAYS, totals(dict.fromkeys(DAYS, 1), "before"), run_id="0")
    outcomes = _at_once(lake, {"left": DAYS[:2], "right": DAYS[2:]})
    assert set(outcomes) == {"left", "right"}
    held = marks(engine, lake)
    assert held == dict.fromkeys(DAYS[:2], {"left": 50}) | dict.fromkeys(DAYS[2:], {"right": 50})


def test_the_first_write_of_a_table_may_happen_twice_at_once(lake: Lake, engine: Engine) -> None:
    outcomes = _at_once(lake, {"left": DAYS[:2], "right": DAYS[2:]})
    assert set(outcomes) == {"left", "right"}
    assert set(marks(engine, lake)) == set(DAYS)
    assert [commit.run_id for commit in lake.history(TENANT, DATASET)].count(None) == 1  # created once


def test_a_commit_whose_answer_was_lost_is_not_made_twice(
    lake: Lake, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = lake.replace(TENANT, DATASET, DAYS, totals(dict.fromkeys(DAYS, 1), "before"), run_id="0")
    commit = DeltaTable.create_write_transaction

    def lose_the_answer(*arguments: Any, **named: Any) -> None:
        commit(*arguments, **named)
        raise CommitFailedError("the answer was lost")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", lose_the_answer)
    assert lake.replace(TENANT, DATASET, DAYS[:1], totals({DAYS[0]: 2}, "once"), run_id="1") == first + 1
    assert lake.version(TENANT, DATASET) == first + 1
    assert marks(engine, lake)[DAYS[0]] == {"once": 2}


def test_a_writer_that_never_comes_first_gives_up_and_changes_nothing(
    lake: Lake, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = lake.replace(TENANT, DATASET, DAYS, totals(dict.fromkeys(DAYS, 1), "before"), run_id="0")

    def too_late(*_: Any, **__: Any) -> None:
        raise CommitFailedError("another writer was faster")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", too_late)
    monkeypatch.setattr(tables, "COMMIT_ATTEMPTS", 3)
    with pytest.raises(LakeConflictError, match="committed first 3 times; run again"):
        lake.replace(TENANT, DATASET, DAYS, totals(dict.fromkeys(DAYS, 2), "late"), run_id="1")
    assert lake.version(TENANT, DATASET) == before
    assert marks(engine, lake) == dict.fromkeys(DAYS, {"before": 1})


def test_two_writers_of_a_day_that_was_empty_do_not_both_add_it(lake: Lake, engine: Engine) -> None:
    for day in DAYS:
        outcomes = _at_once(lake, {f"left-{day}": (day,), f"right-{day}": (day,)})
        held = marks(engine, lake)[day]
        assert held.total() == 50
        assert set(held) <= set(outcomes)


def _at_once(lake: Lake, writes: dict[str, tuple[date, ...]]) -> dict[str, int]:
    """Run the replacements in threads that start together; mark -> version of those that committed."""
    start = threading.Barrier(len(writes))
    committed: dict[str, int] = {}
    failures: list[BaseException] = []

    def write(mark: str, days: tuple[date, ...]) -> None:
        data = totals(dict.fromkeys(days, 50), mark)
        start.wait()
        try:
            committed[mark] = lake.replace(TENANT, DATASET, days, data, run_id=mark)
        except LakeConflictError:
            pass
        except BaseException as error:  # noqa: BLE001  reported by the main thread
            failures.append(error)

    threads = [threading.Thread(target=write, args=item) for item in writes.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    assert committed
    return committed
