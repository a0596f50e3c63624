"""Azure cost details (actual and amortized; EA, MCA, pay-as-you-go) as usage lines (billing-feeds.md 5.3 to 5.5).

Column meanings: Microsoft Learn, cost details fields. Identity and usage key are added in `normalise`.

`BilledCost` is the cost the export states, so that its sum is the export's sum. An actual export states what is
invoiced and no amortised cost (`EffectiveCost` is null); an amortized one states only the amortised cost, which is
then both. Control totals of an amortized connection must be amortised ones too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ibis

from offgridflow_pipeline.usage.azure_details import additional, arm_type, braced, capacity_reservation, machine_size
from offgridflow_pipeline.usage.azure_rules import (
    block_size,
    charge_types,
    counts_blocks,
    focus_values,
    in_units,
    services,
    unit_number,
    unit_rule_of,
)
from offgridflow_pipeline.usage.expressions import DECIMAL, any_of, chosen, decimal, looked_up, moment, region_code
from offgridflow_pipeline.usage.keys import lineage
from offgridflow_pipeline.usage.quantities import with_canonical_quantity
from offgridflow_pipeline.usage.rules import azure_regions

if TYPE_CHECKING:
    import ibis.expr.types as ir

MICROSOFT = "Microsoft"
AMORTIZED = "azure_amortized"
#: Mark in `x_UnitRule` of a machine billed for more than 24 hours of one day.
OVER_A_DAY = "+over_24h"
#: Meter categories whose meters are named after the size of a machine.
_MACHINES = ("virtual machines", "cloud services", "virtual machine scale sets")
_MACHINE = "microsoft.compute/virtualmachines"
_DAY_HOURS = 24
_COPIED = (
    "BillingAccountId", "BillingAccountName", "SubscriptionName", "InvoiceId", "ProductId", "PartNumber",
    "BillingCurrency", "AvailabilityZone",
)  # fmt: skip
_RENAMED = {"SubscriptionName": "SubAccountName", "ProductId": "SkuId", "PartNumber": "SkuPriceId"}


def azure_lines(rows: ir.Table) -> ir.Table:
    """Extract rows of cost details with the columns of `usage_lines` they can fill, identity excluded."""
    kind = ibis.coalesce(rows.ChargeType, ibis.literal("Usage"))  # pay-as-you-go files list usage only
    arm = rows.ResourceId.lower()
    staged = rows.mutate(
        _kind=kind,
        _charge=kind.lower().replace(" ", ""),
        _quantity=decimal(rows.Quantity),
        _cost=decimal(rows.Cost),
        _unit=unit_number(rows.UnitOfMeasure),
        _marketplace=_marketplace(rows),
        _model=_pricing_model(rows),
        _commitment=ibis.coalesce(rows.ReservationId, rows.BenefitId).lower(),
        _arm=arm,
        _type=ibis.coalesce(rows.ResourceType.lower(), arm_type(arm)),
        _place=ibis.coalesce(rows.ResourceLocation, rows.MeterRegion),
    )
    counted = staged.mutate(_block=block_size(staged._unit))
    counted = counted.mutate(
        _in_blocks=any_of((counted._block > 1) & counts_blocks(counted._unit, counted.UnitOfMeasure))
    )
    judged = counted.mutate(x_DispositionReason=_reason(counted), _size=_size(counted))
    measured = with_canonical_quantity(judged.select(**_columns(judged)), "_consumed", "_rule")
    return measured.mutate(x_UnitRule=_flagged(measured))


def _columns(rows: ir.Table) -> dict[str, Any]:
    reservation, capacity_status = capacity_reservation(rows.AdditionalInfo, rows._type)
    vcpus = additional(rows.AdditionalInfo, "VCPUs")
    reason = rows.x_DispositionReason
    none = ibis.null("string")
    seller = ibis.ifelse(rows._marketplace, rows.PublisherName, ibis.literal(MICROSOFT))
    return (
        lineage(rows)
        | {_RENAMED.get(name, name): rows[name] for name in _COPIED}
        | _periods(rows)
        | _costs(rows)
        | _commitments(rows)
        | {
            "SubAccountId": rows.SubscriptionId.lower().re_replace(r"^/subscriptions/", ""),
            "SubAccountType": ibis.literal("Subscription"),
            "ServiceProviderName": seller,
            "HostProviderName": ibis.literal(MICROSOFT),
            "InvoiceIssuerName": ibis.literal(MICROSOFT),
            "ServiceName": _service(rows),
            "SkuMeter": rows.MeterName,
            "SkuPriceDetails": braced(rows.AdditionalInfo),
            "ChargeCategory": chosen(
                rows._charge, {t.name.lower(): t.charge_category for t in charge_types()}, otherwise="Adjustment"
            ),
            "ChargeFrequency": chosen(_folded(rows.Frequency), focus_values("Frequency", "ChargeFrequency")),
            "ChargeDescription": rows.Product,
            "ConsumedQuantity": rows._quantity,
            "ConsumedUnit": rows.UnitOfMeasure,
            "PricingQuantity": rows._quantity,
            "PricingUnit": rows.UnitOfMeasure,
            "RegionId": _region(rows),
            "ResourceId": rows._arm,
            "ResourceName": ibis.coalesce(rows.ResourceName, rows.ResourceId.re_extract(r"([^/]+)/?$", 1).nullif("")),
            "ResourceType": rows._type,
            "Tags": braced(rows.Tags),
            "CapacityReservationId": reservation,
            "CapacityReservationStatus": capacity_status,
            "x_Provider": ibis.literal("azure"),
            "x_ServiceCode": rows.ConsumedService.lower(),
            "x_LineItemType": rows._kind,
            "x_BillingEntity": ibis.ifelse(rows._marketplace, ibis.literal("Marketplace"), none),
            "x_InstanceType": rows._size,
            "x_VCpus": decimal(vcpus),
            "_text_x_VCpus": vcpus,
            "x_SkuMeterId": rows.MeterId.lower(),
            "x_SkuMeterCategory": rows.MeterCategory,
            "x_SkuMeterSubcategory": rows.MeterSubCategory,
            "x_SourceRegion": rows._place,
            "x_SourceUnit": rows.UnitOfMeasure,
            "x_PricingBlockSize": rows._block.cast(DECIMAL),
            "_rule": unit_rule_of(rows._unit),
            "_consumed": in_units(rows._quantity, rows._in_blocks, rows._block),
            "_in_blocks": rows._in_blocks,
            "_one_machine": _one_machine(rows),
            "x_DispositionReason": reason,
            "x_Disposition": ibis.ifelse(reason.isnull(), ibis.literal("countable"), ibis.literal("no_emission")),
        }
    )


def _periods(rows: ir.Table) -> dict[str, ir.Value]:
    """Billing and charge period; the last day of the billing period is included, ours is not."""
    one_day = ibis.interval(days=1)
    days = {
        "BillingPeriodStart": _day(rows.BillingPeriodStartDate),
        "BillingPeriodEnd": _day(rows.BillingPeriodEndDate) + one_day,
        "ChargePeriodStart": rows.usage_date,
        "ChargePeriodEnd": rows.usage_date + one_day,
    }
    return {name: moment(day.cast("date").cast("string")) for name, day in days.items()}


def _day(text: ir.Value) -> ir.Value:
    """A date in any of the spellings of the column `Date`; null for other texts."""
    iso = text.re_replace(r"^(\d{1,2})/(\d{1,2})/(\d{4}).*$", r"\3-\1-\2")
    return iso.re_replace(r"^(\d{4})(\d{2})(\d{2})$", r"\1-\2-\3").substr(0, len("2026-11-30")).try_cast("date")


def _costs(rows: ir.Table) -> dict[str, ir.Value]:
    """Cost as stated, amortised cost, and cost at pay-as-you-go price in the billing currency."""
    exchange = ibis.ifelse(
        rows.PricingCurrency == rows.BillingCurrency, ibis.null("string"), rows.ExchangeRatePricingToBilling
    )
    at_list = _product(rows.PayGPrice, rows.Quantity)
    return {
        "BilledCost": rows._cost,
        "EffectiveCost": ibis.ifelse(rows.feed == AMORTIZED, rows._cost, ibis.null(DECIMAL)),
        "ListCost": ibis.coalesce(
            decimal(rows.PaygCostInBillingCurrency), ibis.ifelse(exchange.isnull(), at_list, ibis.null(DECIMAL))
        ),
    }


def _product(price: ir.Value, quantity: ir.Value) -> ir.Value:
    """Price x quantity, both rounded to nine decimals: the product then has eighteen, exactly."""
    return (price.try_cast("decimal(18, 9)") * quantity.try_cast("decimal(20, 9)")).cast(DECIMAL)


def _commitments(rows: ir.Table) -> dict[str, ir.Value]:
    unused = {t.name.lower(): t.commitment_status for t in charge_types() if t.commitment_status}
    used = ibis.ifelse(
        rows._charge == "usage",
        chosen(rows._model, focus_values("PricingModel", "CommitmentDiscountStatus")),
        ibis.null("string"),
    )
    return {
        "CommitmentDiscountId": rows._commitment,
        "CommitmentDiscountStatus": ibis.coalesce(chosen(rows._charge, unused), used),
    } | {
        name: chosen(rows._model, focus_values("PricingModel", name))
        for name in ("PricingCategory", "CommitmentDiscountType", "CommitmentDiscountCategory")
    }


def _pricing_model(rows: ir.Table) -> ir.Value:
    """Pricing model, lower case without blanks; where no column states it, a reservation shows by its id."""
    reserved = ibis.ifelse(rows.ReservationId.notnull(), ibis.literal("reservation"), ibis.null("string"))
    return ibis.coalesce(_folded(rows.PricingModel), reserved)


def _marketplace(rows: ir.Table) -> ir.Value:
    """Whether another company than Microsoft sells the service."""
    own = rows.PublisherName.lower().startswith("microsoft").fill_null(False)
    return any_of((rows.PublisherType.lower() == "marketplace") & ~own)


def _reason(rows: ir.Table) -> ir.Value:
    """Why a row has no emission; null for countable rows (billing-feeds.md section 5.4)."""
    types = charge_types()
    countable = chosen(rows._charge, {t.name.lower(): t.disposition == "countable" for t in types}, kind="boolean")
    stated = chosen(rows._charge, {t.name.lower(): t.reason for t in types if t.reason}, otherwise="fee")
    usage = ibis.ifelse(rows._quantity == 0, ibis.literal("zero_quantity"), ibis.null("string"))
    purchase = rows._charge == "purchase"
    return ibis.cases(
        (rows._marketplace & (countable.fill_null(False) | purchase), ibis.literal("marketplace_software")),
        (countable.fill_null(False), usage),
        (purchase & rows._commitment.notnull(), ibis.literal("commitment_fee")),
        else_=stated,
    )


def _service(rows: ir.Table) -> ir.Value:
    """Service as Microsoft's FOCUS exports name it, else the meter's category."""
    return ibis.coalesce(looked_up(rows.ConsumedService.lower() + "|" + rows._type, services()), rows.MeterCategory)


def _size(rows: ir.Table) -> ir.Value:
    """Size of the machine: additional information, else the meter (of two sizes that share it, the first)."""
    meter = rows.MeterName.split("/")[0].re_replace(r" (?:Spot|Low Priority)$", "").nullif("")
    machines = rows.MeterCategory.lower().isin(_MACHINES)
    return ibis.coalesce(machine_size(rows.AdditionalInfo), ibis.ifelse(machines, meter, ibis.null("string")))


def _region(rows: ir.Table) -> ir.Value:
    """Region code of the resource's location, else of the meter's, which uses other names for some."""
    location, meter = region_code(rows.ResourceLocation), region_code(rows.MeterRegion)
    known = azure_regions()
    return ibis.coalesce(looked_up(location, known), location, looked_up(meter, known))


def _one_machine(rows: ir.Table) -> ir.Value:
    """Whether the row is of one virtual machine, which cannot run for more hours than the day has."""
    named = additional(rows.AdditionalInfo, "VMName").notnull()
    return any_of(rows.MeterCategory.lower().isin(_MACHINES) & ((rows._type == _MACHINE) | named))


def _flagged(lines: ir.Table) -> ir.Value:
    """Unit rule with its marks: blocks multiplied, or more hours than a machine's day has.

    The latter points to a quantity that a flexible reservation has normalised (billing-feeds.md section 5.5).
    """
    rule = ibis.ifelse(lines._in_blocks, lines.x_UnitRule + "+blocks", lines.x_UnitRule)
    over = any_of(lines._one_machine & (lines.x_NormUnit == "Hours") & (lines.x_NormQuantity > _DAY_HOURS))
    return ibis.ifelse(over, rule + OVER_A_DAY, rule)


def _folded(text: ir.Value) -> ir.Value:
    return text.lower().replace(" ", "")
