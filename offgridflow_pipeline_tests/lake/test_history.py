"""Versions of a table: which run made them, and that they stay readable."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline.lake.tables import Lake, LakeReadError
from offgridflow_pipeline_tests.lake.totals import DATASET, DAYS, TENANT, marks, totals

CHECKPOINT_INTERVAL = 100  # deltalake writes a checkpoint, and by default cleans up, every 100 commits


def test_every_version_names_the_run_that_made_it(lake: Lake) -> None:
    begun = datetime.now(UTC)
    first = lake.replace(TENANT, DATASET, DAYS[:1], totals({DAYS[0]: 1}, "a"), run_id="run-a")
    second = lake.replace(TENANT, DATASET, DAYS[1:2], totals({DAYS[1]: 1}, "b"), run_id="run-b")
    history = lake.history(TENANT, DATASET)
    assert [(c.version, c.run_id) for c in history] == [(0, None), (first, "run-a"), (second, "run-b")]
    assert all(abs((c.committed_at - begun).total_seconds()) < 60 for c in history)


def test_a_table_that_does_not_exist_has_no_history(lake: Lake) -> None:
    assert lake.history(TENANT, DATASET) == []


def test_partitions_are_those_of_the_version_asked_for(lake: Lake) -> None:
    first = lake.replace(TENANT, DATASET, DAYS[:1], totals({DAYS[0]: 1}, "a"), run_id="1")
    lake.replace(TENANT, DATASET, DAYS[:2], totals({DAYS[1]: 1}, "b"), run_id="2")
    assert lake.partitions(TENANT, DATASET) == [DAYS[1].isoformat()]
    assert lake.partitions(TENANT, DATASET, version=first) == [DAYS[0].isoformat()]


def test_a_version_that_does_not_exist_is_named(lake: Lake) -> None:
    lake.replace(TENANT, DATASET, DAYS[:1], totals({DAYS[0]: 1}, "a"), run_id="1")
    with pytest.raises(LakeReadError, match="Version 77 of .*scope_totals cannot be read"):
        lake.slice(TENANT, DATASET, version=77).files()


def test_versions_cited_by_a_report_outlive_checkpoints(lake: Lake, engine: Engine) -> None:
    cited = lake.replace(TENANT, DATASET, DAYS[:1], totals({DAYS[0]: 3}, "cited"), run_id="0")
    for number in range(CHECKPOINT_INTERVAL + 5):
        lake.replace(TENANT, DATASET, DAYS[:1], totals({DAYS[0]: 1}, "later"), run_id=str(number))
    log = Path(lake.uri(TENANT, DATASET)) / "_delta_log"
    assert list(log.glob("*.checkpoint.parquet"))
    assert marks(engine, lake, version=cited) == {DAYS[0]: {"cited": 3}}
    assert lake.history(TENANT, DATASET)[cited].run_id == "0"


def test_a_table_says_that_its_old_versions_are_kept(lake: Lake) -> None:
    from deltalake import DeltaTable

    lake.replace(TENANT, DATASET, DAYS[:1], totals({DAYS[0]: 1}, "a"), run_id="1")
    properties = DeltaTable(lake.uri(TENANT, DATASET)).metadata().configuration
    assert properties["delta.enableExpiredLogCleanup"] == "false"
    assert properties["delta.deletedFileRetentionDuration"] == "interval 36500 days"
