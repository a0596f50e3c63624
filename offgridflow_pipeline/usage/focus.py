"""FOCUS 1.0 to 1.4 rows of any provider as usage lines (billing-feeds.md sections 4.3, 5.3 to 5.5, 7).

Renames between versions are already applied by the connector. Identity and usage key are added in
`normalise`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ibis

from offgridflow_pipeline.connectors.feeds import FEEDS
from offgridflow_pipeline.usage.azure_details import arm_type, braced, capacity_reservation, machine_size
from offgridflow_pipeline.usage.expressions import any_of, chosen, decimal, looked_up, moment, region_code
from offgridflow_pipeline.usage.focus_quantities import with_consumption
from offgridflow_pipeline.usage.gcp_labels import capacity, machine
from offgridflow_pipeline.usage.gcp_rules import money_reason, sku_unit_rule, within_64_bits
from offgridflow_pipeline.usage.keys import lineage
from offgridflow_pipeline.usage.labels import as_object, members, tag_members, tags_object
from offgridflow_pipeline.usage.quantities import unit_rule, with_canonical_quantity
from offgridflow_pipeline.usage.rules import azure_regions, focus_subcategories, providers

if TYPE_CHECKING:
    import ibis.expr.types as ir

_CATEGORIES = ("Usage", "Purchase", "Tax", "Credit", "Adjustment")
_STATUSES = {"used": "Used", "unused": "Unused"}
#: Closed lists of FOCUS 1.4; files differ in capitals (section 7).
_ENUMERATIONS = {
    "PricingCategory": ("Standard", "Dynamic", "Committed", "Other"),
    "ChargeClass": ("Correction",),
    "ChargeFrequency": ("One-Time", "Recurring", "Usage-Based"),
    "CommitmentDiscountCategory": ("Spend", "Usage"),
}
_COPIED = (
    "BillingAccountId", "BillingAccountName", "SubAccountName", "SubAccountType", "InvoiceId",
    "ServiceName", "ServiceCategory", "ServiceSubcategory", "SkuId",
    "SkuPriceId", "ChargeDescription",
    "ConsumedUnit", "PricingUnit", "BillingCurrency", "RegionName", "AvailabilityZone", "ResourceName",
    "CommitmentDiscountType",
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
        _status=_status(rows),
        _type=ibis.coalesce(rows.x_ResourceType.lower(), arm_type(rows.ResourceId.lower())),
        _meter=ibis.coalesce(rows.SkuMeter, rows.x_SkuMeterName),
        _place=ibis.coalesce(
            rows.RegionId, rows.x_Location, rows.RegionName, rows.AvailabilityZone.split(":")[1].nullif("")
        ),
    )
    consumed = with_consumption(staged)
    told = consumed.mutate(_told=_unit_rule(consumed))
    converted, rule = within_64_bits(told._consumed, told._told)
    judged = told.mutate(x_DispositionReason=_reason(told), _converted=converted, _converted_by=rule)
    measured = with_canonical_quantity(judged.select(**_columns(judged)), "_consumed", "_rule")
    return measured.mutate(
        x_UnitRule=ibis.ifelse(measured._in_blocks, measured.x_UnitRule + "+blocks", measured.x_UnitRule)
    )


def _columns(rows: ir.Table) -> dict[str, Any]:
    aws, azure, gcp = (rows._provider == name for name in ("aws", "azure", "gcp"))
    none = ibis.null("string")
    metered = ibis.coalesce(rows.x_UsageType, ibis.ifelse(aws, rows.SkuMeter, none))
    lowered = {name: ibis.ifelse(azure, rows[name].lower(), rows[name]) for name in ("SubAccountId", "ResourceId")}
    values: dict[str, Any] = {name: rows[name] for name in _COPIED}
    values |= {name: decimal(rows[name]) for name in _DECIMALS}
    values |= {name: moment(rows[name]) for name in _TIMES}
    values |= {name: _spelled(rows[name], names) for name, names in _ENUMERATIONS.items()}
    return (
        lineage(rows)
        | values
        | {
            "SubAccountId": lowered["SubAccountId"].re_replace(r"^/subscriptions/", ""),
            **_parties(rows, gcp),
            "ChargeCategory": _charge_category(rows, gcp),
            "SkuMeter": rows._meter,
            "RegionId": _region(rows),
            "ResourceId": lowered["ResourceId"],
            "ResourceType": ibis.coalesce(ibis.ifelse(azure, rows._type, rows.x_ResourceType), rows.ResourceType),
            "SkuPriceDetails": ibis.ifelse(azure, braced(rows._details), rows.SkuPriceDetails),
            "CommitmentDiscountStatus": rows._status,
            "CommitmentDiscountId": ibis.coalesce(rows.CommitmentDiscountId, rows.x_SubscriptionInstanceId),
            **_capacity(rows, azure),
            "Tags": _tags(rows),
            "x_Provider": rows._provider,
            "x_ServiceCode": ibis.coalesce(
                rows.x_ServiceCode,
                rows.x_ServiceId,
                ibis.ifelse(azure, rows.x_SkuServiceFamily, none),
                rows.ServiceName,
            ),
            "x_UsageType": metered,
            "x_BillingEntity": ibis.ifelse(rows._marketplace, ibis.literal("Marketplace"), none),
            **_machine(rows, metered),
            "x_GpuCount": decimal(_detail(rows, "GpuCount")),
            "x_SourceRegion": rows._place,
            "x_SourceUnit": rows._unit,
            "x_SourceVersion": ibis.coalesce(rows.x_ExportTime, rows.source_version),
            "x_LineItemType": rows.x_CostType,
            "_rule": rows._converted_by,
            "_consumed": rows._converted,
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
    of_feed = chosen(rows.feed, {feed.name: feed.provider for feed in FEEDS.values() if feed.provider})
    return ibis.coalesce(*(_code(name) for name in names), of_feed, ibis.literal("other"))


def _code(name: ir.Value) -> ir.Value:
    folded = name.lower()
    branches = [(folded.startswith(text), ibis.literal(code)) for text, code in providers().items()]
    return ibis.cases(*branches, else_=ibis.null("string"))


def _spelled(value: ir.Value, names: tuple[str, ...]) -> ir.Value:
    """The value in FOCUS's spelling; unchanged when it is none of the names."""
    return ibis.coalesce(chosen(value.lower(), {name.lower(): name for name in names}), value)


def _unit_rule(rows: ir.Table) -> ir.Value:
    """Number of the unit rule; Google's seconds are told by the SKU (section 3)."""
    google_sku = ibis.ifelse(rows._provider == "gcp", rows.ChargeDescription, ibis.null("string"))
    return sku_unit_rule(rows._unit, google_sku, ibis.coalesce(rows._azure_rule, unit_rule(rows._unit)))


def _parties(rows: ir.Table, gcp: ir.Value) -> dict[str, ir.Value]:
    """Who sells, hosts and invoices; Google's own export leaves out that it is Google (section 6.2)."""
    google = ibis.ifelse(gcp, ibis.literal("Google Cloud"), ibis.null("string"))
    seller = ibis.coalesce(rows.ServiceProviderName, google)
    return {
        "ServiceProviderName": seller,
        "HostProviderName": ibis.coalesce(rows.HostProviderName, google, seller),
        "InvoiceIssuerName": ibis.coalesce(rows.InvoiceIssuerName, google),
    }


def _charge_category(rows: ir.Table, gcp: ir.Value) -> ir.Value:
    """The category as delivered; Google's commitment fees come as usage but are purchases (section 6.4)."""
    delivered = chosen(rows._category, {c.lower(): c for c in _CATEGORIES}, otherwise="Adjustment")
    fee = (gcp & (rows._category == "usage") & (rows.x_DispositionReason == "commitment_fee")).fill_null(False)
    return ibis.ifelse(fee, ibis.literal("Purchase"), delivered)


def _tags(rows: ir.Table) -> ir.Value:
    """Tags in any of their forms; Google's export has labels and tags of its own instead (section 6.2)."""
    google = as_object(members(rows.x_Labels), members(rows.x_ProjectLabels, "project:"), tag_members(rows.x_Tags))
    return ibis.coalesce(tags_object(rows.Tags), google)


def _machine(rows: ir.Table, metered: ir.Value) -> dict[str, ir.Value]:
    """Machine type and size: SkuPriceDetails, else the system labels of Google's export."""
    labelled = machine(rows.x_SystemLabels)
    vcpus = decimal(ibis.coalesce(_detail(rows, "CoreCount"), _detail(rows, "(?:x_)?VCPUs")))
    memory = decimal(_detail(rows, "MemorySize").replace(" GiB", "").replace(" GB", ""))
    return {
        "x_InstanceType": ibis.coalesce(_instance_type(rows, metered), labelled["x_InstanceType"]),
        "x_VCpus": ibis.coalesce(vcpus, labelled["x_VCpus"]),
        "x_MemoryGiB": ibis.coalesce(memory, labelled["x_MemoryGiB"]),
    }


def _region(rows: ir.Table) -> ir.Value:
    code = region_code(rows._place)
    displayed = (rows._provider == "azure") & (rows._place != code)
    return ibis.ifelse(displayed.fill_null(False), ibis.coalesce(looked_up(code, azure_regions()), code), code)


def _detail(rows: ir.Table, key: str) -> ir.Value:
    """One property of SkuPriceDetails; a regular expression reads it without parsing the object per column."""
    return rows._details.re_extract(rf'"{key}"\s*:\s*"?([^",}}]+)"?', 1).nullif("")


def _instance_type(rows: ir.Table, metered: ir.Value) -> ir.Value:
    """SkuPriceDetails; for AWS else the usage type, then the description (section 4.3)."""
    stated = ibis.ifelse(rows._provider == "azure", machine_size(rows._details), _detail(rows, "InstanceType"))
    told = ibis.coalesce(
        metered.re_extract(_METERED_TYPE, 1).nullif(""), rows.ChargeDescription.re_extract(_TOLD_TYPE, 1).nullif("")
    )
    return ibis.coalesce(stated, ibis.ifelse(rows._provider == "aws", told, ibis.null("string")))


def _subcategory(rows: ir.Table) -> ir.Value:
    return rows.ChargeSubcategory.lower()


def _status(rows: ir.Table) -> ir.Value:
    """Whether a commitment's hours were used; FOCUS 1.0-preview tells it in ChargeSubcategory."""
    older = {s.name: s.commitment_status for s in focus_subcategories() if s.commitment_status}
    return ibis.coalesce(chosen(rows.CommitmentDiscountStatus.lower(), _STATUSES), chosen(_subcategory(rows), older))


def _capacity(rows: ir.Table, azure: ir.Value) -> dict[str, ir.Value]:
    """Capacity reservation as its columns state it, else as Azure's details or Google's system labels do."""
    reservation, status = capacity_reservation(rows._details, rows._type)
    labelled = capacity(rows.x_SystemLabels)
    none = ibis.null("string")
    return {
        "CapacityReservationId": ibis.coalesce(
            rows.CapacityReservationId, ibis.ifelse(azure, reservation, none), labelled["CapacityReservationId"]
        ),
        "CapacityReservationStatus": ibis.coalesce(
            chosen(rows.CapacityReservationStatus.lower(), _STATUSES),
            ibis.ifelse(azure, status, none),
            labelled["CapacityReservationStatus"],
        ),
    }


def _reason(rows: ir.Table) -> ir.Value:
    """Why a row has no emission; null for countable rows (sections 3, 5.4, 6.3)."""
    category = rows._category
    committed = rows.CommitmentDiscountId.notnull()
    google = {
        "sku_description": rows.ChargeDescription,
        "service_description": rows.ServiceName,
        "credits": rows.x_Credits,
    }
    # Google bills commitment fees as usage that repeats the committed cores (section 6.3).
    google_money = ibis.ifelse(rows._provider == "gcp", money_reason(google), ibis.null("string"))
    correction = rows.ChargeClass.lower() == "correction"
    rounding = any_of(rows.ChargeDescription.lower().contains("rounding"), rows.x_CostType == "rounding_error")
    told = chosen(_subcategory(rows), {s.name: s.reason for s in focus_subcategories() if s.reason})
    usage = ibis.cases(
        (rows._status == "Unused", ibis.literal("commitment_unused")),
        (rows._marketplace, ibis.literal("marketplace_software")),
        (google_money.notnull(), google_money),
        (rows._consumed == 0, ibis.literal("zero_quantity")),
        else_=ibis.null("string"),
    )
    return ibis.cases(
        (category == "usage", usage),
        ((category == "purchase") & committed, ibis.literal("commitment_fee")),
        (category == "tax", ibis.literal("tax")),
        (told.notnull() & (category != "usage"), told),
        ((category == "credit") & correction, ibis.literal("refund_money")),
        (category == "credit", ibis.literal("credit")),
        ((category == "adjustment") & rounding, ibis.literal("rounding")),
        (category == "adjustment", ibis.literal("adjustment_money")),
        else_=ibis.literal("fee"),
    )
