"""What rows of Azure cost exports mean: dispositions, costs, blocks, machines, places, and equal use in both exports."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline.usage.azure_rules import charge_types, units_of_measure
from offgridflow_pipeline.usage.reconcile import differences, unexplained
from offgridflow_pipeline.usage.rules import unit_rules
from offgridflow_pipeline_tests.connectors.azure_bills import EA, GROUP, ea_row, write_ea
from offgridflow_pipeline_tests.connectors.bills import extracted, lines, mapped_lines, write_bill

RESERVATION = "9A3B12AF-9907-4AA2-B9EE-74F89897DBA1"
MARKETPLACE = {"PublisherType": "Marketplace", "PublisherName": "Cloud Monitoring GmbH"}
STORAGE = {"MeterCategory": "Storage", "MeterSubCategory": "Tiered Block Blob", "AdditionalInfo": ""}

Line = dict[str, Any]


def lines_of(engine: Engine, folder: Path, cases: Mapping[str, Mapping[str, str]], feed: str) -> dict[str, Line]:
    """The usage line of each case, an EA row with changes; one bill for all, since planning costs a second."""
    path = write_ea(
        folder / "bill.csv", [ea_row(**{"ResourceName": name} | dict(case)) for name, case in cases.items()]
    )
    return dict(zip(cases, lines(engine, path, feed).to_pylist(), strict=True))


def bill_of(tmp_path_factory: pytest.TempPathFactory, cases: Mapping[str, Mapping[str, str]]) -> dict[str, Line]:
    with Engine(512, 1) as engine:
        return lines_of(engine, tmp_path_factory.mktemp("azure"), cases, "azure_actual")


#: Case -> changes, ChargeCategory, CommitmentDiscountStatus, reason (None = countable).
MEANINGS: dict[str, tuple[dict[str, str], str, str | None, str | None]] = {
    "usage": ({}, "Usage", None, None),
    "usage in other capitals": ({"ChargeType": "USAGE"}, "Usage", None, None),
    "usage without a charge type": ({"ChargeType": ""}, "Usage", None, None),
    "correction": ({"Quantity": "-3"}, "Usage", None, None),
    "spot": ({"PricingModel": "Spot"}, "Usage", None, None),
    "free": ({"Cost": "0"}, "Usage", None, None),
    "nothing": ({"Quantity": "0"}, "Usage", None, "zero_quantity"),
    "reserved": ({"PricingModel": "Reservation", "ReservationId": RESERVATION}, "Usage", "Used", None),
    "reserved, pricing model not told": ({"PricingModel": "", "ReservationId": RESERVATION}, "Usage", "Used", None),
    "savings plan": ({"PricingModel": "SavingsPlan", "benefitId": "/sp/1"}, "Usage", "Used", None),
    "unused reservation": (
        {"ChargeType": "UnusedReservation", "PricingModel": "Reservation", "ReservationId": RESERVATION},
        "Usage", "Unused", "commitment_unused",
    ),
    "unused savings plan": (
        {"ChargeType": "UnusedSavingsPlan", "PricingModel": "SavingsPlan", "benefitId": "/sp/1"},
        "Usage", "Unused", "commitment_unused",
    ),
    "reservation bought": (
        {"ChargeType": "Purchase", "ReservationId": RESERVATION}, "Purchase", None, "commitment_fee",
    ),
    "savings plan bought": ({"ChargeType": "Purchase", "benefitId": "/sp/1"}, "Purchase", None, "commitment_fee"),
    "something bought": ({"ChargeType": "Purchase"}, "Purchase", None, "fee"),
    "refund": ({"ChargeType": "Refund", "ReservationId": RESERVATION}, "Credit", None, "refund_money"),
    "credit": ({"ChargeType": "Credit"}, "Credit", None, "credit"),
    "tax": ({"ChargeType": "Tax"}, "Tax", None, "tax"),
    "rounding": ({"ChargeType": "RoundingAdjustment"}, "Adjustment", None, "rounding"),
    "unknown charge type": ({"ChargeType": "Surprise"}, "Adjustment", None, "fee"),
    "marketplace usage": (MARKETPLACE, "Usage", None, "marketplace_software"),
    "marketplace purchase": (MARKETPLACE | {"ChargeType": "Purchase"}, "Purchase", None, "marketplace_software"),
    "marketplace refund": (MARKETPLACE | {"ChargeType": "Refund"}, "Credit", None, "refund_money"),
    "Microsoft's own meter in the marketplace": (
        {"PublisherType": "Marketplace", "PublisherName": "Microsoft Corporation"}, "Usage", None, None,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def meanings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Line]:
    return bill_of(tmp_path_factory, {name: case[0] for name, case in MEANINGS.items()})


@pytest.mark.parametrize("case", MEANINGS)
def test_a_row_counts_or_says_why_not_and_keeps_its_cost(meanings: dict[str, Line], case: str) -> None:
    changed, category, status, reason = MEANINGS[case]
    line = meanings[case]
    found = (line["ChargeCategory"], line["CommitmentDiscountStatus"], line["x_DispositionReason"])
    assert found == (category, status, reason)
    assert line["x_Disposition"] == ("countable" if reason is None else "no_emission")
    assert line["BilledCost"] == Decimal(changed.get("Cost", "4.8"))


def test_every_charge_type_of_the_rule_data_has_a_case_here(meanings: dict[str, Line]) -> None:
    assert {t.name for t in charge_types()} <= {line["x_LineItemType"] for line in meanings.values()}
    reasons = {t.reason for t in charge_types() if t.reason}
    assert reasons <= {line["x_DispositionReason"] for line in meanings.values()}


def test_the_seller_is_named_and_microsoft_hosts(meanings: dict[str, Line]) -> None:
    own, other = meanings["usage"], meanings["marketplace usage"]
    assert (own["ServiceProviderName"], own["HostProviderName"], own["x_BillingEntity"]) == (
        "Microsoft", "Microsoft", None,
    )  # fmt: skip
    assert (other["ServiceProviderName"], other["HostProviderName"], other["x_BillingEntity"]) == (
        "Cloud Monitoring GmbH", "Microsoft", "Marketplace",
    )  # fmt: skip


def test_commitments_and_prices_are_told_in_focus_words(meanings: dict[str, Line]) -> None:
    names = ("PricingCategory", "CommitmentDiscountType", "CommitmentDiscountCategory", "CommitmentDiscountId")
    found = {case: tuple(meanings[case][n] for n in names) for case in ("usage", "spot", "reserved", "savings plan")}
    assert found == {
        "usage": ("Standard", None, None, None),
        "spot": ("Dynamic", None, None, None),
        "reserved": ("Committed", "Reservation", "Usage", RESERVATION.lower()),
        "savings plan": ("Committed", "Savings Plan", "Spend", "/sp/1"),
    }


@pytest.mark.parametrize(("feed", "effective"), [("azure_actual", None), ("azure_amortized", Decimal("4.8"))])
def test_the_billed_cost_is_what_the_export_states_and_amortised_only_where_it_is(
    engine: Engine, tmp_path: Path, feed: str, effective: Decimal | None
) -> None:
    line = lines_of(engine, tmp_path, {"row": {}}, feed)["row"]
    assert (line["BilledCost"], line["EffectiveCost"], line["ListCost"]) == (Decimal("4.8"), effective, Decimal(6))


#: Unit, quantity -> quantity and unit in canonical terms, and the rule; October has 744 hours.
UNITS = {
    ("10K", "0.0004"): ("4", "Requests", "requests+blocks"),
    ("1M", "2"): ("2000000", "Requests", "requests+blocks"),
    ("1K", "0.428"): ("428", "Requests", "requests+blocks"),
    ("10000 Transactions", "3"): ("30000", "Requests", "requests+blocks"),
    ("100 API Calls", "0.5"): ("50", "Requests", "requests+blocks"),
    ("1", "3"): ("3", "Count", "count"),
    ("1 Hour", "24"): ("24", "Hours", "hours"),
    ("100 Hours", "3"): ("3", "Hours", "hours"),
    ("1000 Hours", "24"): ("24", "Hours", "hours"),
    ("100 Core Hours", "8"): ("8", "vCPU-Hours", "vcpu_hours"),
    ("1 GB", "1.5"): ("1.5", "GiB", "gib"),
    ("10 GB", "0.00024"): ("0.00024", "GiB", "gib"),
    ("1 GB/Month", "2"): ("1488", "GiB-Hours", "gib_month"),
    ("100 GB/Month", "2"): ("1488", "GiB-Hours", "gib_month"),
    ("1/Month", "0.033336"): ("24.801984", "Hours", "unit_month"),
    ("1/Day", "1"): ("24", "Hours", "days"),
    ("1 GB Second", "7200"): ("2", "GiB-Hours", "gib_seconds"),
    (" 1 hour ", "2"): ("2", "Hours", "hours"),
    ("1/Year", "1"): (None, None, None),
    ("7 Furlongs", "1"): (None, None, None),
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Line]:
    cases = {unit: STORAGE | {"UnitOfMeasure": unit, "Quantity": quantity} for unit, quantity in UNITS}
    return bill_of(tmp_path_factory, cases)


@pytest.mark.parametrize(("unit", "quantity"), UNITS)
def test_blocks_of_things_are_multiplied_and_blocks_of_time_and_data_are_not(
    measured: dict[str, Line], unit: str, quantity: str
) -> None:
    line = measured[unit]
    expected, norm_unit, rule = UNITS[unit, quantity]
    assert (line["x_NormUnit"], line["x_UnitRule"]) == (norm_unit, rule)
    assert line["x_NormQuantity"] == (None if expected is None else Decimal(expected))
    assert (line["ConsumedQuantity"], line["x_SourceUnit"]) == (Decimal(quantity), unit)


def test_every_rule_of_a_unit_of_measure_exists_and_counted_blocks_are_never_of_time() -> None:
    rules = {rule.name: rule for rule in unit_rules()}
    for unit in units_of_measure():
        assert not unit.rule or unit.rule in rules, unit
        if unit.rule and unit.kind == "count":
            assert rules[unit.rule].norm_unit in {"Requests", "Count"}, unit
            assert rules[unit.rule].multiplier == 1, unit


@settings(max_examples=3, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([u for u in units_of_measure() if u.kind == "count" and u.rule and u.block_size <= 10**9]),
            st.decimals(min_value=-(10**6), max_value=10**6, places=18, allow_nan=False),
        ),
        min_size=5,
        max_size=30,
    )
)
def test_a_quantity_of_blocks_is_multiplied_exactly(cases: list[tuple[Any, Decimal]]) -> None:
    with TemporaryDirectory(prefix="ogf-blocks-") as folder, Engine(512, 1) as engine:
        told = {
            str(n): STORAGE | {"UnitOfMeasure": unit.name, "Quantity": f"{quantity:f}"}
            for n, (unit, quantity) in enumerate(cases)
        }
        found = lines_of(engine, Path(folder), told, "azure_actual")
    for line, (unit, quantity) in zip(found.values(), cases, strict=True):
        assert line["x_NormQuantity"] == quantity * unit.block_size
        assert line["x_PricingBlockSize"] == unit.block_size


#: Changes -> instance type, vCPUs.
MACHINES: dict[str, tuple[dict[str, str], str | None, int | None]] = {
    "told": ({}, "Standard_D4s_v5", 4),
    "told without braces": ({"AdditionalInfo": '"ServiceType":"Standard_DS2_v2","VCPUs":2'}, "Standard_DS2_v2", 2),
    "told with blanks": ({"AdditionalInfo": '{ "ServiceType" : "Basic_A1" }'}, "Basic_A1", None),
    "told rather than metered": (
        {"MeterName": "D2 v3/D2s v3", "AdditionalInfo": '{"ServiceType":"Standard_D2s_v3"}'}, "Standard_D2s_v3", None,
    ),
    "metered": ({"AdditionalInfo": "", "MeterName": "D4s v5"}, "D4s v5", None),
    "two sizes of one meter": ({"AdditionalInfo": "", "MeterName": "D3 v2/DS3 v2"}, "D3 v2", None),
    "spot": ({"AdditionalInfo": "", "MeterName": "DS4 v2 Spot"}, "DS4 v2", None),
    "low priority": ({"AdditionalInfo": "", "MeterName": "F4/F4s Low Priority"}, "F4", None),
    "no machine": (STORAGE | {"MeterName": "P4 LRS Disk"}, None, None),
    "service that is no size": (
        STORAGE | {"AdditionalInfo": '{"ServiceType":"SQLThreatDetection"}', "MeterName": "Standard Node"}, None, None,
    ),
}  # fmt: skip


def test_the_machine_is_told_by_the_additional_information_else_by_the_meter(engine: Engine, tmp_path: Path) -> None:
    found = lines_of(engine, tmp_path, {name: case[0] for name, case in MACHINES.items()}, "azure_actual")
    assert {name: (line["x_InstanceType"], line["x_VCpus"]) for name, line in found.items()} == {
        name: case[1:] for name, case in MACHINES.items()
    }
    assert json.loads(found["told without braces"]["SkuPriceDetails"]) == {"ServiceType": "Standard_DS2_v2", "VCPUs": 2}


#: ResourceLocation, MeterRegion -> RegionId, x_SourceRegion.
REGIONS = {
    ("westeurope", "EU West"): ("westeurope", "westeurope"),
    ("EastUS2", "Virginia"): ("eastus2", "EastUS2"),
    ("US East", ""): ("eastus", "US East"),
    ("", "US East"): ("eastus", "US East"),
    ("", "Virginia"): (None, "Virginia"),
    ("Unassigned", "All Regions"): (None, "Unassigned"),
    ("Unassigned", "US West 2"): ("westus2", "Unassigned"),
    ("", ""): (None, None),
    ("newplanet1", ""): ("newplanet1", "newplanet1"),
}


def test_the_region_is_the_resources_else_the_meters_and_never_a_guess(engine: Engine, tmp_path: Path) -> None:
    cases = {" / ".join(place): {"ResourceLocation": place[0], "MeterRegion": place[1]} for place in REGIONS}
    found = lines_of(engine, tmp_path, cases, "azure_actual")
    assert {name: (line["RegionId"], line["x_SourceRegion"]) for name, line in found.items()} == {
        " / ".join(place): expected for place, expected in REGIONS.items()
    }


def test_resources_are_told_apart_whatever_their_capitals(engine: Engine, tmp_path: Path) -> None:
    database = f"{GROUP}/Microsoft.Sql/servers/db1/databases/orders"
    cases = {
        "a": {"ResourceId": database, "ResourceName": "", "ConsumedService": "Microsoft.Sql"},
        "b": {"ResourceId": database.upper(), "ResourceName": ""},
        "order": {
            "ResourceId": "/providers/Microsoft.Capacity/reservationOrders/49ed/reservations/", "ResourceName": "",
        },
        "none": {"ResourceId": "", "ResourceName": ""},
    }  # fmt: skip
    found = lines_of(engine, tmp_path, cases, "azure_actual")
    assert found["a"]["ResourceId"] == found["b"]["ResourceId"] == database.lower()
    assert {name: line["ResourceType"] for name, line in found.items()} == {
        "a": "microsoft.sql/servers/databases", "b": "microsoft.sql/servers/databases",
        "order": "microsoft.capacity/reservationorders/reservations", "none": None,
    }  # fmt: skip
    assert (found["a"]["ResourceName"], found["a"]["ServiceName"]) == ("orders", "Azure SQL Database")


def test_tags_without_their_braces_become_a_map(engine: Engine, tmp_path: Path) -> None:
    cases = {
        "bare": {"Tags": '"env": "prod","cost:center": "a,b"'},
        "whole": {"Tags": '{"env": "prod"}'},
        "none": {"Tags": ""},
    }
    found = lines_of(engine, tmp_path, cases, "azure_actual")
    assert json.loads(found["bare"]["Tags"]) == {"env": "prod", "cost:center": "a,b"}
    assert json.loads(found["whole"]["Tags"]) == {"env": "prod"}
    assert found["none"]["Tags"] is None


def test_hours_of_a_capacity_reservation_that_nobody_used_count_and_are_marked(engine: Engine, tmp_path: Path) -> None:
    info = '{"ServiceType":"Standard_D2s_v3","UsageType":"ComputeCR","VMCapacityReservationId":"f8b4"}'
    idle = f"{GROUP}/Microsoft.Compute/capacityReservationGroups/g/capacityReservations/c"
    found = lines_of(
        engine, tmp_path,
        {"idle": {"AdditionalInfo": info, "ResourceId": idle}, "used": {"AdditionalInfo": info}, "none": {}},
        "azure_actual",
    )  # fmt: skip
    names = ("CapacityReservationId", "CapacityReservationStatus", "x_Disposition")
    assert {case: tuple(line[n] for n in names) for case, line in found.items()} == {
        "idle": ("f8b4", "Unused", "countable"),
        "used": ("f8b4", "Used", "countable"),
        "none": (None, None, "countable"),
    }


def test_what_no_rule_knows_and_what_no_day_has_stays_visible(engine: Engine, tmp_path: Path) -> None:
    cases = [
        ea_row(),
        ea_row(UnitOfMeasure="7 Furlongs"),
        ea_row(ChargeType="Surprise"),
        ea_row(ReservationId=RESERVATION, Quantity="48", ResourceName="normalised"),
        ea_row(Quantity="48", MeterCategory="SQL Managed Instance", MeterName="vCore", AdditionalInfo=""),
    ]
    rows = extracted(engine, write_ea(tmp_path / "bill.csv", cases), "azure_actual")
    found = engine.to_arrow(unexplained(mapped_lines(engine, rows, "azure_actual"))).to_pylist()
    assert sorted((r["finding"], r["value"], r["rows"], r["cost"]) for r in found) == [
        ("hours_a_day", "Standard_D4s_v5", 1, Decimal("4.8")),
        ("line_item_type", "Surprise", 1, Decimal("4.8")),
        ("unit", "7 Furlongs", 1, Decimal("4.8")),
    ]


@pytest.mark.parametrize("feed", ["azure_actual", "azure_amortized"])
def test_a_whole_bill_ties_to_its_export_and_a_lost_row_is_found(engine: Engine, tmp_path: Path, feed: str) -> None:
    bill = [ea_row(), ea_row(Cost="-0.02"), ea_row(ChargeType="Tax", BillingAccountId="")]
    rows = extracted(engine, write_ea(tmp_path / "bill.csv", bill), feed)
    found = mapped_lines(engine, rows, feed)
    assert engine.to_arrow(differences(rows, found, feed)).num_rows == 0
    [lost] = engine.to_arrow(differences(rows, found.filter(found.x_SourceRow != 2), feed)).to_pylist()
    assert (lost["missing_cost"], lost["missing_rows"]) == (Decimal("-0.02"), 1)


def month(seed: int) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The actual and the amortized export of one month: machines by the hour, some covered by a reservation."""
    chance = random.Random(seed)
    actual = [
        ea_row(ChargeType="Purchase", ReservationId=RESERVATION, PricingModel="Reservation", Quantity="1", Cost="900")
    ]
    amortized = []
    for day in range(1, 32):
        date = {"Date": f"10/{day:02d}/2026"}
        for machine in range(4):
            hours = chance.randint(0, 24)
            used = date | {"ResourceName": f"vm-{machine}", "Quantity": str(hours)}
            if covered := machine < 2:
                used |= {"PricingModel": "Reservation", "ReservationId": RESERVATION}
            actual.append(ea_row(**used, Cost="0" if covered else f"{hours * Decimal('0.2')}"))
            amortized.append(ea_row(**used, Cost=f"{hours * Decimal('0.12' if covered else '0.2')}"))
        idle = {"ChargeType": "UnusedReservation", "PricingModel": "Reservation", "ReservationId": RESERVATION}
        amortized.append(ea_row(**date, **idle, Quantity=str(chance.randint(1, 24)), Cost="1.2"))
    return actual, amortized


@pytest.mark.parametrize("seed", [1, 2])
def test_the_actual_and_the_amortized_export_of_a_month_count_the_same_use(
    engine: Engine, tmp_path: Path, seed: int
) -> None:
    used: dict[str, Counter[tuple[Any, ...]]] = {}
    for feed, rows in zip(("azure_actual", "azure_amortized"), month(seed), strict=True):
        used[feed] = Counter()
        for line in lines(engine, write_ea(tmp_path / f"{feed}.csv", rows), feed).to_pylist():
            if line["x_Disposition"] == "countable":
                key = (line["usage_date"], line["ResourceName"], line["x_NormUnit"], line["x_UsageKey"])
                used[feed][key] += line["x_NormQuantity"]
    assert sum(used["azure_actual"].values()) > 0
    assert used["azure_actual"] == used["azure_amortized"]


@settings(max_examples=3, deadline=None)
@given(order=st.randoms(use_true_random=False), columns=st.permutations(EA))
def test_the_order_of_rows_and_columns_changes_no_line(order: random.Random, columns: list[str]) -> None:
    rows = [ea_row(ResourceName=f"vm-{n % 5}", Quantity=str(n % 3)) for n in range(25)]
    turned = rows[:]
    order.shuffle(turned)
    with TemporaryDirectory(prefix="ogf-order-") as folder, Engine(512, 1) as engine:
        straight = lines(engine, write_bill(Path(folder) / "a.csv", rows, EA), "azure_actual").to_pylist()
        shuffled = lines(engine, write_bill(Path(folder) / "b.csv", turned, columns), "azure_actual").to_pylist()
    assert _by_id(straight) == _by_id(shuffled)
    assert len(_by_id(straight)) == 25


def _by_id(found: list[Line]) -> dict[str, Line]:
    place = {"x_SourceObject", "x_SourceObjectSha256", "x_SourceRow", "x_SourceVersion"}
    return {line["x_LineId"]: {k: v for k, v in line.items() if k not in place} for line in found}
