"""Usage lines of a bill in temporary files, so that they can be read twice; memory stays bounded by the engine.

For sums lines are packed (`usage.packing`): what a row is travels as one text, which Parquet stores once per distinct
text, and is worked out per text, not per row. For the ledger itself lines are spooled as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from offgridflow_pipeline.cli.bills import CONNECTION
from offgridflow_pipeline.connectors.feeds import EXTRACT_TABLES, FEEDS
from offgridflow_pipeline.connectors.reading.extracts import ReadLimits, extract, reading_errors
from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.usage.keys import separators
from offgridflow_pipeline.usage.normalise import usage_lines
from offgridflow_pipeline.usage.packing import (
    KIND,
    Packing,
    kinds,
    packed_lines,
    packing,
    typical_lines,
    unpacked_lines,
)

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from offgridflow_pipeline.cli.bills import Bill
    from offgridflow_pipeline.connectors.feeds import FeedName
    from offgridflow_pipeline.lake.engine import Engine

TENANT = "estimate"
_KEY = schemas.USAGE_KEY_COLUMNS
#: Columns that calculation reads whatever is asked for.
_ALWAYS = ("usage_date", "BilledCost", "BillingCurrency", "RegionId", "x_NormQuantity")
_RENAMED = {
    "line_id": "x_LineId",
    "source_object_sha256": "x_SourceObjectSha256",
    "row_no": "x_SourceRow",
    "billed_cost": "BilledCost",
}


class UnseparableKeyError(ValueError):
    """A bill holds the control character U+001F, which separates the parts of a usage key."""


class Sources(NamedTuple):
    """Usage lines of a bill, and fewer that stand for them when keys are looked for (None: none but all do)."""

    lines: ir.Table
    typical: ir.Table | None


def spooled_sources(
    engine: Engine, bill: Bill, feed: FeedName, ledger_columns: Sequence[str], limits: ReadLimits
) -> Sources:
    """Usage lines with what `ledger_columns` of emission_lines are made from, and the usage key.

    One object is read at a time: every open reader holds buffers, which would add up.

    Raises:
        BillingObjectError: an object is refused; names file, row, column and cure.
        UnseparableKeyError: a text of the bill holds U+001F.
    """
    table = schemas.table(EXTRACT_TABLES[FEEDS[feed].dialect])
    wanted = [_RENAMED.get(name, name) for name in ledger_columns]
    plain = [name for name in dict.fromkeys((*_ALWAYS, *wanted)) if name in schemas.USAGE_LINES.column_names]
    # Line ids tell equal rows apart by counting them, so they need the rows of all objects at once.
    whole = "x_LineId" in plain
    plan = None if whole else packing(feed, plain)
    parts = []
    for item in bill.objects:
        with reading_errors([item]):
            rows = extract(engine, [item], table, tenant=TENANT, connection_id=CONNECTION, feed=feed, limits=limits)
            parts.append(engine.spool(packed_lines(plan, rows) if plan else rows))
    united = _united(engine, parts)
    if plan is None:
        keyed = dict.fromkeys((*plain, *_KEY, "x_UsageKey"))
        return Sources(engine.spool(usage_lines(united, feed).select(*keyed)), None)
    # One file again: a query over many scans keeps buffers for each of them.
    return _unpacked(engine, plan, united if len(parts) == 1 else engine.spool(united))


def _unpacked(engine: Engine, plan: Packing, packed: ir.Table) -> Sources:
    found = engine.spool(kinds(plan, packed))
    most = engine.reader(found.aggregate(most=separators(found[KIND]).max())).read_all().to_pylist()[0]["most"]
    if most is not None and most != plan.texts - 1:
        raise UnseparableKeyError(
            "A usage type, operation or description of the bill holds the control character U+001F: remove it."
        )
    typical = unpacked_lines(plan, typical_lines(plan, packed), found)
    return Sources(unpacked_lines(plan, packed, found), engine.spool(typical))


def _united(engine: Engine, parts: Sequence[ir.Table]) -> ir.Table:
    name = f"parts_{uuid4().hex[:12]}"
    engine.connection.raw_sql(
        f'CREATE VIEW "{name}" AS ' + " UNION ALL ".join(f'SELECT * FROM "{part.get_name()}"' for part in parts)
    )
    return engine.connection.table(name)
