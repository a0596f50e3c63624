"""Google Cloud's billing export, standard and detailed, as usage lines (billing-feeds.md sections 6.2 to 6.4).

Column meanings: Google Cloud, "Structure of Standard/Detailed data export". Identity and usage key are added in
`normalise`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ibis

from offgridflow_pipeline.connectors.reading.gcp_lists import CREDIT_AMOUNT
from offgridflow_pipeline.usage.expressions import DECIMAL, any_of, builtin, chosen, decimal, moment, region_code
from offgridflow_pipeline.usage.gcp_labels import capacity, machine
from offgridflow_pipeline.usage.gcp_rules import (
    cost_types,
    money_reason,
    sku_unit_rule,
    usage_corrections,
    within_64_bits,
)
from offgridflow_pipeline.usage.keys import lineage
from offgridflow_pipeline.usage.labels import as_object, members, tag_members
from offgridflow_pipeline.usage.quantities import rule_number, unit_rule, with_canonical_quantity
from offgridflow_pipeline.usage.rules import unit_rules

if TYPE_CHECKING:
    import ibis.expr.types as ir

_GOOGLE = "Google Cloud"
#: Invoices are of months in this time zone (billing-feeds.md section 6.2).
_INVOICE_ZONE = "America/Los_Angeles"
_ZONE = r"^([a-z]+-[a-z]+[0-9]+)-[a-z]$"
#: //service/projects/P/zones/Z/instances/ID: the kind stands before the last part.
_KIND = r"/([^/]+)/[^/]+$"
_DEFAULT_MODEL = "default"


@builtin(name="regexp_extract_all", signature=(("string", "string", "int32"), "array<string>"))
def _all_matches(text: str, pattern: str, group: int) -> list[str]:
    raise NotImplementedError  # body of a builtin: the engine computes it


def gcp_lines(rows: ir.Table) -> ir.Table:
    """Extract rows of the billing export with the columns of `usage_lines` that it can fill, identity excluded."""
    staged = rows.mutate(
        _quantity=decimal(rows.usage_amount),
        _billed=(decimal(rows.cost) + credits_sum(rows.credits)).cast(DECIMAL),
        _rule=sku_unit_rule(rows.usage_unit, rows.sku_description, unit_rule(rows.usage_unit)),
        _adjusts=rows.adjustment_info_type.notnull(),
        _place=_place(rows),
    )
    corrected = staged.mutate(_corrects=_corrects_usage(staged))
    judged = corrected.mutate(x_DispositionReason=_reason(corrected))
    return with_canonical_quantity(judged.select(**_columns(judged)), "_converted", "_converted_by")


def credits_sum(listed: ir.Value) -> ir.Value:
    """Sum of the credits of a row (negative money), exact; 0 without credits."""
    amounts = _all_matches(listed, CREDIT_AMOUNT, 1).map(lambda amount: amount.try_cast(DECIMAL))
    return ibis.coalesce(amounts.sums().cast(DECIMAL), ibis.literal(0).cast(DECIMAL))


def _columns(rows: ir.Table) -> dict[str, Any]:
    reason = rows.x_DispositionReason
    google = ibis.literal(_GOOGLE)
    converted, rule = within_64_bits(rows._quantity, rows._rule)
    third_party = reason == "marketplace_software"
    return (
        lineage(rows)
        | _period(rows)
        | machine(rows.system_labels)
        | capacity(rows.system_labels)
        | {
            "BillingAccountId": rows.billing_account_id,
            "SubAccountId": rows.project_id,
            "SubAccountName": rows.project_name,
            "SubAccountType": ibis.ifelse(rows.project_id.notnull(), ibis.literal("Project"), ibis.null("string")),
            "ServiceProviderName": ibis.coalesce(rows.seller_name, google),
            "HostProviderName": google,
            "InvoiceIssuerName": google,
            "InvoiceId": rows.invoice_month,
            "ChargePeriodStart": ibis.coalesce(
                moment(rows.usage_start_time), moment(rows.usage_date.cast("string"))
            ),
            "ChargePeriodEnd": moment(rows.usage_end_time),
            "ServiceName": rows.service_description,
            "SkuId": rows.sku_id,
            "SkuPriceId": rows.sku_id + "/" + rows.price_tier_start_amount,
            "PricingCategory": _pricing_category(rows),
            "ChargeCategory": _charge_category(rows),
            "ChargeClass": ibis.ifelse(
                rows.adjustment_info_id.notnull(), ibis.literal("Correction"), ibis.null("string")
            ),
            "ChargeDescription": rows.sku_description,
            "ConsumedQuantity": rows._quantity,
            "ConsumedUnit": rows.usage_unit,
            "PricingQuantity": decimal(rows.usage_amount_in_pricing_units),
            "PricingUnit": rows.usage_pricing_unit,
            "BilledCost": rows._billed,
            "EffectiveCost": rows._billed,
            "ListCost": decimal(ibis.coalesce(rows.cost_at_list_consumption_model, rows.cost_at_list)),
            "ContractedCost": decimal(rows.cost),
            "BillingCurrency": rows.currency,
            "RegionId": region_code(rows._place.re_replace(_ZONE, r"\1")),
            "AvailabilityZone": rows.location_zone,
            "ResourceId": rows.resource_global_name,
            "ResourceName": rows.resource_name,
            "ResourceType": rows.resource_global_name.re_extract(_KIND, 1).nullif(""),
            "Tags": as_object(
                members(rows.labels), members(rows.project_labels, "project:"), tag_members(rows.tags)
            ),
            "CommitmentDiscountId": rows.subscription_instance_id,
            "x_Provider": ibis.literal("gcp"),
            "x_ServiceCode": rows.service_id,
            "x_LineItemType": rows.cost_type,
            "x_BillingEntity": ibis.ifelse(
                any_of(third_party), ibis.literal("Marketplace"), ibis.null("string")
            ),
            "x_SourceRegion": rows._place,
            "x_SourceUnit": rows.usage_unit,
            "x_KeyDescription": rows.sku_description,
            "x_SourceVersion": rows.export_time,
            "_converted": converted,
            "_converted_by": rule,
            "x_DispositionReason": reason,
            "x_Disposition": ibis.ifelse(reason.isnull(), ibis.literal("countable"), ibis.literal("no_emission")),
        }
    )  # fmt: skip


def _reason(rows: ir.Table) -> ir.Value:
    """Why a row has no emission; null for countable rows (section 6.3)."""
    kind = rows.cost_type.lower()
    usage = ibis.cases(
        (rows._quantity == 0, ibis.literal("zero_quantity")),
        else_=ibis.null("string"),
    )
    ordinary = money_reason({c: rows[c] for c in ("sku_description", "service_description", "transaction_type")} | {
        "credits": rows.credits
    })  # fmt: skip
    return ibis.cases(
        (kind.isin([t.name for t in cost_types() if t.reason == "tax"]).fill_null(False), ibis.literal("tax")),
        (ordinary.notnull(), ordinary),
        (rows._corrects, usage),
        (rows._adjusts, ibis.literal("adjustment_money")),
        *((kind == t.name, ibis.literal(t.reason)) for t in cost_types() if t.reason),
        (kind.isin([t.name for t in cost_types() if not t.reason]).fill_null(False), usage),
        else_=ibis.literal("fee"),
    )


def _corrects_usage(rows: ir.Table) -> ir.Value:
    """Whether the row corrects a physical quantity: the type says so and the unit is one of physical use."""
    physical = [rule_number(rule.name) for rule in unit_rules() if rule.norm_unit != "Count"]
    return any_of(rows.adjustment_info_type.isin(sorted(usage_corrections())) & rows._rule.isin(physical))


def _charge_category(rows: ir.Table) -> ir.Value:
    """Usage, Tax or Adjustment by cost type; fee rows are purchases, corrections of usage are usage."""
    reason = rows.x_DispositionReason
    by_type = chosen(rows.cost_type.lower(), {t.name: t.charge_category for t in cost_types()}, otherwise="Adjustment")
    return ibis.cases(
        ((reason == "commitment_fee").fill_null(False), ibis.literal("Purchase")),
        (rows._corrects, ibis.literal("Usage")),
        ((reason == "adjustment_money").fill_null(False), ibis.literal("Adjustment")),
        else_=by_type,
    )


def _pricing_category(rows: ir.Table) -> ir.Value:
    """Committed under a commitment's consumption model, Dynamic for spot capacity, else Standard; null for money."""
    sku, model = rows.sku_description.lower(), rows.consumption_model_description.lower()
    committed = model.notnull() & (model != _DEFAULT_MODEL)
    return ibis.cases(
        (rows.x_DispositionReason.notnull(), ibis.null("string")),
        (committed, ibis.literal("Committed")),
        (any_of(sku.contains("spot "), sku.contains("preemptible")), ibis.literal("Dynamic")),
        else_=ibis.literal("Standard"),
    )


def _place(rows: ir.Table) -> ir.Value:
    """Region, else the location: a multi-region (``us``), a zone, or ``global``."""
    return ibis.coalesce(rows.location_region, rows.location_location)


def _period(rows: ir.Table) -> dict[str, ir.Value]:
    """Billing period of the invoice month, which begins and ends at midnight Pacific time."""
    year, month = rows.invoice_month.substr(0, 4), rows.invoice_month.substr(4, 2)
    following = ibis.ifelse(
        month == "12",
        (year.try_cast("int32") + 1).cast("string") + "-01",
        year + "-" + (month.try_cast("int32") + 1).cast("string").lpad(2, "0"),
    )
    return {
        "BillingPeriodStart": _pacific(year + "-" + month),
        "BillingPeriodEnd": _pacific(following),
    }


def _pacific(month: ir.Value) -> ir.Value:
    return (month + f"-01 00:00:00 {_INVOICE_ZONE}").try_cast("timestamp('UTC', 6)")
