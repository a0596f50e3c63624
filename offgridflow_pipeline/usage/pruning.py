"""Expressions without the columns nobody asked for, so that little SQL is made, planned and run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ibis.expr.operations as ops

if TYPE_CHECKING:
    from collections.abc import Collection

    import ibis.expr.types as ir


def pruned(table: ir.Table) -> ir.Table:
    """The same rows and columns; projections below keep only the columns that are needed for them.

    Stops at the first operation that is no projection (a table, a filter, a union).
    """
    return _pruned(table.op(), None).to_expr()


def _pruned(node: Any, wanted: Collection[str] | None) -> Any:
    if not isinstance(node, ops.Project):
        return node
    values = {name: value for name, value in node.values.items() if wanted is None or name in wanted}
    fields = {field for value in values.values() for field in value.find(ops.Field, filter=ops.Value)}
    used = {field.name for field in fields} or {next(iter(node.parent.schema))}
    parent = _pruned(node.parent, used)
    moved = {field: ops.Field(parent, field.name) for field in fields}
    return ops.Project(parent, {name: _replaced(value, moved) for name, value in values.items()})


def _replaced(value: Any, moved: dict[Any, Any]) -> Any:
    return moved[value] if value in moved else value.replace(moved, filter=ops.Value)
