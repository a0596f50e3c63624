"""The engine: lazy tables, exact results, bounded memory, nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import ibis
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.lake.engine import Engine, EngineError, EngineMemoryError
from offgridflow_pipeline.lake.tables import Lake
from offgridflow_pipeline_tests.lake.totals import DATASET, DAYS, TENANT, totals


def test_the_reader_gives_declared_columns_in_declared_order_and_type(engine: Engine) -> None:
    data = totals({DAYS[0]: 2}, "x")
    shuffled = engine.register("shuffled", data.select(sorted(data.schema.names)))
    read = engine.reader(shuffled, schemas.SCOPE_TOTALS).read_all()
    assert read.schema.equals(schemas.SCOPE_TOTALS.arrow_schema)
    assert read.num_rows == 2


def test_a_missing_declared_column_is_named(engine: Engine) -> None:
    data = engine.register("short", totals({DAYS[0]: 2}, "x").drop_columns(["kwh", "scope"]))
    with pytest.raises(EngineError, match=r"scope_totals lacks the declared columns scope, kwh"):
        engine.reader(data, schemas.SCOPE_TOTALS)


def test_a_forbidden_null_is_named(engine: Engine) -> None:
    data = engine.register("nulls", totals({DAYS[0]: 2}, "x"))
    holes = data.mutate(method_id=ibis.null("string"))
    with pytest.raises(EngineError, match="scope_totals.method_id holds nulls but is declared not null"):
        engine.reader(holes, schemas.SCOPE_TOTALS).read_all()


def test_a_value_that_its_declared_type_cannot_hold_is_named(engine: Engine) -> None:
    data = engine.register("large", totals({DAYS[0]: 2}, "x"))
    large = data.mutate(dq_score=ibis.literal(70_000, "int64"))
    with pytest.raises(EngineError, match="scope_totals.dq_score does not fit its type int16"):
        engine.reader(large, schemas.SCOPE_TOTALS).read_all()


def test_a_query_that_cannot_fit_names_the_setting(tmp_path: Path) -> None:
    with Engine(memory_mb=32, threads=1, temp_dir=tmp_path) as small:
        small.connection.raw_sql("create view huge as select list(range) as numbers from range(10000000)")
        huge = small.connection.table("huge")
        for evaluate in (small.to_arrow, small.spool):
            with pytest.raises(EngineMemoryError, match="32 MiB.*set OFFGRIDFLOW_ENGINE_MEMORY_MB higher"):
                evaluate(huge)


def test_a_table_stored_without_a_declared_column_is_named(lake: Lake, engine: Engine) -> None:
    older = totals({DAYS[0]: 1}, "older").drop_columns(["kwh"])
    write_deltalake(lake.uri(TENANT, DATASET), older, partition_by=["usage_date"])
    with pytest.raises(EngineError, match="version 0, was stored without the columns kwh: materialise"):
        engine.table(lake.slice(TENANT, DATASET))


@pytest.mark.parametrize("dataset", sorted(schemas.TABLES))
def test_an_opened_table_has_the_types_that_ibis_reads(lake: Lake, engine: Engine, dataset: str) -> None:
    opened = engine.table(lake.slice(TENANT, dataset))
    assert opened.schema() == engine.connection.table(opened.get_name()).schema()


def test_a_slice_with_files_has_the_types_that_ibis_reads(lake: Lake, engine: Engine) -> None:
    lake.replace(TENANT, DATASET, DAYS[:1], totals({DAYS[0]: 2}, "x"), run_id="1")
    opened = engine.table(lake.slice(TENANT, DATASET, DAYS[:1]))
    assert opened.schema() == engine.connection.table(opened.get_name()).schema()
    assert opened.columns == schemas.SCOPE_TOTALS.column_names


def test_a_slice_is_opened_once_and_its_next_version_anew(lake: Lake, engine: Engine) -> None:
    lake.replace(TENANT, DATASET, DAYS[:1], totals({DAYS[0]: 2}, "x"), run_id="1")
    old = engine.table(lake.slice(TENANT, DATASET, DAYS[:1]))
    assert engine.table(lake.slice(TENANT, DATASET, DAYS[:1])) is old
    lake.replace(TENANT, DATASET, DAYS[:1], totals({DAYS[0]: 3}, "y"), run_id="2")
    new = engine.table(lake.slice(TENANT, DATASET, DAYS[:1]))
    assert [engine.to_arrow(table).num_rows for table in (old, new)] == [2, 3]


def test_a_slice_without_files_is_known_to_be_empty(lake: Lake, engine: Engine) -> None:
    before = engine.table(lake.slice(TENANT, DATASET, DAYS[:1]))
    lake.replace(TENANT, DATASET, DAYS[:1], totals({DAYS[0]: 2}, "x"), run_id="1")
    filled, other = (engine.table(lake.slice(TENANT, DATASET, [day])) for day in DAYS[:2])
    assert [engine.is_known_empty(table) for table in (before, filled, other)] == [True, False, True]
    assert [engine.has_rows(table) for table in (before, filled, other)] == [False, True, False]


def test_a_small_result_has_the_types_of_its_expression(engine: Engine) -> None:
    numbers = engine.register("numbers", pa.table({"n": pa.array([1, 2], pa.int32())}))
    expression = numbers.aggregate(sum=numbers.n.sum(), none=ibis.null())
    found = engine.to_arrow(expression)
    assert found.schema.types == [pa.int64(), pa.null()]
    assert found.to_pylist() == [{"sum": 3, "none": None}]


def test_a_table_is_read_and_written_without_pandas(tmp_path: Path) -> None:
    """Its import takes half a second of CPU, which every run would pay."""
    Lake(str(tmp_path)).replace(TENANT, DATASET, DAYS[:1], totals({DAYS[0]: 2}, "x"), run_id="1")
    code = (
        "import sys; from datetime import date\n"
        "from offgridflow_pipeline.lake import schemas\n"
        "from offgridflow_pipeline.lake.engine import Engine\n"
        "from offgridflow_pipeline.lake.tables import Lake\n"
        "lake, days = Lake(sys.argv[1]), [date(2026, 10, 1), date(2026, 10, 2)]\n"
        "with Engine(memory_mb=128, threads=1) as engine:\n"
        "    slices = [lake.slice('acme', 'scope_totals', [day]) for day in days]\n"
        "    filled, empty = (engine.table(one) for one in slices)\n"
        "    rows = engine.reader(filled.union(empty), schemas.SCOPE_TOTALS)\n"
        "    lake.replace('acme', 'scope_totals', days, rows, run_id='2')\n"
        "    read = engine.to_arrow(engine.table(lake.slice('acme', 'scope_totals', days)))\n"
        "print(read.num_rows, 'pandas' in sys.modules)\n"
    )
    out = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "2 False"


def test_the_engine_downloads_nothing(engine: Engine) -> None:
    setting = "select current_setting('autoinstall_known_extensions')"
    assert engine.connection.con.execute(setting).fetchall() == [(False,)]


def test_a_spooled_result_is_evaluated_once_and_read_often(engine: Engine) -> None:
    rolled = engine.register("one", pa.table({"n": [1]})).mutate(dice=ibis.random())
    spooled = engine.spool(rolled)
    assert engine.to_arrow(spooled).equals(engine.to_arrow(spooled))


def test_a_spool_keeps_decimals_exact(engine: Engine) -> None:
    value = Decimal("123456789.123456789012345678")
    data = engine.register("d", pa.table({"v": pa.array([value] * 3, pa.decimal128(38, 18))}))
    total = engine.spool(data).v.sum()
    assert engine.to_arrow(total.as_table())[0].to_pylist() == [value * 3]


def test_other_queries_may_run_while_a_stream_is_read(engine: Engine) -> None:
    numbers = ibis.range(200_000).unnest().name("n").as_table()
    stream = engine.reader(numbers)
    first = stream.read_next_batch()
    assert engine.to_arrow(numbers.count().as_table())[0].to_pylist() == [200_000]
    assert first.num_rows + sum(batch.num_rows for batch in stream) == 200_000


def test_work_larger_than_the_memory_limit_spills_and_succeeds(tmp_path: Path) -> None:
    with Engine(memory_mb=128, threads=1, temp_dir=tmp_path) as small:
        rows = 1_500_000
        numbers = ibis.range(rows).unnest().name("n").as_table()
        wide = small.spool(numbers.mutate(text=numbers.n.cast("string").hexdigest("sha256")))
        ordered = small.reader(wide.order_by("text"))
        assert sum(batch.num_rows for batch in ordered) == rows


def test_a_closed_engine_leaves_no_file_and_says_that_it_is_closed(tmp_path: Path) -> None:
    with Engine(memory_mb=128, threads=1, temp_dir=tmp_path) as opened:
        opened.spool(opened.register("one", pa.table({"n": [1]})))
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())
    with pytest.raises(EngineError, match="closed"):
        _ = opened.connection


def test_folders_with_blanks_and_quotes_in_their_name_are_read(tmp_path: Path, engine: Engine) -> None:
    lake = Lake(str(tmp_path / "our lake's data"))
    lake.replace(TENANT, DATASET, DAYS, totals(dict.fromkeys(DAYS, 1), "x"), run_id="1")
    count = engine.table(lake.slice(TENANT, DATASET, DAYS[:2])).count()
    assert engine.to_arrow(count.as_table())[0].to_pylist() == [2]
