"""Statements over time, and beside the estimate."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import ibis
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offgridflow_pipeline.inventory import statements
from offgridflow_pipeline.inventory.statements import (
    appended,
    compare_with_estimate,
    control_differences,
    current,
)
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline.lake.schemas import PROVIDER_STATEMENTS
from offgridflow_pipeline.lake.tables import Lake
from offgridflow_pipeline_tests.inventory.ledgers import InProcess, Ledger, line, money_line, unmapped_line

START = datetime(2026, 10, 1, tzinfo=UTC)


def figure(kg: str | int = 1, hours: int = 0, **values: Any) -> dict[str, Any]:
    """A location-based scope 2 figure of an account's EC2, read `hours` after the start."""
    row: dict[str, Any] = {
        "tenant_id": "acme",
        "month": "2026-08",
        "connection_id": "carbon",
        "provider": "aws",
        "source": "carbon_export",
        "BillingAccountId": "100000000001",
        "SubAccountId": "100000000002",
        "RegionId": "eu-west-1",
        "x_ServiceCode": "AmazonEC2",
        "model_version": "v3.0.0",
        "scope": "2",
        "basis": "location",
        "co2e_kg": Decimal(kg),
        "is_complete": True,
        "retrieved_at": START + timedelta(hours=hours),
        "run_id": f"run-{hours}",
    } | values
    content = [str(row[name]) for name in sorted(row) if name not in {"retrieved_at", "run_id", "tenant_id"}]
    return row | {"statement_id": hashlib.sha256("|".join(content).encode()).hexdigest()}


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=PROVIDER_STATEMENTS.arrow_schema)


def history(*reads: pa.Table) -> pa.Table:
    """What is stored after these reads."""
    stored = table()
    for read in reads:
        stored = appended(stored, read)
    return stored


def masses(rows: pa.Table) -> list[Decimal]:
    return rows.column("co2e_kg").to_pylist()


# Append-only


def test_reading_the_same_figure_again_adds_nothing() -> None:
    first, second = table(figure(7, hours=0)), table(figure(7, hours=24))

    assert history(first, second).equals(first)


def test_a_restated_model_version_stands_beside_the_old_one() -> None:
    stored = history(table(figure(171)), table(figure(164, hours=24, model_version="v3.1.0")))

    assert masses(stored) == [Decimal(171), Decimal(164)]
    assert masses(current(stored)) == [Decimal(164)]


def test_a_changed_figure_of_the_same_version_is_added_with_its_time() -> None:
    stored = history(table(figure(7)), table(figure(8, hours=24)))

    assert masses(stored) == [Decimal(7), Decimal(8)]
    assert stored.column("retrieved_at").to_pylist() == [START, START + timedelta(hours=24)]
    assert masses(current(stored)) == [Decimal(8)]


def test_a_figure_that_changes_back_is_current_again() -> None:
    stored = history(table(figure(7)), table(figure(8, hours=1)), table(figure(7, hours=2)))

    assert masses(stored) == [Decimal(7), Decimal(8), Decimal(7)]
    assert masses(current(stored)) == [Decimal(7)]


def test_a_figure_that_turned_complete_is_news() -> None:
    stored = history(table(figure(7, is_complete=False)), table(figure(7, hours=1)))

    assert current(stored).column("is_complete").to_pylist() == [True]


def test_null_keys_are_keys() -> None:
    stored = history(table(figure(7, SubAccountId=None)), table(figure(7, SubAccountId=None, hours=1), figure(7)))

    assert stored.num_rows == 2


_FIGURES = st.builds(
    figure,
    kg=st.integers(0, 2),
    SubAccountId=st.sampled_from([None, "a"]),
    scope=st.sampled_from(["2", "total"]),
    model_version=st.sampled_from(["v3.0.0", "v3.1.0"]),
    is_complete=st.booleans(),
)


@st.composite
def _reads(draw: st.DrawFn) -> list[pa.Table]:
    """Readings one after the other; a reading states a figure once."""
    found = []
    for hour in range(draw(st.integers(1, 5))):
        figures = {
            tuple(f[name] for name in ("SubAccountId", "scope", "model_version")): f
            for f in draw(st.lists(_FIGURES, max_size=4))
        }
        found.append(table(*(f | {"retrieved_at": START + timedelta(hours=hour)} for f in figures.values())))
    return found


def _rows(found: pa.Table) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in found.to_pylist()]


def _figures(found: Iterable[dict[str, Any]]) -> set[tuple[Any, ...]]:
    names = ("SubAccountId", "scope", "model_version", "co2e_kg", "is_complete")
    return {tuple(row[name] for name in names) for row in found}


def _as_of(stored: pa.Table, hour: int) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """What each figure and version was, an hour after the start: an independent reading of the history."""
    last: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for row in sorted(stored.to_pylist(), key=lambda r: r["retrieved_at"]):
        if row["retrieved_at"] <= START + timedelta(hours=hour):
            key = (row["SubAccountId"], row["scope"], row["model_version"])
            last[key] = (row["co2e_kg"], row["is_complete"])
    return last


@given(_reads())
def test_nothing_is_ever_removed_and_no_figure_is_lost(reads: list[pa.Table]) -> None:
    stored = table()
    for read in reads:
        longer = appended(stored, read)
        assert longer.slice(0, stored.num_rows).equals(stored)
        stored = longer

    assert _figures(stored.to_pylist()) == _figures(row for read in reads for row in read.to_pylist())


@given(_reads())
def test_the_history_tells_what_was_known_at_any_time(reads: list[pa.Table]) -> None:
    stored, everything = history(*reads), pa.concat_tables(reads)

    for hour in range(len(reads)):
        assert _as_of(stored, hour) == _as_of(everything, hour)


@given(_reads())
def test_appending_again_changes_nothing(reads: list[pa.Table]) -> None:
    stored = history(*reads)

    assert history(*reads, *reads[-1:]).equals(stored)
    assert appended(stored, stored).equals(stored)
    assert appended(table(), pa.concat_tables(reads)).num_rows == stored.num_rows


@given(_reads(), st.randoms())
def test_the_order_of_rows_and_of_connections_does_not_matter(reads: list[pa.Table], random: Any) -> None:
    other = [
        table(*(row | {"connection_id": "other"} for row in read.to_pylist())) if read.num_rows else read
        for read in reads
    ]
    shuffled = []
    for read in reads:
        rows = read.to_pylist()
        random.shuffle(rows)
        shuffled.append(table(*rows))

    one = history(*[r for pair in zip(reads, other, strict=True) for r in pair])
    two = history(*[r for pair in zip(other, shuffled, strict=True) for r in pair])

    assert set(_rows(one)) == set(_rows(two))
    assert set(_rows(current(one))) == set(_rows(current(two)))


def test_statements_survive_the_lake(lake: Lake, engine: Engine) -> None:
    for read in (
        table(figure(171)),
        table(figure(164, hours=24, model_version="v3.1.0")),
        table(figure(171, hours=48)),
    ):
        old = engine.to_arrow(engine.table(lake.slice("acme", "provider_statements", ["2026-08"])))
        rows = appended(old, read)
        lake.replace(
            "acme", "provider_statements", ["2026-08"], rows.cast(PROVIDER_STATEMENTS.arrow_schema), run_id="r"
        )

    stored = engine.to_arrow(engine.table(lake.slice("acme", "provider_statements", ["2026-08"])))
    assert sorted(masses(stored)) == [Decimal(164), Decimal(171)]


# Current


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("v3.0.0", "v3.1.0"),
        ("v9.0.0", "v10.0.0"),
        ("v3.1.0-beta.2", "v3.1.0"),
        ("v3.1.0-beta.2", "v3.1.0-beta.10"),
        ("9", "12"),
        ("", "1"),
    ],
)
def test_versions_are_compared_as_versions_however_late_the_older_is_read(older: str, newer: str) -> None:
    stored = history(table(figure(2, model_version=newer)), table(figure(1, hours=9, model_version=older)))

    assert current(stored).column("model_version").to_pylist() == [newer]


def test_a_figure_that_the_newer_model_does_not_restate_stays_current() -> None:
    cloudfront = figure(4, x_ServiceCode="AmazonCloudFront", RegionId=None)
    stored = history(table(figure(171), cloudfront), table(figure(164, hours=24, model_version="v3.1.0")))

    assert sorted(masses(current(stored))) == [Decimal(4), Decimal(164)]


def test_the_export_and_the_api_of_one_account_are_counted_once() -> None:
    api = figure(164, connection_id="api", source="sustainability", BillingAccountId=None, model_version="v3.1.0")
    only_api = api | {"SubAccountId": "100000000009", "statement_id": "9"}
    stored = history(table(figure(164, model_version="v3.1.0")), table(api, only_api))

    found = {(row["connection_id"], row["SubAccountId"]) for row in current(stored).to_pylist()}

    assert found == {("carbon", "100000000002"), ("api", "100000000009")}


# Comparison


def _line(number: int, **values: Any) -> dict[str, Any]:
    return line(number, usage_date=date(2026, 8, number % 28 + 1), **values)


def _compare(rows: Sequence[dict[str, Any]], lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    totals = ibis.memtable(Ledger(list(lines)).scope_totals())
    found = compare_with_estimate(InProcess(), table(*rows), totals)
    assert found.schema == statements.COMPARISON
    return found.to_pylist()


def _statement(account: str = "100000000002", **values: Any) -> list[dict[str, Any]]:
    """Scopes 1 + 2 + 3 = 1 + 10 + 100 location-based, 1 + 0 + 50 market-based, and their totals."""
    kilograms = {
        ("1", "none"): 1, ("2", "location"): 10, ("2", "market"): 0, ("3", "location"): 100, ("3", "market"): 50,
        ("total", "location"): 111, ("total", "market"): 51,
    }  # fmt: skip
    return [
        figure(kg, SubAccountId=account, scope=scope, basis=basis, **values) for (scope, basis), kg in kilograms.items()
    ]


def test_scopes_are_added_per_basis_and_totals_never() -> None:
    (row,) = _compare(_statement(), [])

    assert row["statement_location_kg"] == Decimal(111)
    assert row["statement_market_kg"] == Decimal(51)
    assert row["found_in"] == "statement"
    assert row["difference_location_kg"] is None


def test_statement_and_estimate_stand_side_by_side_per_account_and_service() -> None:
    lines = [_line(n) for n in range(30)] + [_line(30, SubAccountId="100000000003")]
    expected: dict[str, Decimal] = defaultdict(Decimal)
    for entry in lines:
        if entry["SubAccountId"] == "100000000002":
            expected["location"] += entry["co2e_lbm_kg"] + entry["embodied_kg"] + entry["upstream_energy_kg"]
            expected["market"] += entry["co2e_mbm_kg"] + entry["embodied_kg"] + entry["upstream_energy_kg"]

    both, alone = _compare(_statement(), lines)

    assert (both["found_in"], alone["found_in"]) == ("both", "estimate")
    assert both["estimate_location_kg"] == expected["location"]
    assert both["difference_location_kg"] == Decimal(111) - expected["location"]
    assert both["difference_market_kg"] == Decimal(51) - expected["market"]
    assert (alone["SubAccountId"], alone["statement_location_kg"]) == ("100000000003", None)


def test_a_billed_service_without_a_model_is_listed_and_money_is_not() -> None:
    (row,) = _compare([], [unmapped_line(1, "5", usage_date=date(2026, 8, 1)), money_line(2, "9")])

    assert (row["found_in"], row["estimate_location_kg"]) == ("estimate", Decimal(0))


def test_only_the_current_version_is_compared_and_an_incomplete_statement_says_so() -> None:
    old = _statement()
    new = [f | {"model_version": "v3.1.0", "co2e_kg": f["co2e_kg"] * 2, "is_complete": False} for f in old]

    (row,) = _compare([*old, *new], [])

    assert (row["statement_location_kg"], row["is_complete"]) == (Decimal(222), False)


def test_azure_is_compared_by_resource_provider_and_claims_no_basis() -> None:
    rows = [
        figure(3, provider="azure", source="carbon_optimization", basis="provider_unspecified", model_version="",
               x_ServiceCode=f"microsoft.compute/{kind}", scope=scope)
        for kind in ("disks", "virtualmachines") for scope in ("2", "3", "total")
    ]  # fmt: skip

    (row,) = _compare(rows, [_line(1, x_Provider="azure", x_ServiceCode="microsoft.compute")])

    assert (row["statement_unspecified_kg"], row["found_in"]) == (Decimal(12), "both")
    assert (row["statement_location_kg"], row["difference_location_kg"]) == (None, None)


# Control totals of statements


def test_totals_that_are_the_sum_of_their_scopes_are_silent_and_others_are_told() -> None:
    assert control_differences(table(*_statement())).num_rows == 0

    (row,) = control_differences(table(*_statement()[:-1], figure("51.5", scope="total", basis="market"))).to_pylist()

    assert (row["basis"], row["difference_kg"]) == ("market", Decimal("0.5"))


def test_azures_total_of_all_subscriptions_is_held_against_their_scopes() -> None:
    azure = {"provider": "azure", "source": "carbon_optimization", "basis": "provider_unspecified"}
    scopes = [figure(4, SubAccountId=f"s{n}", scope=str(scope), **azure) for n in range(2) for scope in (1, 2, 3)]
    total = figure(
        25, SubAccountId=None, BillingAccountId=None, RegionId=None, x_ServiceCode=None, scope="total", **azure
    )

    (row,) = control_differences(table(*scopes, total)).to_pylist()

    assert (row["basis"], row["stated_total_kg"], row["sum_of_scopes_kg"]) == ("unspecified", Decimal(25), Decimal(24))
