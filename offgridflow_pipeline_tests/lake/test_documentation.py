"""The data dictionary follows the declarations."""

from __future__ import annotations

import pyarrow as pa
import pytest

from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.lake.documentation import data_dictionaries, data_dictionary, type_name


@pytest.mark.parametrize("table", schemas.TABLES.values(), ids=lambda t: t.name)
def test_every_column_has_one_row_in_declared_order(table: schemas.Table) -> None:
    rows = data_dictionary(table)
    assert tuple(row.name for row in rows) == table.column_names
    assert {row.table for row in rows} == {table.name}


def test_a_row_says_type_unit_and_meaning() -> None:
    (row,) = [r for r in data_dictionary(schemas.EMISSION_LINES) if r.name == "co2e_lbm_kg"]
    assert (row.type, row.unit, row.nullable) == ("decimal(38,12)", "kgCO2e", True)
    assert row.meaning.startswith("Use-phase electricity, location-based")


def test_all_tables_are_in_the_whole_dictionary() -> None:
    assert {row.table for row in data_dictionaries()} == set(schemas.TABLES)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (pa.list_(pa.string()), "list of text"),
        (pa.timestamp("us", tz="UTC"), "timestamp (UTC)"),
        (pa.date32(), "date"),
        (pa.int16(), "integer (16 bit)"),
        (pa.bool_(), "boolean"),
    ],
)
def test_types_are_named_for_people(kind: pa.DataType, name: str) -> None:
    assert type_name(kind) == name
