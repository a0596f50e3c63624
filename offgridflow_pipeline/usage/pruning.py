"""Expressions without the columns nobody asked for, so that little SQL is made, planned and run.

Projections only: what lies under them (a table, a filter, a union) is left as it is or replaced as a whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ibis.expr.operations as ops

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import ibis.expr.types as ir


def pruned(table: ir.Table) -> ir.Table:
    """The same rows and columns; projections below keep only the columns that are needed for them."""
    return _pruned(table.op(), None, None, ()).to_expr()


def pruned_over(table: ir.Table, source: ir.Table, carried: Sequence[str]) -> ir.Table:
    """As `pruned`, over `source` in place of the table at the bottom, with the `carried` columns of `source` added.

    `source` needs the columns that `source_columns` names.

    Raises:
        ValueError: a projection has a column named as a carried one.
    """
    return _pruned(table.op(), None, source.op(), carried).to_expr()


def source_columns(table: ir.Table, column: str) -> frozenset[str]:
    """Columns of the table at the bottom that a column is computed from; none for a constant."""
    names, node = frozenset({column}), table.op()
    while isinstance(node, ops.Project):
        names = frozenset(field.name for field in _fields(node.values[name] for name in names))
        node = node.parent
    return names


def _pruned(node: Any, wanted: Collection[str] | None, source: Any, carried: Sequence[str]) -> Any:
    if not isinstance(node, ops.Project):
        return node if source is None else source
    if taken := node.values.keys() & set(carried):
        raise ValueError(f"Carried columns {sorted(taken)} are columns of a projection too: rename them.")
    values = {name: value for name, value in node.values.items() if wanted is None or name in wanted}
    fields = _fields(values.values())
    used = {field.name for field in fields}
    if not used and not carried:
        used = {next(iter(node.parent.schema))}
    parent = _pruned(node.parent, used, source, carried)
    moved = {field: ops.Field(parent, field.name) for field in fields}
    kept = {name: ops.Field(parent, name) for name in carried}
    return ops.Project(parent, {name: _replaced(value, moved) for name, value in values.items()} | kept)


def _fields(values: Any) -> set[Any]:
    return {field for value in values for field in value.find(ops.Field, filter=ops.Value)}


def _replaced(value: Any, moved: dict[Any, Any]) -> Any:
    return moved[value] if value in moved else value.replace(moved, filter=ops.Value)
