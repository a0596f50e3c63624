"""The facts as CSV: the file that the PDF attaches, and whose digest the workbook names."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS = (
    "fact_id", "metric", "period_start", "period_end", "dims", "value", "unit", "decimals", "not_available_reason",
)  # fmt: skip


def facts_csv(facts: pa.Table) -> bytes:
    """Rows of `schemas.REPORT_FACTS` in order of presentation, without what only a machine reads."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(facts.sort_by("sort_order").to_pylist())
    return buffer.getvalue().encode()
