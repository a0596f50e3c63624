"""Azure exports: every header family binds to the same columns and means the same; dates, refusals, Parquet."""

from __future__ import annotations

import csv
import io
import json
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from offgridflow_pipeline.connectors.errors import BillingObjectError
from offgridflow_pipeline.connectors.reading.header import bind, english_azure
from offgridflow_pipeline.lake import schemas
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline_tests.connectors.azure_bills import (
    EA,
    FAMILIES,
    FOCUS_HEADERS,
    GROUP,
    INFO,
    MACHINE,
    SUBSCRIPTION,
    ea_row,
    write_ea,
    write_family,
    write_focus,
)
from offgridflow_pipeline_tests.connectors.bills import SHARED, extracted, lines, write_bill

#: Columns that say where a row came from, or hash every column that was delivered.
LINEAGE = {
    "x_Feed", "x_LineId", "x_SourceRowHash", "x_SourceObjectSha256", "x_SourceObject", "x_SourceRow", "x_SourceVersion",
}  # fmt: skip
DISK = {
    "Product": "Premium SSD Managed Disks - P10 LRS - EU West", "MeterCategory": "Storage",
    "MeterSubCategory": "Premium SSD Managed Disks", "MeterName": "P10 LRS Disk", "UnitOfMeasure": "1/Month",
    "Quantity": "0.033336", "Cost": "0.65705256", "PayGPrice": "19.71", "ResourceName": "disk-1",
    "ResourceId": f"{GROUP}/Microsoft.Compute/disks/disk-1", "AdditionalInfo": "", "Tags": "",
}  # fmt: skip
OPERATIONS = {
    "Product": "Tiered Block Blob - Read Operations", "MeterCategory": "Storage", "MeterName": "Hot LRS Read Operations",
    "MeterSubCategory": "Tiered Block Blob", "UnitOfMeasure": "10K", "Quantity": "9.984E-4", "Cost": "5.64902E-05",
    "ConsumedService": "Microsoft.Storage", "ResourceName": "logs",
    "ResourceId": f"{GROUP}/Microsoft.Storage/storageAccounts/logs", "AdditionalInfo": "", "PayGPrice": "0.005",
}  # fmt: skip
CONTENT = [ea_row(), ea_row(AdditionalInfo=INFO, Quantity="-2", Cost="-0.4"), ea_row(**DISK), ea_row(**OPERATIONS)]


#: What FOCUS exports and cost details both state; ServiceName and category need an id only one of them has.
IN_BOTH = (
    "usage_date", "BillingAccountId", "SubAccountId", "SubAccountName", "SubAccountType", "ServiceProviderName",
    "HostProviderName", "InvoiceIssuerName", "BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart",
    "ChargePeriodEnd", "SkuMeter", "SkuPriceId", "PricingCategory", "ChargeCategory", "ChargeFrequency",
    "ChargeDescription", "ConsumedQuantity", "BilledCost", "ListCost", "BillingCurrency", "RegionId", "ResourceId",
    "ResourceName", "ResourceType", "Tags", "CommitmentDiscountStatus", "CapacityReservationStatus", "x_Provider",
    "x_InstanceType", "x_VCpus", "x_SkuMeterId", "x_SkuMeterCategory", "x_SkuMeterSubcategory", "x_SourceUnit",
    "x_PricingBlockSize", "x_NormQuantity", "x_NormUnit", "x_UnitRule", "x_Disposition", "x_DispositionReason",
)  # fmt: skip

Meanings = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def meanings(tmp_path_factory: pytest.TempPathFactory) -> Meanings:
    """Usage lines of the content by family or FOCUS version."""
    folder = tmp_path_factory.mktemp("families")
    files: dict[str, list[Path]] = {}
    for name, family in FAMILIES.items():
        files.setdefault(family.feed, []).append(write_family(folder / f"{name}.csv", family, CONTENT))
    files["focus"] = [write_focus(folder / f"FOCUS {version}.csv", version, CONTENT) for version in FOCUS_HEADERS]
    found: Meanings = {}
    with Engine(512, 1) as engine:
        for feed, paths in files.items():
            for row in lines(engine, paths, feed).to_pylist():
                found.setdefault(Path(row["x_SourceObject"]).stem, []).append(row)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_content_means_the_same_in_every_header_family(meanings: Meanings, family: str) -> None:
    for told, expected in zip(meanings[family], meanings["EA actual"], strict=True):
        silent = dict.fromkeys(FAMILIES[family].silent)
        amortised = {"EffectiveCost": told["BilledCost"]} if FAMILIES[family].feed == "azure_amortized" else {}
        assert _without_lineage(told) == _without_lineage(expected) | silent | amortised


@pytest.mark.parametrize("version", FOCUS_HEADERS)
def test_the_same_content_means_the_same_in_every_focus_export_of_microsoft(meanings: Meanings, version: str) -> None:
    for told, expected in zip(meanings[f"FOCUS {version}"], meanings["EA actual"], strict=True):
        assert {name: told[name] for name in IN_BOTH} == {name: expected[name] for name in IN_BOTH}


def test_the_reference_content_is_what_was_written(meanings: Meanings) -> None:
    machine, correction, disk, operations = meanings["EA actual"]
    assert [row["x_NormQuantity"] for row in (machine, correction, disk, operations)] == [
        Decimal(24), Decimal(-2), Decimal("0.033336") * 744, Decimal("0.0009984") * 10_000,
    ]  # fmt: skip
    assert (machine["SubAccountId"], machine["ResourceId"]) == (SUBSCRIPTION.lower(), MACHINE.lower())
    assert (machine["BillingPeriodStart"].date(), machine["BillingPeriodEnd"].date()) == (
        date(2026, 10, 1), date(2026, 11, 1),
    )  # fmt: skip


def _without_lineage(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in LINEAGE}


def test_every_family_names_all_columns_it_has_in_the_extract(engine: Engine, tmp_path: Path) -> None:
    for name, family in FAMILIES.items():
        path = write_family(tmp_path / "bill.csv", family, CONTENT)
        rows = engine.to_arrow(extracted(engine, path, family.feed)).to_pylist()
        kept = {value for row in rows for value in row.values() if isinstance(value, str)}
        others = {v for row in rows for v in json.loads(row["other_columns"] or "{}").values()}
        delivered = {
            cell
            for line in csv.reader(io.StringIO(path.read_text("utf-8-sig")))
            for cell in line
            if cell and cell not in family.header
        }
        assert delivered <= kept | others, name


@pytest.mark.parametrize(
    ("delivered", "english"),
    [
        ("Menge (Quantity)", "Quantity"),
        ("Ressourcen-ID (ARM) (ResourceId)", "ResourceId"),
        ("数量（Quantity）", "Quantity"),
        ("Kosten (Cost) ", "Cost"),
        ("Quantity", "Quantity"),
        ("Preis (geschätzt)", "Preis (geschätzt)"),
    ],
)
def test_a_localised_header_is_read_by_the_name_in_its_last_brackets(delivered: str, english: str) -> None:
    assert english_azure(delivered) == english


def test_the_resource_id_is_bound_before_the_instance_name(engine: Engine) -> None:
    header = ["InstanceName", "InstanceId", *(n for n in EA if n != "ResourceId")]
    bound = bind(header, schemas.AZURE_BILLING_EXTRACT, "bill.csv")
    assert header[bound.known["ResourceId"]] == "InstanceId"
    assert bound.other["InstanceName"] == 0


@pytest.mark.parametrize("column", ["Date", "Quantity", "Cost", "UnitOfMeasure", "SubscriptionId"])
def test_an_export_without_a_required_column_is_refused_by_its_name(
    engine: Engine, tmp_path: Path, column: str
) -> None:
    path = write_bill(tmp_path / "bill.csv", [{n: value for n, value in ea_row().items() if n != column}])
    with pytest.raises(BillingObjectError, match=f"the required column {column} is missing"):
        extracted(engine, path, "azure_actual")


def test_a_date_is_read_in_each_of_its_spellings(engine: Engine, tmp_path: Path) -> None:
    spellings = {
        "10/05/2026": date(2026, 10, 5),
        "9/2/2026": date(2026, 9, 2),
        "12/31/2026 00:00:00": date(2026, 12, 31),
        "2026-10-05": date(2026, 10, 5),
        "2026-10-05T00:00:00Z": date(2026, 10, 5),
        "20261005": date(2026, 10, 5),
    }
    path = write_ea(tmp_path / "bill.csv", [ea_row(Date=text) for text in spellings])
    rows = extracted(engine, path, "azure_actual").order_by("source_row").select("usage_date")
    assert engine.to_arrow(rows)[0].to_pylist() == list(spellings.values())


@pytest.mark.parametrize(
    ("changed", "column", "told"),
    [
        ({"Date": "31/10/2026"}, "Date", "31/10/2026 is not a date like 11/30/2026"),
        ({"Date": "10/5/26"}, "Date", "10/5/26 is not a date"),
        ({"Date": ""}, "Date", "is not a date"),
        ({"Date": "2026-02-30"}, "Date", "2026-02-30 is not a date"),
        ({"Quantity": "1,5"}, "Quantity", "1,5 is not a number"),
        ({"Cost": "12 EUR"}, "Cost", "12 EUR is not a number"),
        ({"Cost": ""}, "Cost", "the cost is missing"),
    ],
)
def test_a_bad_value_is_refused_with_its_place_and_the_cure(
    engine: Engine, tmp_path: Path, changed: dict[str, str], column: str, told: str
) -> None:
    path = write_ea(tmp_path / "bill.csv", [ea_row(), ea_row(**changed)])
    with pytest.raises(BillingObjectError) as caught:
        extracted(engine, path, "azure_actual")
    assert (caught.value.row, caught.value.column) == (2, column)
    assert told in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "Correct the value and deliver the object again" in str(caught.value)


def test_a_bad_value_is_named_by_the_localised_header(engine: Engine, tmp_path: Path) -> None:
    path = write_family(tmp_path / "bill.csv", FAMILIES["localised"], [ea_row(Quantity="viel")])
    with pytest.raises(BillingObjectError) as caught:
        extracted(engine, path, "azure_actual")
    assert caught.value.column == "Menge (Quantity)"


@pytest.mark.parametrize("family", ["EA actual", "MCA amortized", "legacy pay-as-you-go"])
def test_an_export_with_nothing_but_a_header_is_an_empty_month(engine: Engine, tmp_path: Path, family: str) -> None:
    path = write_family(tmp_path / "bill.csv", FAMILIES[family], [])
    assert lines(engine, path, FAMILIES[family].feed).num_rows == 0


def test_a_parquet_export_with_numbers_and_dates_reads_like_its_csv(engine: Engine, tmp_path: Path) -> None:
    row = ea_row(BillingAccountId="8611")
    columns: dict[str, pa.Array] = {name: pa.array([value or None]) for name, value in row.items()}
    columns["Date"] = pa.array([date(2026, 10, 5)])
    columns["BillingPeriodStartDate"] = pa.array([datetime(2026, 10, 1)], pa.timestamp("us"))  # noqa: DTZ001
    columns["Quantity"], columns["Cost"] = pa.array([24.0]), pa.array([Decimal("4.8")])
    pq.write_table(pa.table(columns), tmp_path / "bill.parquet")
    as_csv = lines(engine, write_ea(tmp_path / "bill.csv", [row]), "azure_actual").to_pylist()
    as_parquet = lines(engine, tmp_path / "bill.parquet", "azure_actual").to_pylist()
    for told, expected in zip(as_parquet, as_csv, strict=True):
        assert _without_lineage(told) == _without_lineage(expected)


def test_a_late_invoice_does_not_make_another_row_of_it(engine: Engine, tmp_path: Path) -> None:
    open_month = write_bill(tmp_path / "a.csv", [ea_row(invoiceId="", previousInvoiceId="")])
    invoiced = write_bill(tmp_path / "b.csv", [ea_row(invoiceId="G1", previousInvoiceId="G0", Quantity="24.000")])
    first, second = (lines(engine, path, "azure_actual").to_pylist()[0] for path in (open_month, invoiced))
    assert first["x_LineId"] == second["x_LineId"]
    assert (first["InvoiceId"], second["InvoiceId"]) == (None, "G1")


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"sample bills are not at {SHARED}")
@pytest.mark.parametrize("name", ["actualcost_c360-2025-04", "amortizedcost_c360-2025-04"])
def test_the_published_c360_schema_binds(name: str) -> None:
    header = _schema(name)
    bound = bind(header, schemas.AZURE_BILLING_EXTRACT, name)
    unbound = {"AccountOwnerId", "AccountName", "ServiceInfo1", "ServiceInfo2", "InvoiceSection", "CostCenter",
               "ProductOrderId", "ProductOrderName", "OfferId", "IsAzureCreditEligible"}  # fmt: skip
    assert len(header) == 50
    assert set(bound.other) == unbound


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"sample bills are not at {SHARED}")
@pytest.mark.parametrize("version", ["1.0-preview(v1)", "1.0", "1.0r2", "1.2-preview", "1.2"])
def test_the_published_focus_schemas_of_microsoft_bind(version: str) -> None:
    bound = bind(_schema(f"focuscost_{version}"), schemas.FOCUS_BILLING_EXTRACT, version)
    both = {
        "BilledCost", "EffectiveCost", "ListCost", "ConsumedQuantity", "ConsumedUnit", "RegionName", "InvoiceId",
        "ServiceProviderName", "SubAccountId", "x_SkuMeterId", "x_SkuMeterCategory", "x_PricingBlockSize",
        "x_PricingUnitDescription", "x_ResourceType", "CommitmentDiscountId",
    }  # fmt: skip
    assert both <= set(bound.known)
    assert {"SkuMeter", "x_SkuMeterName"} & set(bound.known)
    assert {"SkuPriceDetails", "x_SkuDetails"} & set(bound.known)
    assert {"ChargeSubcategory", "CommitmentDiscountStatus"} & set(bound.known)


def _schema(name: str) -> list[str]:
    content = json.loads((SHARED / "azure" / "schemas" / f"{name}.json").read_text("utf-8-sig"))
    return [m["source"].get("name") or m["source"]["path"] for m in content["translator"]["mappings"]]
