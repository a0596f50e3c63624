"""Small usage lines for tests: a dict per line, everything else from the declared schema."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa

from offgridflow_pipeline.emissions.calculate import calculate
from offgridflow_pipeline.factors.register import load_factor_set
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline.lake.schemas import USAGE_KEY_COLUMNS, USAGE_LINES

AS_OF = date(2026, 11, 22)
FACTORS = load_factor_set()

_WIDE = Context(prec=60)
_DEFAULTS: dict[str, Any] = {
    "tenant_id": "acme",
    "usage_date": date(2024, 6, 15),
    "BillingAccountId": "100000000001",
    "SubAccountId": "200000000002",
    "x_Provider": "aws",
    "RegionId": "us-east-1",
    "ChargeCategory": "Usage",
    "BillingCurrency": "USD",
    "BilledCost": Decimal(1),
    "x_Disposition": "countable",
}


def line(usage_type: str = "", quantity: object = 1, unit: str | None = "Hours", **columns: Any) -> dict[str, Any]:
    """One usage line; other columns by their name."""
    amount = None if quantity is None else Decimal(str(quantity)).quantize(Decimal("1e-18"), context=_WIDE)
    row = {**_DEFAULTS, "x_UsageType": usage_type, "x_NormQuantity": amount, "x_NormUnit": unit, **columns}
    key = repr([str(row.get(name)) for name in USAGE_KEY_COLUMNS])
    row.setdefault("x_UsageKey", hashlib.md5(key.encode()).hexdigest())
    return row


def ec2(usage_type: str, quantity: object = 1, unit: str | None = "Hours", **columns: Any) -> dict[str, Any]:
    """One line of AmazonEC2."""
    return line(usage_type, quantity, unit, **{"x_ServiceCode": "AmazonEC2", **columns})


def arrow_lines(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Lines with all declared columns; ids are the positions."""
    moment = datetime(2024, 6, 15, tzinfo=UTC)
    complete = [
        {
            "x_LineId": f"{position:06d}",
            "x_SourceRowHash": "",
            "x_SourceObjectSha256": "ab" * 32,
            "x_SourceObject": "memory",
            "x_SourceRow": position,
            "x_ExtractedAt": moment,
            "ChargePeriodStart": moment,
            **row,
        }
        for position, row in enumerate(rows, start=1)
    ]
    return pa.Table.from_pylist(complete, schema=USAGE_LINES.arrow_schema)


def ledger(rows: Iterable[Mapping[str, Any]], **options: Any) -> list[dict[str, Any]]:
    """Ledger lines of the rows in their order, all columns."""
    with Engine(256, 1) as engine:
        lines = engine.register("usage_lines", arrow_lines(rows))
        result = calculate(engine, lines, FACTORS, **{"as_of": AS_OF, "run_id": "test", **options})
        found = engine.reader(result).read_all().to_pylist()
    return sorted(found, key=lambda row: row.get("line_id", ""))


def ledgers(bills: Sequence[Sequence[Mapping[str, Any]]], **options: Any) -> list[list[dict[str, Any]]]:
    """The ledger of each bill, calculated at once: a line depends on no other line."""
    found = iter(ledger([row for bill in bills for row in bill], **options))
    return [[next(found) for _ in bill] for bill in bills]


def one(row: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    """Ledger line of one row."""
    return ledger([row], **options)[0]
