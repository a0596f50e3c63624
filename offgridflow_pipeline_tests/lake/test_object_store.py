"""The lake on an S3 server: the same behaviour as on a local folder."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline.lake.objects import RawObjectError, RawObjects
from offgridflow_pipeline.lake.tables import Lake
from offgridflow_pipeline_tests.counterparts.s3 import S3Server
from offgridflow_pipeline_tests.lake.totals import DATASET, DAYS, TENANT, marks, totals


def test_partitions_on_s3_are_replaced_and_read_back(s3: S3Server, engine: Engine) -> None:
    lake = Lake(f"s3://{s3.new_bucket()}/lake", s3.storage_options)
    assert lake.version(TENANT, DATASET) is None
    first = lake.replace(TENANT, DATASET, DAYS, totals(dict.fromkeys(DAYS, 3), "first"), run_id="1")
    lake.replace(TENANT, DATASET, DAYS[:2], totals({DAYS[0]: 1}, "second"), run_id="2")
    assert marks(engine, lake) == {
        DAYS[0]: {"second": 1}, DAYS[2]: {"first": 3}, DAYS[3]: {"first": 3},
    }  # fmt: skip
    assert marks(engine, lake, version=first) == dict.fromkeys(DAYS, {"first": 3})


def test_a_slice_on_s3_reads_only_its_partitions_with_the_declared_types(s3: S3Server, engine: Engine) -> None:
    lake = Lake(f"s3://{s3.new_bucket()}/lake", s3.storage_options)
    lake.replace(TENANT, DATASET, DAYS, totals(dict.fromkeys(DAYS, 3), "first"), run_id="1")
    slice_ = lake.slice(TENANT, DATASET, [DAYS[1]])
    assert len(slice_.files()) == 1
    read = engine.reader(engine.table(slice_), schemas.SCOPE_TOTALS).read_all()
    assert set(read["usage_date"].to_pylist()) == {DAYS[1]}
    assert read.schema.equals(schemas.SCOPE_TOTALS.arrow_schema)


def test_of_two_writers_on_s3_one_wins_whole(s3: S3Server, engine: Engine) -> None:
    lake = Lake(f"s3://{s3.new_bucket()}/lake", s3.storage_options)
    writes = {mark: totals(dict.fromkeys(DAYS, 5), mark) for mark in ("left", "right")}
    with ThreadPoolExecutor() as pool:
        versions = list(pool.map(lambda m: lake.replace(TENANT, DATASET, DAYS, writes[m], run_id=m), writes))
    assert sorted(versions) == [1, 2]
    last = "left" if versions[0] == 2 else "right"
    assert marks(engine, lake) == dict.fromkeys(DAYS, {last: 5})


def test_raw_objects_on_s3_are_content_addressed_and_verified(s3: S3Server, tmp_path: Path) -> None:
    bucket = s3.new_bucket()
    store = RawObjects(f"s3://{bucket}/lake", s3.storage_options)
    bill = tmp_path / "bill.csv"
    bill.write_bytes(b"a bill\n")
    kept = store.put(TENANT, bill)
    assert store.put(TENANT, bill) == kept
    with store.local_path(TENANT, kept.sha256) as path:
        assert path.read_bytes() == b"a bill\n"
    s3.client().put_object(Bucket=bucket, Key=kept.uri.removeprefix(f"s3://{bucket}/"), Body=b"a b1ll\n")
    with pytest.raises(RawObjectError, match="was changed"), store.local_path(TENANT, kept.sha256):
        pass
