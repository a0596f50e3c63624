"""Control totals of any API: which is asked, and that sums are exact."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offgridflow_pipeline.connectors.access import GcpAccess, LocalAccess
from offgridflow_pipeline.connectors.connections import connection
from offgridflow_pipeline.connectors.control_totals.totals import Total, as_table
from offgridflow_pipeline.connectors.errors import (
    ConnectionConfigError,
    DeliveryError,
)
from offgridflow_pipeline.lake.schemas import CONTROL_TOTALS
from offgridflow_pipeline_tests.connectors.provider_reading import DAYS, NOW, totals


def test_a_connection_without_reconciliation_has_no_totals() -> None:
    bills = connection({"id": "bills", "kind": "cur", "uri": "/bills"})

    found = totals(bills, LocalAccess(), DAYS)

    assert (found.num_rows, found.schema) == (0, CONTROL_TOTALS.arrow_schema)


def test_access_to_another_provider_is_refused() -> None:
    bills = connection({"id": "payer", "kind": "cur2", "uri": "s3://bills/cur", "reconcile": "cost_explorer"})

    with pytest.raises(ConnectionConfigError, match="payer.*is reconciled by cost_explorer"):
        totals(bills, GcpAccess(), DAYS)


_TOTALS = st.builds(
    Total,
    day=st.sampled_from(DAYS),
    billing_account_id=st.sampled_from([None, "payer"]),
    sub_account_id=st.sampled_from([None, "a", "b"]),
    currency=st.sampled_from(["EUR", "USD"]),
    cost=st.decimals(-(10**12), 10**12, places=18),
    line_count=st.one_of(st.none(), st.integers(0, 9)),
)


@given(st.lists(_TOTALS, max_size=30), st.randoms())
def test_totals_are_exact_sums_in_any_order(found: list[Total], random: Any) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)
    facts = {"tenant": "acme", "connection_id": "c", "source": "bigquery", "retrieved_at": NOW}

    table = as_table(found, **facts)

    assert table.equals(as_table(shuffled, **facts))
    stored = sum(Fraction(row["BilledCost"]) for row in table.to_pylist())
    assert stored == sum(Fraction(total.cost) for total in found)


def test_a_total_beyond_any_bill_is_refused() -> None:
    with pytest.raises(DeliveryError, match="no amount of money is so large"):
        as_table(
            [Total(DAYS[0], None, "a", "USD", Decimal(10) ** 21)],
            tenant="acme", connection_id="c", source="bigquery", retrieved_at=datetime.now(UTC),
        )  # fmt: skip


def test_an_empty_account_is_none_as_it_is_in_the_bill() -> None:
    table = as_table(
        [Total(DAYS[0], "payer", "", "USD", Decimal(1)), Total(DAYS[0], "payer", None, "USD", Decimal(2))],
        tenant="acme", connection_id="c", source="bigquery", retrieved_at=NOW,
    )  # fmt: skip
    assert [(row["SubAccountId"], row["BilledCost"]) for row in table.to_pylist()] == [(None, 3)]
