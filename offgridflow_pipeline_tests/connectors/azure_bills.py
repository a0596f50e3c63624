"""Small Azure cost exports for tests: the same content in every header family Microsoft has shipped.

Header lists are facts of Microsoft's dataset schemas (Microsoft Learn, cost details; finops-toolkit, exports); the
rows are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from offgridflow_pipeline_tests.connectors.bills import csv_bytes, write_bytes

SUBSCRIPTION = "0A1B2C3D-0000-4000-8000-00000000000A"
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/RG-Web/providers"
MACHINE = f"{GROUP}/Microsoft.Compute/virtualMachines/web-1"
INFO = '"UsageType":"ComputeHR","ServiceType":"Standard_D4s_v5","VMName":"web-1","VCPUs":4'

EA_ROW = {
    "BillingAccountId": "0008611",
    "BillingAccountName": "Larch Ltd",
    "BillingPeriodStartDate": "10/01/2026",
    "BillingPeriodEndDate": "10/31/2026",
    "BillingProfileId": "0008611",
    "BillingProfileName": "Larch Ltd",
    "AccountOwnerId": "owner@larch.example",
    "AccountName": "Platform",
    "SubscriptionId": SUBSCRIPTION,
    "SubscriptionName": "Web",
    "Date": "10/05/2026",
    "Product": "Virtual Machines Dsv5 Series - D4s v5 - EU West",
    "PartNumber": "AAH-1",
    "MeterId": "0d3f0c1e-0000-4000-8000-000000000001",
    "ServiceFamily": "Compute",
    "MeterCategory": "Virtual Machines",
    "MeterSubCategory": "Dsv5 Series",
    "MeterRegion": "EU West",
    "MeterName": "D4s v5",
    "Quantity": "24",
    "EffectivePrice": "0.2",
    "Cost": "4.8",
    "UnitPrice": "0.2",
    "BillingCurrency": "EUR",
    "ResourceLocation": "westeurope",
    "AvailabilityZone": "",
    "ConsumedService": "Microsoft.Compute",
    "ResourceId": MACHINE,
    "ResourceName": "web-1",
    "ServiceInfo1": "",
    "ServiceInfo2": "",
    "AdditionalInfo": "{" + INFO + "}",
    "Tags": '"env": "prod","team": "web"',
    "InvoiceSectionId": "",
    "InvoiceSection": "IT",
    "CostCenter": "7",
    "UnitOfMeasure": "1 Hour",
    "ResourceGroup": "RG-Web",
    "ReservationId": "",
    "ReservationName": "",
    "ProductOrderId": "",
    "ProductOrderName": "",
    "OfferId": "MS-AZR-0017P",
    "IsAzureCreditEligible": "True",
    "Term": "",
    "PublisherName": "Microsoft",
    "PlanName": "",
    "ChargeType": "Usage",
    "Frequency": "UsageBased",
    "PublisherType": "Azure",
    "PayGPrice": "0.25",
    "PricingModel": "OnDemand",
    "CostAllocationRuleName": "",
    "benefitId": "",
    "benefitName": "",
}
EA = tuple(EA_ROW)
C360 = tuple(
    n for n in EA if n not in {"PayGPrice", "PricingModel", "CostAllocationRuleName", "benefitId", "benefitName"}
)
MCA = (
    "invoiceId", "previousInvoiceId", "billingAccountId", "billingAccountName", "billingProfileId",
    "billingProfileName", "invoiceSectionId", "invoiceSectionName", "resellerName", "resellerMpnId", "costCenter",
    "billingPeriodEndDate", "billingPeriodStartDate", "servicePeriodEndDate", "servicePeriodStartDate", "date",
    "serviceFamily", "productOrderId", "productOrderName", "consumedService", "meterId", "meterName",
    "meterCategory", "meterSubCategory", "meterRegion", "ProductId", "ProductName", "SubscriptionId",
    "subscriptionName", "publisherType", "publisherId", "publisherName", "resourceGroupName", "ResourceId",
    "resourceLocation", "location", "effectivePrice", "quantity", "unitOfMeasure", "chargeType", "billingCurrency",
    "pricingCurrency", "costInBillingCurrency", "costInPricingCurrency", "costInUsd", "paygCostInBillingCurrency",
    "paygCostInUsd", "exchangeRatePricingToBilling", "exchangeRateDate", "isAzureCreditEligible", "serviceInfo1",
    "serviceInfo2", "additionalInfo", "tags", "PayGPrice", "frequency", "term", "reservationId", "reservationName",
    "pricingModel", "unitPrice", "costAllocationRuleName", "benefitId", "benefitName", "provider",
)  # fmt: skip
MCA_2019 = (
    "InvoiceID", "PreviousInvoiceId", "BillingAccountId", "BillingAccountName", "BillingProfileId",
    "BillingProfileName", "InvoiceSectionId", "InvoiceSectionName", "CostCenter", "BillingPeriodEndDate",
    "BillingPeriodStartDate", "ServicePeriodEndDate", "ServicePeriodStartDate", "Date", "ServiceFamily",
    "ProductOrderId", "ProductOrderName", "ConsumedService", "MeterId", "MeterName", "MeterCategory",
    "MeterSubcategory", "MeterRegion", "ProductId", "Product", "SubscriptionGuid", "SubscriptionName",
    "PublisherType", "PublisherId", "PublisherName", "ResourceGroup", "InstanceName", "ResourceLocation", "Location",
    "EffectivePrice", "Quantity", "UnitOfMeasure", "ChargeType", "BillingCurrencyCode", "PricingCurrencyCode",
    "CostInBillingCurrency", "CostInPricingCurrency", "CostInUSD", "PaygCostInBillingCurrency", "PaygCostInUSD",
    "ExchangeRate", "ExchangeRateDate", "IsAzureCreditEligible", "ServiceInfo1", "ServiceInfo2", "AdditionalInfo",
    "Tags", "MarketPrice", "Frequency", "Term", "ReservationId", "ReservationName", "UnitPrice",
)  # fmt: skip
PAY_AS_YOU_GO = (
    "SubscriptionGuid", "ResourceGroup", "ResourceLocation", "UsageDateTime", "MeterCategory", "MeterSubCategory",
    "MeterId", "MeterName", "MeterRegion", "UsageQuantity", "ResourceRate", "PreTaxCost", "ConsumedService",
    "ResourceType", "InstanceId", "Tags", "OfferId", "AdditionalInfo", "ServiceInfo1", "ServiceInfo2",
    "ServiceName", "ServiceTier", "Currency", "UnitOfMeasure",
)  # fmt: skip
#: Delivered header, lower case -> the EA header with the same content.
MEANINGS = {
    "costinbillingcurrency": "Cost", "pretaxcost": "Cost", "usagequantity": "Quantity", "usagedatetime": "Date",
    "resourcerate": "EffectivePrice", "instanceid": "ResourceId", "instancename": "ResourceId",
    "subscriptionguid": "SubscriptionId", "currency": "BillingCurrency", "billingcurrencycode": "BillingCurrency",
    "pricingcurrency": "BillingCurrency", "pricingcurrencycode": "BillingCurrency", "marketprice": "PayGPrice",
    "productname": "Product", "resourcegroupname": "ResourceGroup", "location": "ResourceLocation",
    "invoicesectionname": "InvoiceSection", "costinpricingcurrency": "Cost",
}  # fmt: skip
LOCAL_WORDS = {
    "Date": "Datum", "Quantity": "Menge", "Cost": "Kosten", "MeterName": "Name der Verbrauchseinheit",
    "UnitOfMeasure": "Maßeinheit", "SubscriptionId": "Abonnement-ID", "ResourceId": "Ressourcen-ID (ARM)",
    "BillingCurrency": "Abrechnungswährung",
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """A header family: its header in order, its feed, how it spells dates and tags, and BOM or none.

    `silent` are the columns of usage_lines it cannot state.
    """

    header: tuple[str, ...]
    feed: str = "azure_actual"
    date: Callable[[str], str] = str
    bom: bool = False
    silent: frozenset[str] = frozenset()


def _iso(text: str) -> str:
    month, day, year = text.split("/")
    return f"{year}-{month}-{day}"


def _short(text: str) -> str:
    month, day, year = text.split("/")
    return f"{int(month)}/{int(day)}/{year}"


_C360_SILENT = frozenset({"ListCost", "PricingCategory"})
_MCA_SILENT = frozenset({"SkuPriceId"})
_PAYG_SILENT = frozenset(
    {
        "BillingAccountId", "BillingAccountName", "BillingPeriodStart", "BillingPeriodEnd", "SubAccountName",
        "ChargeDescription", "ChargeFrequency", "ListCost", "PricingCategory", "SkuPriceId",
    }
)  # fmt: skip
FAMILIES = {
    "EA actual": Family(EA, bom=True),
    "EA amortized": Family(EA, "azure_amortized", bom=True),
    "c360 actual": Family(C360, date=_iso, silent=_C360_SILENT),
    "c360 amortized": Family(C360, "azure_amortized", date=_iso, silent=_C360_SILENT),
    "MCA actual": Family(MCA, silent=_MCA_SILENT),
    "MCA amortized": Family(MCA, "azure_amortized", silent=_MCA_SILENT),
    "MCA of 2019 with InstanceName": Family(MCA_2019, date=_short, silent=_MCA_SILENT | {"PricingCategory"}),
    "legacy pay-as-you-go": Family(PAY_AS_YOU_GO, date=_iso, silent=_PAYG_SILENT),
    "localised": Family(tuple(f"{LOCAL_WORDS[n]} ({n})" if n in LOCAL_WORDS else n for n in EA), bom=True),
    "capitals and blanks": Family(tuple(f" {n.upper().replace('ID', ' ID')} " for n in EA)),
}


def ea_row(**changed: str) -> dict[str, str]:
    """A row of an EA export: 24 hours of a machine."""
    return EA_ROW | changed


def write_family(path: Path, family: Family, rows: Sequence[Mapping[str, str]]) -> Path:
    """Write EA rows under the family's header."""
    content = csv_bytes([_told(row, family) for row in rows], family.header)
    return write_bytes(path, (b"\xef\xbb\xbf" if family.bom else b"") + content)


def write_ea(path: Path, rows: Iterable[Mapping[str, str]]) -> Path:
    """Write EA rows as an EA export."""
    return write_family(path, FAMILIES["EA actual"], list(rows))


def _told(row: Mapping[str, str], family: Family) -> dict[str, str]:
    lowered = {name.lower(): value for name, value in row.items()}
    told: dict[str, str] = {}
    for header in family.header:
        english = header.rpartition("(")[2].removesuffix(")").strip().replace(" ", "").lower()
        value = lowered.get(MEANINGS.get(english, english).lower(), "")
        told[header] = family.date(value) if value and english.endswith(("date", "datetime")) else value
    return told


_FOCUS_COMMON = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd",
    "BillingPeriodStart", "ChargeCategory", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd",
    "ChargePeriodStart", "CommitmentDiscountId", "EffectiveCost", "InvoiceIssuerName", "ListCost", "ListUnitPrice",
    "PricingCategory", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "ResourceId",
    "ResourceName", "ResourceType", "ServiceCategory", "ServiceName", "SkuId", "SkuPriceId", "SubAccountId",
    "SubAccountName", "SubAccountType", "Tags", "x_PricingBlockSize", "x_PricingUnitDescription", "x_ResourceType",
    "x_SkuMeterCategory", "x_SkuMeterId", "x_SkuMeterSubcategory", "x_SkuServiceFamily",
)  # fmt: skip
_FOCUS_1_0 = (
    *_FOCUS_COMMON, "ChargeClass", "CommitmentDiscountStatus", "ConsumedQuantity", "ConsumedUnit", "RegionId",
    "RegionName", "x_InvoiceId", "x_SkuDetails", "x_SkuMeterName",
)  # fmt: skip
_FOCUS_1_2 = (
    *(n for n in _FOCUS_1_0 if n not in {"x_InvoiceId", "x_SkuMeterName", "x_SkuDetails"}), "CapacityReservationId",
    "CapacityReservationStatus", "InvoiceId", "PricingCurrency", "ServiceSubcategory", "SkuMeter", "SkuPriceDetails",
)  # fmt: skip
#: Version of Microsoft's FOCUS export -> the columns of its header that the mapping can use.
FOCUS_HEADERS = {
    "1.0-preview(v1)": (
        *_FOCUS_COMMON, "ChargeSubcategory", "Region", "UsageQuantity", "UsageUnit", "x_InvoiceId", "x_SkuDetails",
        "x_SkuMeterName",
    ),
    "1.0": _FOCUS_1_0,
    "1.0r2": _FOCUS_1_0,
    "1.2-preview": (*_FOCUS_1_2, "x_SkuDetails"),
    "1.2": _FOCUS_1_2,
}  # fmt: skip


def write_focus(path: Path, version: str, rows: Sequence[Mapping[str, str]]) -> Path:
    """Write EA rows as a FOCUS export of that version; only its header's columns are written.

    Seconds in moments came with 1.0r2 (Microsoft Learn, FOCUS dataset).
    """
    header, moment = (
        FOCUS_HEADERS[version],
        "T00:00Z" if version.startswith("1.0-") or version == "1.0" else "T00:00:00Z",
    )
    told = [{name: value for name, value in _as_focus(row, moment).items() if name in header} for row in rows]
    return write_bytes(path, csv_bytes(told, header))


def _as_focus(row: Mapping[str, str], moment: str) -> dict[str, str]:
    """An EA row in the words of Microsoft's FOCUS exports; of a block of 10,000 the price is that of the block."""
    blocks = row["UnitOfMeasure"] == "10K"
    quantity = Decimal(row["Quantity"])
    details = row["AdditionalInfo"].strip("{}")
    arm_type = "/".join(row["ResourceId"].split("/providers/")[1].split("/")[:2])
    consumed = {"10K": "Units", "1 Hour": "Hours", "1/Month": "Units/Month"}[row["UnitOfMeasure"]]
    moments = {"ChargePeriodStart": "2026-10-05", "ChargePeriodEnd": "2026-10-06"}
    moments |= {"BillingPeriodStart": "2026-10-01", "BillingPeriodEnd": "2026-11-01"}
    return {name: day + moment for name, day in moments.items()} | {
        "BilledCost": row["Cost"], "EffectiveCost": row["Cost"],
        "ListCost": f"{Decimal(row['PayGPrice']) * quantity:f}", "ListUnitPrice": row["PayGPrice"],
        "BillingAccountId": row["BillingAccountId"], "BillingAccountName": row["BillingAccountName"],
        "BillingCurrency": row["BillingCurrency"], "ChargeCategory": "Usage", "ChargeSubcategory": "On-Demand",
        "ChargeDescription": row["Product"], "ChargeFrequency": "Usage-Based", "PricingCategory": "Standard",
        "InvoiceIssuerName": "Microsoft", "ProviderName": "Microsoft", "PublisherName": "Microsoft",
        "ConsumedQuantity": row["Quantity"], "ConsumedUnit": consumed, "UsageQuantity": row["Quantity"],
        "UsageUnit": consumed, "PricingQuantity": f"{quantity / (10_000 if blocks else 1):f}",
        "PricingUnit": consumed, "x_PricingBlockSize": "10000" if blocks else "1",
        "x_PricingUnitDescription": row["UnitOfMeasure"], "Region": "West Europe", "RegionId": "westeurope",
        "RegionName": "West Europe", "ResourceId": row["ResourceId"], "ResourceName": row["ResourceName"],
        "ResourceType": "Display name", "x_ResourceType": arm_type, "SkuPriceId": row["PartNumber"],
        "SubAccountId": f"/subscriptions/{row['SubscriptionId']}", "SubAccountName": row["SubscriptionName"],
        "SubAccountType": "Subscription", "Tags": "{" + row["Tags"] + "}" if row["Tags"] else "",
        "x_SkuMeterCategory": row["MeterCategory"], "x_SkuMeterSubcategory": row["MeterSubCategory"],
        "x_SkuMeterId": row["MeterId"], "x_SkuMeterName": row["MeterName"], "SkuMeter": row["MeterName"],
        "x_SkuServiceFamily": row["ServiceFamily"], "x_SkuDetails": "{" + details + "}" if details else "",
        "SkuPriceDetails": "{" + details.replace('"VCPUs"', '"CoreCount"').replace('"ServiceType"', '"InstanceType"') + "}",
    }  # fmt: skip
