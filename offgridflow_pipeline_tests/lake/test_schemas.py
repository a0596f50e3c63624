"""The declarations themselves: what every table must have for the writer and the data dictionary."""

from __future__ import annotations

import pyarrow as pa
import pytest

from offgridflow_pipeline.lake import schemas

EVERY = pytest.mark.parametrize("table", schemas.TABLES.values(), ids=lambda t: t.name)


@EVERY
def test_every_column_has_a_meaning_and_is_declared_once(table: schemas.Table) -> None:
    assert len(set(table.column_names)) == len(table.column_names)
    assert all(column.meaning.endswith(".") for column in table.columns)


@EVERY
def test_tenant_partition_and_key_are_columns_and_never_null(table: schemas.Table) -> None:
    required = {column.name for column in table.columns if not column.nullable}
    assert {"tenant_id", table.partition} <= required
    assert set(table.key) <= set(table.column_names)


@EVERY
def test_published_numbers_are_decimals(table: schemas.Table) -> None:
    assert not [c.name for c in table.columns if pa.types.is_floating(c.type)]


def test_the_usage_key_reads_columns_of_usage_lines_only() -> None:
    assert set(schemas.USAGE_KEY_COLUMNS) <= set(schemas.USAGE_LINES.column_names)
