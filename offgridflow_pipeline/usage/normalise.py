"""Usage lines from extract rows of any feed: the front door of this package."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import ibis

from offgridflow_pipeline.connectors.feeds import FEEDS, Dialect
from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.usage.aws_cur import cur_lines
from offgridflow_pipeline.usage.azure_costs import azure_lines
from offgridflow_pipeline.usage.focus import focus_lines
from offgridflow_pipeline.usage.gcp_billing import gcp_lines
from offgridflow_pipeline.usage.keys import with_identity
from offgridflow_pipeline.usage.pruning import pruned

if TYPE_CHECKING:
    import ibis.expr.datatypes as dt
    import ibis.expr.types as ir

#: Header dialect -> mapping of its extract rows.
_MAPPINGS: dict[Dialect, Callable[[ir.Table], ir.Table]] = {
    "cur": cur_lines,
    "azure": azure_lines,
    "gcp": gcp_lines,
    "focus": focus_lines,
}


class UnknownFeedError(ValueError):
    """No mapping exists for that feed."""


def usage_lines(rows: ir.Table, feed: str, columns: Sequence[str] | None = None) -> ir.Table:
    """Usage lines, one per extract row, lazily evaluated: the declared columns, or those asked for.

    Only columns that are asked for are computed; line ids need a pass over all rows.

    Raises:
        UnknownFeedError: `feed` is no name of `connectors.feeds`.
    """
    return _lines(rows, dialect_of(feed), columns)


def united_lines(extracts: Mapping[Dialect, ir.Table], has_rows: Callable[[ir.Table], bool]) -> ir.Table:
    """Usage lines of all extract tables of the same days, given by header dialect.

    Tables without rows are left out: each mapping costs the engine's planner a good part of a second.
    """
    filled = {dialect: rows for dialect, rows in extracts.items() if has_rows(rows)}
    parts = [_lines(rows, dialect, None) for dialect, rows in (filled or dict([*extracts.items()][:1])).items()]
    return ibis.union(*parts, distinct=False)


def mapped(rows: ir.Table, dialect: Dialect) -> ir.Table:
    """Extract rows with the columns of `usage_lines` that the dialect can fill, identity excluded."""
    return _MAPPINGS[dialect](rows)


def typed(lines: ir.Table, name: str, kind: dt.DataType) -> ir.Value:
    """The column in its declared type; null when the feed cannot fill it."""
    if name not in lines.columns:
        return ibis.null(kind)
    return lines[name] if lines[name].type() == kind else lines[name].cast(kind)


def dialect_of(feed: str) -> Dialect:
    """Header dialect of a feed.

    Raises:
        UnknownFeedError: `feed` is no name of `connectors.feeds`.
    """
    if feed not in FEEDS:
        raise UnknownFeedError(f"Feed {feed!r} is unknown: use one of {', '.join(FEEDS)}.")
    return FEEDS[feed].dialect


def _lines(rows: ir.Table, dialect: Dialect, columns: Sequence[str] | None) -> ir.Table:
    lines = with_identity(mapped(rows, dialect))
    schema = ibis.Schema.from_pyarrow(schemas.USAGE_LINES.arrow_schema)
    wanted = schema.names if columns is None else columns
    return pruned(lines.select(**{name: typed(lines, name, schema[name]) for name in wanted}))
