"""Files of Google's exports: nested Parquet, newline-delimited JSON and flattened CSV give the same lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from offgridflow_pipeline.connectors.errors import BillingObjectError
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline_tests.connectors.bills import extracted, lines, write_bill, write_bytes
from offgridflow_pipeline_tests.connectors.gcp_bills import (
    DETAILED,
    as_text,
    credit,
    gcp_focus_row,
    gcp_row,
    nested,
    without,
)

ROWS = [
    gcp_row(credits=[credit(-0.02), credit(-5e-06)]),
    gcp_row(project__id=None, project__name=None, labels=[], cost=0.30000000000000004),
    gcp_row(tags=[{"key": "cost", "value": "c-7", "inherited": True, "namespace": "901"}], usage__amount=2.5e-05),
]
#: Columns that tell where a line was read, and identity, which follows from the delivered text.
LINEAGE = {
    "x_LineId", "x_SourceRowHash", "x_SourceObject", "x_SourceObjectSha256", "x_SourceRow", "x_SourceVersion",
}  # fmt: skip
_KINDS = {"STRING": pa.string(), "FLOAT": pa.float64(), "NUMERIC": pa.decimal128(38, 9), "BOOLEAN": pa.bool_()}


def _kind(field: Any) -> pa.DataType:
    if isinstance(field, list):
        return pa.list_(_kind(field[0]))
    if isinstance(field, dict):
        return pa.struct([(name, _kind(member)) for name, member in field.items()])
    return _KINDS.get(field, pa.string())


def _parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    schema = pa.schema([(name, _kind(field)) for name, field in DETAILED.items()])
    pq.write_table(pa.Table.from_pylist([nested(row) for row in rows], schema), path)
    return path


def _json(path: Path, rows: list[dict[str, Any]]) -> Path:
    # BigQuery leaves null members out.
    present = [nested({name: value for name, value in row.items() if value is not None}) for row in rows]
    return write_bytes(path, "".join(json.dumps(row) + "\n" for row in present).encode())


def _csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    return write_bill(path, [as_text(row) for row in rows])


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], Path]] = {
    "bill.parquet": _parquet,
    "bill.ndjson": _json,
    "bill.json.gz": _json,
    "bill.csv": _csv,
    "bill.csv.gz": _csv,
}


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "bill.csv"])
def test_every_file_format_gives_the_lines_of_the_csv(engine: Engine, tmp_path: Path, name: str) -> None:
    expected = lines(engine, _csv(tmp_path / "bill.csv", ROWS), "gcp_detailed").to_pylist()
    found = lines(engine, WRITERS[name](tmp_path / name, ROWS), "gcp_detailed").to_pylist()
    for line, other in zip(found, expected, strict=True):
        assert without(line, *LINEAGE) == without(other, *LINEAGE)


def test_headers_with_underscores_and_other_capitals_are_the_same_columns(engine: Engine, tmp_path: Path) -> None:
    spelled = [{name.replace(".", "_").upper(): cell for name, cell in as_text(row).items()} for row in ROWS]
    expected = lines(engine, _csv(tmp_path / "a.csv", ROWS), "gcp_detailed")["x_LineId"].to_pylist()
    assert lines(engine, write_bill(tmp_path / "b.csv", spelled), "gcp_detailed")["x_LineId"].to_pylist() == expected


def test_members_that_only_some_lines_have_are_kept(engine: Engine, tmp_path: Path) -> None:
    path = _json(tmp_path / "bill.ndjson", [gcp_row(), gcp_row() | {"something.new": "x"}])
    found = engine.to_arrow(extracted(engine, path, "gcp_detailed").order_by("source_row"))
    assert [json.loads(text or "{}").get("something_new") for text in found["other_columns"].to_pylist()] == [None, "x"]


def test_a_line_that_is_no_json_refuses_the_object(engine: Engine, tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "bill.ndjson", (json.dumps(nested(gcp_row())) + '\n{"cost": \n').encode())
    with pytest.raises(BillingObjectError, match="bill.ndjson: the text is not valid JSON"):
        extracted(engine, path, "gcp_detailed")


def test_json_lines_of_focus_are_a_bill_as_well(engine: Engine, tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "bill.ndjson", json.dumps(gcp_focus_row()).encode())
    [line] = lines(engine, path, "gcp_focus").to_pylist()
    assert (line["x_InstanceType"], json.loads(line["Tags"])) == ("n2-standard-4", {"team": "web"})
