"""FOCUS 1.0 to 1.4 rows of any provider as usage lines (billing-feeds.md sections 4.3, 5.3 to 5.5, 7).

Renames between versions are already applied by the connector. Identity and usage key are added in
`normalise`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ibis

from offgridflow_pipeline.usage.expressions import chosen, decimal, looked_up, moment, region_code
from offgridflow_pipeline.usage.focus_quantities import with_consumption
from offgridflow_pipeline.usage.keys import lineage
from offgridflow_pipeline.usage.quantities import unit_rule, with_canonical_quantity
from offgridflow_pipeline.usage.rules import azure_regions, providers

if TYPE_CHECKING:
    import ibis.expr.types as ir

_CATEGORIES = ("Usage", "Purchase", "Tax", "Credit", "Adjustment")
_STATUSES = {"used": "Used", "unused": "Unused"}
_COPIED = (
    "BillingAccountId", "BillingAccountName", "SubAccountName", "SubAccountType", "ServiceProviderName",
    "InvoiceIssuerName", "InvoiceId", "ServiceName", "ServiceCategory", "ServiceSubcategory", "SkuId",
    "SkuPriceId", "SkuPriceDetails", "PricingCategory", "ChargeClass", "ChargeFrequency", "ChargeDescription",
    "ConsumedUnit", "PricingUnit", "BillingCurrency", "RegionName", "AvailabilityZone", "ResourceName", "Tags",
    "CommitmentDiscountId", "CommitmentDiscountCategory", "CommitmentDiscountType", "CapacityReservationId",
    "x_SkuMeterId", "x_SkuMeterCategory", "x_SkuMeterSubcategory", "x_Operation",
)  # fmt: skip
_DECIMALS = (
    "ConsumedQuantity", "PricingQuantity", "BilledCost", "EffectiveCost", "ListCost", "ContractedCost",
    "x_PricingBlockSize",
)  # fmt: skip
_TIMES = ("BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd")
_METERED_TYPE = (
    r"(?:BoxUsage|SpotUsage|DedicatedUsage|UnusedBox|UnusedDed|InstanceUsage|Multi-AZUsage|NodeUsage"
    r"|ESInstance):([a-z0-9.\-]+)$"
)
_TOLD_TYPE = (
    r"\b((?:(?:db|cache)\.)?[a-z][a-z0-9\-]*\.(?:[0-9]*xlarge|nano|micro|small|medium|large|metal[a-z0-9\-]*))\b"
)


def focus_lines(rows: ir.Table) -> ir.Table:
    """Extract rows of FOCUS with the columns of `usage_lines`, identity excluded."""
    staged = rows.mutate(
        _provider=_provider(rows),
        _category=rows.ChargeCategory.lower(),
        _details=ibis.coalesce(rows.SkuPriceDetails, rows.x_SkuDetails),
        _meter=ibis.coalesce(rows.SkuMeter, rows.x_SkuMeterName),
        _place=ibis.coalesce(rows.RegionId, rows.RegionName, rows.AvailabilityZone.split(":")[1].nullif("")),
    )
    consumed = with_consumption(staged)
    judged = consumed.mutate(x_DispositionReason=_reason(consumed))
    measured = with_canonical_quantity(judged.select(**_columns(judged)), "_consumed", "_rule")
    return measured.mutate(
        x_UnitRule=ibis.ifelse(measured._in_blocks, measured.x_UnitRule + "+blocks", measured.x_UnitRule)
    )


def _columns(rows: ir.Table) -> dict[str, Any]:
    aws, azure = rows._provider == "aws", rows._provider == "azure"
    none = ibis.null("string")
    metered = ibis.coalesce(rows.x_UsageType, ibis.ifelse(aws, rows.SkuMeter, none))
    lowered = {name: ibis.ifelse(azure, rows[name].lower(), rows[name]) for name in ("SubAccountId", "ResourceId")}
    values: dict[str, Any] = {name: rows[name] for name in _COPIED}
    values |= {name: decimal(rows[name]) for name in _DECIMALS}
    values |= {name: moment(rows[name]) for name in _TIMES}
    return (
        lineage(rows)
        | values
        | {
            "SubAccountId": lowered["SubAccountId"].re_replace(r"^/subscriptions/", ""),
            "HostProviderName": ibis.coalesce(rows.HostProviderName, rows.ServiceProviderName),
            "ChargeCategory": chosen(rows._category, {c.lower(): c for c in _CATEGORIES}, otherwise="Adjustment"),
            "SkuMeter": rows._meter,
            "RegionId": _region(rows),
            "ResourceId": lowered["ResourceId"],
            "ResourceType": ibis.coalesce(rows.x_ResourceType, rows.ResourceType),
            "CommitmentDiscountStatus": chosen(rows.CommitmentDiscountStatus.lower(), _STATUSES),
            "CapacityReservationStatus": chosen(rows.CapacityReservationStatus.lower(), _STATUSES),
            "x_Provider": rows._provider,
            "x_ServiceCode": ibis.coalesce(
                rows.x_ServiceCode, ibis.ifelse(azure, rows.x_SkuServiceFamily, none), rows.ServiceName
            ),
            "x_UsageType": metered,
            "x_BillingEntity": ibis.ifelse(rows._marketplace, ibis.literal("Marketplace"), none),
            "x_InstanceType": _instance_type(rows, metered),
            "x_VCpus": decimal(ibis.coalesce(_detail(rows, "CoreCount"), _detail(rows, "VCPUs"))),
            "x_MemoryGiB": decimal(_detail(rows, "MemorySize").replace(" GiB", "").replace(" GB", "")),
            "x_GpuCount": decimal(_detail(rows, "GpuCount")),
            "x_SourceRegion": rows._place,
            "x_SourceUnit": rows._unit,
            "_rule": unit_rule(rows._unit),
            "_consumed": rows._consumed,
            "_in_blocks": rows._in_blocks,
            "x_DispositionReason": rows.x_DispositionReason,
            "x_KeyDescription": ibis.ifelse(aws | azure, none, rows.ChargeDescription),
            "x_Disposition": ibis.ifelse(
                rows.x_DispositionReason.isnull(), ibis.literal("countable"), ibis.literal("no_emission")
            ),
        }
    )


def _provider(rows: ir.Table) -> ir.Value:
    """Code of the provider, by the first name that is known: who sells, who hosts, who invoices."""
    names = (rows.ServiceProviderName, rows.HostProviderName, rows.InvoiceIssuerName)
    return ibis.coalesce(*(_code(name) for name in names), ibis.literal("other"))


def _code(name: ir.Value) -> ir.Value:
    folded = name.lower()
    branches = [(folded.startswith(text), ibis.literal(code)) for text, code in providers().items()]
    return ibis.cases(*branches, else_=ibis.null("string"))


def _region(rows: ir.Table) -> ir.Value:
    code = region_code(rows._place)
    displayed = (rows._provider == "azure") & (rows._place != code)
    return ibis.ifelse(displayed.fill_null(False), ibis.coalesce(looked_up(code, azure_regions()), code), code)


def _detail(rows: ir.Table, key: str) -> ir.Value:
    """One property of SkuPriceDetails; a regular expression reads it without parsing the object per column."""
    return rows._details.re_extract(rf'"{key}"\s*:\s*"?([^",}}]+)"?', 1).nullif("")


def _instance_type(rows: ir.Table, metered: ir.Value) -> ir.Value:
    """SkuPriceDetails; for AWS else the usage type, then the description (section 4.3)."""
    stated = ibis.coalesce(_detail(rows, "InstanceType"), _detail(rows, "ServiceType"))
    told = ibis.coalesce(
        metered.re_extract(_METERED_TYPE, 1).nullif(""), rows.ChargeDescription.re_extract(_TOLD_TYPE, 1).nullif("")
    )
    return ibis.coalesce(stated, ibis.ifelse(rows._provider == "aws", told, ibis.null("string")))


def _reason(rows: ir.Table) -> ir.Value:
    """Why a row has no emission; null for countable rows (sections 3, 5.4, 6.3)."""
    category = rows._category
    committed = rows.CommitmentDiscountId.notnull()
    # Google bills commitment fees as usage that repeats the committed cores (section 6.3).
    google_fee = (rows._provider == "gcp") & rows.ChargeDescription.startswith("Commitment")
    correction = rows.ChargeClass.lower() == "correction"
    usage = ibis.cases(
        (rows.CommitmentDiscountStatus.lower() == "unused", ibis.literal("commitment_unused")),
        (rows._marketplace, ibis.literal("marketplace_software")),
        (google_fee, ibis.literal("commitment_fee")),
        (rows._consumed == 0, ibis.literal("zero_quantity")),
        else_=ibis.null("string"),
    )
    return ibis.cases(
        (category == "usage", usage),
        ((category == "purchase") & committed, ibis.literal("commitment_fee")),
        (category == "tax", ibis.literal("tax")),
        ((category == "credit") & correction, ibis.literal("refund_money")),
        (category == "credit", ibis.literal("credit")),
        ((category == "adjustment") & rows.ChargeDescription.lower().contains("rounding"), ibis.literal("rounding")),
        (category == "adjustment", ibis.literal("adjustment_money")),
        else_=ibis.literal("fee"),
    )
