"""Usage lines from extract rows of any feed: the front door of this package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import ibis

from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.usage.aws_cur import cur_lines
from offgridflow_pipeline.usage.focus import focus_lines
from offgridflow_pipeline.usage.keys import with_identity
from offgridflow_pipeline.usage.pruning import pruned

if TYPE_CHECKING:
    import ibis.expr.datatypes as dt
    import ibis.expr.types as ir

_MAPPINGS = {"cur": cur_lines, "cur2": cur_lines, "focus": focus_lines}


class UnknownFeedError(ValueError):
    """No mapping exists for that feed."""


def usage_lines(rows: ir.Table, feed: str, columns: Sequence[str] | None = None) -> ir.Table:
    """Usage lines, one per extract row, lazily evaluated: the declared columns, or those asked for.

    Only columns that are asked for are computed; line ids need a pass over all rows.

    Raises:
        UnknownFeedError: `feed` is none of cur, cur2, focus.
    """
    mapping = _MAPPINGS.get(feed)
    if mapping is None:
        raise UnknownFeedError(f"Feed {feed!r} is unknown: use one of {', '.join(_MAPPINGS)}.")
    lines = with_identity(mapping(rows))
    schema = ibis.Schema.from_pyarrow(schemas.USAGE_LINES.arrow_schema)
    wanted = schema.names if columns is None else columns
    return pruned(lines.select(**{name: _typed(lines, name, schema[name]) for name in wanted}))


def _typed(lines: ir.Table, name: str, kind: dt.DataType) -> ir.Value:
    """The column in its declared type; null when the feed cannot fill it."""
    if name not in lines.columns:
        return ibis.null(kind)
    return lines[name] if lines[name].type() == kind else lines[name].cast(kind)
