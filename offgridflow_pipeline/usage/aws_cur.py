"""AWS cost and usage report rows (legacy and 2.0) as usage lines (billing-feeds.md sections 4.3 to 4.5).

Column meanings: AWS CUR data dictionary. Identity and usage key are added in `normalise`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ibis

from offgridflow_pipeline.usage.expressions import DECIMAL, chosen, decimal, looked_up, moment, region_code
from offgridflow_pipeline.usage.keys import lineage
from offgridflow_pipeline.usage.quantities import unit_rule, with_canonical_quantity
from offgridflow_pipeline.usage.rules import aws_no_emission, line_types, region_prefixes

if TYPE_CHECKING:
    import ibis.expr.types as ir

_MARKETPLACE = "AWS Marketplace"
_METERED_TYPE = (
    r"(?:BoxUsage|SpotUsage|HeavyUsage|DedicatedUsage|UnusedBox|UnusedDed|HostBoxUsage|InstanceUsage"
    r"|Multi-AZUsage|Multi-AZClusterUsage|NodeUsage|ESInstance|Node|Kafka)[:.]([a-z0-9.\-]+)$"
)
_PREFIX = r"^([A-Z]{2,3}[0-9]?)-"
_ZONE = r"^([a-z]{2}(?:-[a-z]+)+-[0-9]+)"


def cur_lines(rows: ir.Table) -> ir.Table:
    """Extract rows of CUR with the columns of `usage_lines` that CUR can fill, identity excluded."""
    interval = rows.identity_time_interval
    slash = interval.find("/")
    kind = rows.line_item_line_item_type
    marketplace = rows.bill_billing_entity == _MARKETPLACE
    staged = rows.mutate(
        _quantity=decimal(rows.line_item_usage_amount),
        _cost=decimal(rows.line_item_unblended_cost),
        _start=ibis.coalesce(interval.substr(0, slash), rows.line_item_usage_start_date),
        _end=ibis.coalesce(interval.substr(slash + 1), rows.line_item_usage_end_date),
        _marketplace=marketplace.fill_null(False),
        _countable=chosen(kind, {t.name: t.disposition == "countable" for t in line_types()}, kind="boolean"),
        _region=ibis.coalesce(rows.product_region_code, rows.product_region),
        _code=region_code(ibis.coalesce(rows.product_region_code, rows.product_region)),
    )
    judged = staged.mutate(
        x_DispositionReason=_reason(staged), _region_id=_region(staged), _instance_type=_instance_type(staged)
    )
    return with_canonical_quantity(judged.select(**_columns(judged)), "ConsumedQuantity", "_rule")


def _columns(rows: ir.Table) -> dict[str, Any]:
    kind = rows.line_item_line_item_type
    reason = rows.x_DispositionReason
    none = ibis.null("string")
    return lineage(rows) | {
        "BillingAccountId": rows.bill_payer_account_id,
        "BillingAccountName": rows.bill_payer_account_name,
        "SubAccountId": rows.line_item_usage_account_id,
        "SubAccountName": rows.line_item_usage_account_name,
        "ServiceProviderName": ibis.ifelse(rows._marketplace, rows.line_item_legal_entity, ibis.literal("AWS")),
        "HostProviderName": ibis.literal("AWS"),
        "InvoiceIssuerName": rows.bill_invoicing_entity,
        "InvoiceId": rows.bill_invoice_id,
        "BillingPeriodStart": moment(rows.bill_billing_period_start_date),
        "BillingPeriodEnd": moment(rows.bill_billing_period_end_date),
        "ChargePeriodStart": ibis.coalesce(moment(rows._start), moment(rows.usage_date.cast("string"))),
        "ChargePeriodEnd": moment(rows._end),
        "ServiceName": ibis.coalesce(rows.product_product_name, rows.line_item_product_code),
        "SkuId": rows.product_sku,
        "SkuPriceId": ibis.coalesce(rows.pricing_rate_code, rows.pricing_rate_id),
        "SkuMeter": rows.line_item_usage_type,
        "SkuPriceDetails": rows.product,
        "PricingCategory": _pricing_category(rows),
        "ChargeCategory": _charge_category(kind),
        "ChargeDescription": rows.line_item_line_item_description,
        "ConsumedQuantity": rows._quantity,
        "ConsumedUnit": rows.pricing_unit,
        "PricingQuantity": rows._quantity,
        "PricingUnit": rows.pricing_unit,
        "BilledCost": rows._cost,
        "EffectiveCost": _effective_cost(rows, kind),
        "ListCost": decimal(rows.pricing_public_on_demand_cost),
        "BillingCurrency": rows.line_item_currency_code,
        "RegionId": rows._region_id.nullif(""),
        "AvailabilityZone": rows.line_item_availability_zone,
        "ResourceId": rows.line_item_resource_id,
        "ResourceType": rows.product_product_family,
        "Tags": rows.resource_tags.re_replace(r'([{,])"user[:_]', r'\1"'),
        "CommitmentDiscountId": ibis.coalesce(rows.reservation_reservation_a_r_n, rows.savings_plan_savings_plan_a_r_n),
        "CommitmentDiscountStatus": chosen(
            kind, {t.name: t.commitment_status for t in line_types() if t.commitment_status}
        ),
        "CapacityReservationStatus": ibis.ifelse(
            rows.line_item_usage_type.contains("UnusedBox") | rows.line_item_usage_type.contains("UnusedDed"),
            ibis.literal("Unused"),
            none,
        ),
        "x_Provider": ibis.literal("aws"),
        "x_ServiceCode": rows.line_item_product_code,
        "x_UsageType": rows.line_item_usage_type,
        "x_Operation": rows.line_item_operation,
        "x_LineItemType": kind,
        "x_BillingEntity": rows.bill_billing_entity,
        "x_InstanceType": rows._instance_type.nullif(""),
        **_numbers(rows),
        "x_SourceRegion": rows._region,
        "x_SourceUnit": rows.pricing_unit,
        "_rule": unit_rule(rows.pricing_unit),
        "x_DispositionReason": reason,
        "x_Disposition": ibis.ifelse(reason.isnull(), ibis.literal("countable"), ibis.literal("no_emission")),
    }


def _numbers(rows: ir.Table) -> dict[str, ir.Value]:
    """Sizes of the instance, as decimals and as the texts they were read from."""
    texts = {
        "x_VCpus": rows.product_vcpu,
        "x_MemoryGiB": rows.product_memory.replace(" GiB", "").replace(",", ""),
        "x_GpuCount": rows.product_gpu,
    }
    return {name: decimal(text) for name, text in texts.items()} | {
        f"_text_{name}": text for name, text in texts.items()
    }


def _reason(rows: ir.Table) -> ir.Value:
    """Why a row has no emission; null for countable rows (billing-feeds.md section 4.4)."""
    kind = rows.line_item_line_item_type
    by_rule = [(rows[rule.column].contains(rule.text), ibis.literal(rule.reason)) for rule in aws_no_emission()]
    usage = ibis.cases(
        (rows._marketplace, ibis.literal("marketplace_software")),
        *by_rule,
        (rows.split_line_item_parent_resource_id.notnull(), ibis.literal("split_child")),
        (rows._quantity == 0, ibis.literal("zero_quantity")),
        else_=ibis.null("string"),
    )
    money = ibis.cases(
        ((kind == "Fee") & rows.reservation_reservation_a_r_n.notnull(), ibis.literal("commitment_fee")),
        *((kind == t.name, ibis.literal(t.reason)) for t in line_types() if t.reason),
        (kind.endswith("Discount"), ibis.literal("discount")),
        else_=ibis.literal("fee"),
    )
    return ibis.ifelse(rows._countable.fill_null(False), usage, money)


def _charge_category(kind: ir.Value) -> ir.Value:
    return ibis.cases(
        *((kind == t.name, ibis.literal(t.charge_category)) for t in line_types()),
        (kind.endswith("Discount"), ibis.literal("Credit")),
        else_=ibis.literal("Adjustment"),
    )


def _pricing_category(rows: ir.Table) -> ir.Value:
    kind = rows.line_item_line_item_type
    return ibis.cases(
        (kind.isin(["SavingsPlanCoveredUsage", "DiscountedUsage"]), ibis.literal("Committed")),
        ((kind == "Usage") & rows.line_item_usage_type.contains("SpotUsage"), ibis.literal("Dynamic")),
        (kind == "Usage", ibis.literal("Standard")),
        else_=ibis.null("string"),
    )


def _effective_cost(rows: ir.Table, kind: ir.Value) -> ir.Value:
    zero = ibis.literal(0).cast(DECIMAL)

    def amount(column: ir.Value) -> ir.Value:
        return ibis.coalesce(decimal(column), zero)

    return ibis.cases(
        (kind == "Usage", rows._cost),
        (kind == "SavingsPlanCoveredUsage", amount(rows.savings_plan_savings_plan_effective_cost)),
        (kind == "DiscountedUsage", amount(rows.reservation_effective_cost)),
        (
            kind == "RIFee",
            amount(rows.reservation_unused_amortized_upfront_fee_for_billing_period)
            + amount(rows.reservation_unused_recurring_fee),
        ),
        (
            kind == "SavingsPlanRecurringFee",
            amount(rows.savings_plan_total_commitment_to_date) - amount(rows.savings_plan_used_commitment),
        ),
        ((kind == "SavingsPlanNegation") | (kind == "SavingsPlanUpfrontFee"), zero),
        ((kind == "Fee") & rows.reservation_reservation_a_r_n.notnull(), zero),
        else_=rows._cost,
    )


def _instance_type(rows: ir.Table) -> ir.Value:
    """Stated type, else the one in the usage type; empty when there is none."""
    metered = rows.line_item_usage_type
    return ibis.cases(
        (rows.product_instance_type.notnull(), rows.product_instance_type),
        (metered.contains(":") | metered.contains("Kafka."), metered.re_extract(_METERED_TYPE, 1)),
        else_=ibis.null("string"),
    )


def _region(rows: ir.Table) -> ir.Value:
    """Stated region, else the usage type's prefix, else the zone without its letter (section 4.3); or empty."""
    # Rows with a stated region carry null into the expressions: the engine runs those for every row.
    unstated = rows._code.isnull()
    metered = ibis.ifelse(unstated, rows.line_item_usage_type, ibis.null("string"))
    zone = ibis.ifelse(unstated, rows.line_item_availability_zone, ibis.null("string"))
    prefix = looked_up(metered.re_extract(_PREFIX, 1), region_prefixes())
    return ibis.coalesce(rows._code, prefix, zone.lower().re_extract(_ZONE, 1))
