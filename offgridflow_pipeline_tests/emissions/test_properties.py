"""Laws of carbon-method.md section 14 that hold for any bill (P8 has no certificates to add in this edition)."""

from __future__ import annotations

import subprocess
import sys
from datetime import date, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offgridflow_pipeline.emissions.calculate import calculate
from offgridflow_pipeline.emissions.classify import classify
from offgridflow_pipeline.emissions.intensity import intensity
from offgridflow_pipeline.emissions.models import UsageKey
from offgridflow_pipeline.emissions.totals import scope_totals
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline.lake.schemas import MEASURES, SCOPE_TOTALS
from offgridflow_pipeline_tests.emissions.builders import AS_OF, FACTORS, arrow_lines, ec2, ledger, ledgers, line, one

USAGES = (
    ("AmazonEC2", "BoxUsage:m5.xlarge", "Hours"),
    ("AmazonEC2", "BoxUsage:c7g.large", "Hours"),
    ("AmazonEC2", "BoxUsage:trn1.2xlarge", "Hours"),
    ("AmazonEC2", "EBS:VolumeUsage.gp3", "GiB-Hours"),
    ("AmazonEC2", "DataTransfer-Out-Bytes", "GiB"),
    ("AmazonEC2", "DataTransfer-Regional-Bytes", "GiB"),
    ("AmazonS3", "TimedStorage-ByteHrs", "GiB-Hours"),
    ("AmazonS3", "Requests-Tier1", "Requests"),
    ("AWSLambda", "Lambda-GB-Second", "GiB-Hours"),
    ("AmazonEKS", "AmazonEKS-Hours:perCluster", "Hours"),
    ("AmazonX", "Mystery", "Count"),
)
MONEY = [
    {"x_Disposition": "no_emission", "x_DispositionReason": reason, "x_LineItemType": kind}
    for kind, reason in (
        ("Tax", "tax"),
        ("Credit", "credit"),
        ("RIFee", "commitment_fee"),
        ("SavingsPlanNegation", "commitment_negation"),
    )
]


@st.composite
def bill_lines(draw: st.DrawFn) -> dict[str, Any]:
    service, usage_type, unit = draw(st.sampled_from(USAGES))
    quantity = Decimal(draw(st.integers(-(10**20), 10**22))).scaleb(-18)
    return line(
        usage_type,
        quantity,
        unit,
        x_ServiceCode=service,
        usage_date=date(2025, 12, 20) + timedelta(days=draw(st.integers(0, 25))),
        SubAccountId=draw(st.sampled_from(["1", "2", "3"])),
        RegionId=draw(st.sampled_from(["us-east-1", "eu-west-2", "eu-central-1", "ap-northeast-1", None])),
        BilledCost=Decimal(draw(st.integers(-(10**9), 10**9))).scaleb(-6),
        **draw(st.sampled_from([{}, {}, {}, *MONEY])),
    )


BILLS = st.lists(bill_lines(), min_size=1, max_size=25)


def totals(rows: list[dict[str, Any]], *groupings: tuple[str, ...]) -> list[dict[tuple[Any, ...], dict[str, Any]]]:
    """Sums of the ledger for each grouping, through `scope_totals`."""
    found = []
    with Engine(256, 1) as engine:
        lines = engine.register("usage_lines", arrow_lines(rows))
        ledger_lines = engine.reader(calculate(engine, lines, FACTORS, as_of=AS_OF)).read_all()
        daily = scope_totals(engine.register("emission_lines", ledger_lines))
        assert tuple(daily.columns) == SCOPE_TOTALS.column_names
        sums = {name: daily[name].sum() for name in (*MEASURES, "billed_cost", "line_count")}
        for keys in groupings:
            result = engine.reader(daily.group_by(list(keys)).aggregate(**sums)).read_all().to_pylist()
            found.append({tuple(row.pop(key) for key in keys): row for row in result})
    return found


def whole(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums over everything."""
    return totals(rows, ("tenant_id",))[0][("acme",)]


def added(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum of rows, nulls skipped; a measure that no row has is null."""
    found: dict[str, Any] = {}
    for name in (*MEASURES, "billed_cost", "line_count"):
        known = [row[name] for row in rows if row[name] is not None]
        found[name] = sum(known) if known else None
    return found


def measured(rows: list[dict[str, Any]]) -> list[list[Any]]:
    """Measures of the ledger line of each row."""
    return [[row[name] for name in MEASURES] for row in ledger(rows, columns=["line_id", *MEASURES])]


@given(BILLS, st.randoms(use_true_random=False))
@settings(max_examples=6, deadline=None)
def test_p1_a_month_is_the_sum_of_days_accounts_and_services_in_any_order_and_chunks(rows, random) -> None:
    groupings = ("tenant_id",), ("usage_date",), ("SubAccountId",), ("x_ServiceCode",), ("RegionId", "disposition")
    month, *others = totals(rows, *groupings)
    for sums in others:
        assert added(list(sums.values())) == month[("acme",)]
    shuffled = random.sample(rows, len(rows))
    parts = [part for part in (shuffled[0::2], shuffled[1::2]) if part]
    assert added([whole(part) for part in parts]) == month[("acme",)]


@given(BILLS, BILLS)
@settings(max_examples=8, deadline=None)
def test_p2_p3_p13_a_line_depends_on_no_other_line(rows, others) -> None:
    foreign = [{**row, "tenant_id": "other", "RegionId": None} for row in others]
    alone = measured(rows)
    assert measured([*rows, *foreign])[: len(rows)] == alone
    assert measured(list(reversed(rows)))[::-1] == alone


def test_p2_another_process_gives_the_same_digits() -> None:
    code = (
        "from offgridflow_pipeline_tests.emissions.builders import one, ec2;"
        "print(one(ec2('BoxUsage:m5.xlarge', '23.7'))['co2e_lbm_kg'])"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert other == str(one(ec2("BoxUsage:m5.xlarge", "23.7"))["co2e_lbm_kg"])


#: Instances that fill a host, and the host.
FULL_HOSTS = [
    (["m5.xlarge"] * 24, "m5.24xlarge"),
    (["m5.large"] * 24 + ["m5.4xlarge"] * 3, "m5.24xlarge"),
    (["r5.2xlarge"] * 12, "r5.24xlarge"),
    (["p3.2xlarge"] * 8, "p3.16xlarge"),
    (["t3.2xlarge"] * 12, "t3-host"),
]


@cache
def hosts_and_shares() -> list[list[dict[str, Any]]]:
    """Ledger lines of each host above, and after it of the instances that fill it."""
    hosts = [ec2("HostUsage:t3" if whole == "t3-host" else f"BoxUsage:{whole}") for _, whole in FULL_HOSTS]
    shares = [[ec2(f"BoxUsage:{name}") for name in parts] for parts, _ in FULL_HOSTS]
    return ledgers([[host, *of_host] for host, of_host in zip(hosts, shares, strict=True)])


@pytest.mark.parametrize(("parts", "whole"), FULL_HOSTS)
def test_p4_shares_of_a_full_host_sum_to_the_host(parts, whole) -> None:
    host, *shares = hosts_and_shares()[FULL_HOSTS.index((parts, whole))]
    assert len(shares) == len(parts)
    for measure in ("it_kwh", "kwh", "co2e_lbm_kg", "embodied_kg"):
        assert abs(sum(row[measure] for row in shares) - host[measure]) < Decimal("1e-9")


@given(BILLS, st.decimals("-1000", "1000", places=3), st.sampled_from(["USD", "EUR", "JPY"]))
@settings(max_examples=8, deadline=None)
def test_p5_money_does_not_change_kilograms(rows, factor, currency) -> None:
    other = [{**row, "BilledCost": row["BilledCost"] * factor, "BillingCurrency": currency} for row in rows]
    found = measured([*rows, *other])
    assert found[: len(rows)] == found[len(rows) :]


@given(BILLS)
@settings(max_examples=8, deadline=None)
def test_p6_a_correction_cancels_exactly_and_twice_the_quantity_is_twice_the_result(rows) -> None:
    corrections = [{**row, "x_NormQuantity": -row["x_NormQuantity"]} for row in rows]
    doubled = [{**row, "x_NormQuantity": 2 * row["x_NormQuantity"]} for row in rows]
    found = ledger([*rows, *corrections, *doubled])
    for i, plain in enumerate(found[: len(rows)]):
        negative, twice = found[i + len(rows)], found[i + 2 * len(rows)]
        for name in (name for name in MEASURES if plain[name] is not None):
            assert plain[name] + negative[name] == 0
            parts = 5 if name == "it_kwh" else 1
            assert abs(twice[name] - 2 * plain[name]) <= parts * Decimal("1e-12")


@given(BILLS)
@settings(max_examples=8, deadline=None)
def test_p7_money_and_double_rows_add_no_kilograms(rows) -> None:
    extra = [ec2("BoxUsage:m5.xlarge", 1000, **money) for money in MONEY]
    extra.append(line("SoftwareUsage:m5.xlarge", 1000, x_ServiceCode="abc"))
    extra.append(line("EKS-EC2-vCPU-Hours", 1000, "vCPU-Hours", x_ServiceCode="AmazonEKS"))
    others = [{**row, "tenant_id": "other"} for row in (*rows, *extra)]
    both = totals([*rows, *others], ("tenant_id",))[0]
    plain, more = both[("acme",)], both[("other",)]
    assert {name: more[name] or 0 for name in MEASURES} == {name: plain[name] or 0 for name in MEASURES}
    assert more["billed_cost"] == plain["billed_cost"] + len(extra)


@given(BILLS)
@settings(max_examples=8, deadline=None)
def test_p9_p10_dispositions_partition_rows_and_cost_and_nothing_is_silent(rows) -> None:
    by_disposition = totals(rows, ("disposition",))[0]
    assert set(by_disposition) <= {("mapped",), ("proxied",), ("no_emission",), ("unmapped",)}
    assert added(list(by_disposition.values()))["billed_cost"] == sum(row["BilledCost"] for row in rows)
    assert added(list(by_disposition.values()))["line_count"] == len(rows)
    for row in ledger(rows):
        counted = row["disposition"] in {"mapped", "proxied"}
        assert row["rule_id"]
        assert (row["reason"] is None) == counted
        assert bool(row["factor_ids"]) == bool(row["coefficient_ids"]) == counted
        assert (row["co2e_mbm_kg"] is None) == (row["co2e_lbm_kg"] is None)
        if row["intensity_co2e_lbm_kg"] == 0:
            assert row["disposition"] == "no_emission"
        assert (row["proxy_rule"] is not None) == (row["disposition"] == "proxied")


def test_p11_an_earlier_knowledge_date_takes_the_earlier_vintage() -> None:
    march = ec2("BoxUsage:m5.large", 1, RegionId="eu-west-2", usage_date=date(2025, 3, 10))
    before, after = one(march, as_of=date(2025, 3, 1)), one(march, as_of=date(2025, 7, 1))
    keys = [FACTORS.by_uid(row["factor_ids"][0]).data_year for row in (before, after)]
    assert keys[0] < keys[1]
    assert before["co2e_lbm_kg"] != after["co2e_lbm_kg"]
    assert before["it_kwh"] == after["it_kwh"]
    assert "carried_forward" in before["flags"] and "carried_forward" not in after["flags"]


def test_p11_a_later_knowledge_date_changes_only_lines_whose_factor_changed() -> None:
    rows = [ec2("BoxUsage:m5.large", 1, RegionId=r, usage_date=date(2025, 3, 10)) for r in ("eu-west-2", "us-east-1")]
    before, after = ledger(rows, as_of=date(2025, 6, 1)), ledger(rows, as_of=date(2025, 7, 1))
    for old, new in zip(before, after, strict=True):
        assert (old["co2e_lbm_kg"] == new["co2e_lbm_kg"]) == (old["factor_ids"][0] == new["factor_ids"][0])


@given(BILLS)
@settings(max_examples=8, deadline=None)
def test_p12_components_sum_to_it_energy(rows) -> None:
    parts = [name for name in MEASURES if name.startswith("it_kwh_")]
    for row in ledger(rows):
        if row["disposition"] != "unmapped":
            assert sum((row[name] or 0) for name in parts) == row["it_kwh"]


def test_p12_every_instance_type_of_the_set_has_plausible_watts_per_vcpu() -> None:
    # The cap is about ordinary machines: 24 TiB for 448 vCPUs (u-24tb1) rightly draws more per vCPU.
    low, high = (FACTORS.number(f"coefficient/cap.compute_watts_per_vcpu_{end}") for end in ("low", "high"))
    beyond = []
    for row in FACTORS.of_kind("instance.type"):
        _, provider, *name = row.factor_key.split("/")
        vcpus = row.attributes.get("vcpus")
        if provider != "aws" or len(name) != 1 or not vcpus or row.attributes["memory_gib"] > 32 * vcpus:
            continue
        key = UsageKey(provider="aws", service_code="AmazonEC2", usage_type=f"BoxUsage:{name[0]}", unit="Hours")
        found = intensity(classify(key), "aws", "us-east-1", date(2025, 1, 1), FACTORS, AS_OF).measures
        if found["kwh"] is None:
            continue
        watts = sum(found[f"it_kwh_{part}"] or 0 for part in ("compute", "memory")) * 1000 / vcpus
        if not low <= watts <= high:
            beyond.append((name[0], watts))
    assert beyond == []


def test_p12_storage_is_below_ten_watts_per_terabyte() -> None:
    cap = FACTORS.number("coefficient/cap.storage_watts_per_tb")
    gib_per_tb = Decimal(10**12) / 2**30
    for service, name in (("AmazonS3", "TimedStorage-ByteHrs"), ("AmazonRDS", "Aurora:StorageUsage")):
        found = one(line(name, gib_per_tb, "GiB-Hours", x_ServiceCode=service))
        assert found["it_kwh"] * 1000 <= cap
