"""What the checks against a provider's totals tell, of which accounts."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from offgridflow_pipeline.connectors.connections import connection
from offgridflow_pipeline.defs.checks import bills
from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.lake.engine import Engine

DAY = date(2026, 10, 5)


@pytest.mark.parametrize(("account_ids", "told"), [(["000000000042"], False), ([], True)])
def test_accounts_that_the_provider_was_not_asked_for_are_no_difference(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, account_ids: list[str], told: bool
) -> None:
    common = {"usage_date": DAY, "BillingCurrency": "USD", "BilledCost": Decimal(10)}
    rows = {
        "usage_lines": [common | {"x_ConnectionId": "payer", "SubAccountId": a} for a in ("000000000042", "9")],
        "control_totals": [
            common
            | {"connection_id": "payer", "SubAccountId": "000000000042", "source": "cost_explorer", "is_final": True}
        ],
    }

    def rows_of(_: Any, name: str, *__: Any) -> Any:
        arrow = schemas.table(name).arrow_schema
        fields = [field for field in arrow if field.name in rows[name][0]]
        return engine.register(name, pa.Table.from_pylist(rows[name], schema=pa.schema(fields)))

    monkeypatch.setattr(bills, "rows_of", rows_of)
    payer = connection(
        {
            "id": "payer", "kind": "cur", "uri": "s3://b", "reconcile": "cost_explorer",
            "aws": {"account_ids": account_ids},
        }
    )  # fmt: skip
    platform: Any = SimpleNamespace(engine=engine, connections=lambda _: [payer])
    found = bills._provider_findings(platform, "acme", schemas.USAGE_LINES, [DAY], final=True)
    assert bool(found) == told
