"""Source columns that the extract tables keep by name, per header dialect; all others go to ``other_columns``.

Only names. How headers of the providers' files are bound to them is `connectors.reading.header`, what they mean is
`usage`.
"""

from __future__ import annotations

#: Canonical (snake case) CUR columns the method or the reports read; everything else is in other_columns.
CUR_COLUMNS = (
    "identity_line_item_id", "identity_time_interval", "bill_invoice_id", "bill_invoicing_entity",
    "bill_billing_entity", "bill_bill_type", "bill_payer_account_id", "bill_payer_account_name",
    "bill_billing_period_start_date", "bill_billing_period_end_date", "line_item_usage_account_id",
    "line_item_usage_account_name", "line_item_line_item_type", "line_item_usage_start_date",
    "line_item_usage_end_date", "line_item_product_code", "line_item_usage_type", "line_item_operation",
    "line_item_availability_zone", "line_item_resource_id", "line_item_usage_amount",
    "line_item_currency_code", "line_item_unblended_cost", "line_item_net_unblended_cost",
    "line_item_line_item_description", "line_item_legal_entity", "product", "product_product_name",
    "product_product_family", "product_instance_type", "product_vcpu", "product_memory", "product_gpu",
    "product_region", "product_region_code", "product_sku", "pricing_rate_code", "pricing_rate_id",
    "pricing_unit", "pricing_term", "pricing_public_on_demand_cost", "reservation_reservation_a_r_n",
    "reservation_effective_cost", "reservation_unused_amortized_upfront_fee_for_billing_period",
    "reservation_unused_recurring_fee", "savings_plan_savings_plan_a_r_n",
    "savings_plan_savings_plan_effective_cost", "savings_plan_total_commitment_to_date",
    "savings_plan_used_commitment", "split_line_item_parent_resource_id", "resource_tags",
)  # fmt: skip

#: FOCUS 1.0 to 1.4 columns (renames already applied) and provider x_ columns that the mapping reads.
FOCUS_COLUMNS = (
    "BillingAccountId", "BillingAccountName", "SubAccountId", "SubAccountName", "SubAccountType",
    "ServiceProviderName", "HostProviderName", "PublisherName", "InvoiceIssuerName", "InvoiceId",
    "BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd", "ServiceName",
    "ServiceCategory", "ServiceSubcategory", "SkuId", "SkuPriceId", "SkuMeter", "SkuPriceDetails",
    "PricingCategory", "ChargeCategory", "ChargeSubcategory", "ChargeClass", "ChargeFrequency", "ChargeDescription",
    "ConsumedQuantity", "ConsumedUnit", "PricingQuantity", "PricingUnit", "BilledCost", "EffectiveCost",
    "ListCost", "ListUnitPrice", "ContractedCost", "BillingCurrency", "RegionId", "RegionName",
    "AvailabilityZone", "ResourceId", "ResourceName", "ResourceType", "Tags", "CommitmentDiscountId",
    "CommitmentDiscountCategory", "CommitmentDiscountType", "CommitmentDiscountStatus",
    "CapacityReservationId", "CapacityReservationStatus", "x_ServiceCode", "x_UsageType", "x_Operation",
    "x_SkuMeterId", "x_SkuMeterCategory", "x_SkuMeterSubcategory", "x_SkuMeterName", "x_SkuDetails",
    "x_PricingBlockSize", "x_PricingUnitDescription", "x_SkuServiceFamily", "x_ResourceType", "x_CostType",
    "x_ExportTime", "x_Location", "x_ServiceId", "x_SystemLabels", "x_Labels", "x_ProjectLabels", "x_Tags",
    "x_Credits", "x_SubscriptionInstanceId", "x_ConsumptionModelDescription",
)  # fmt: skip

#: Columns of Azure cost exports (actual, amortized; EA, MCA, c360, pay-as-you-go) under their EA names.
AZURE_COLUMNS = (
    "BillingAccountId", "BillingAccountName", "BillingProfileId", "BillingProfileName", "InvoiceId",
    "PreviousInvoiceId", "InvoiceSectionId", "BillingPeriodStartDate", "BillingPeriodEndDate",
    "SubscriptionId", "SubscriptionName", "Date", "Product", "ProductId", "PartNumber", "MeterId",
    "ServiceFamily", "MeterCategory", "MeterSubCategory", "MeterRegion", "MeterName", "Quantity",
    "UnitOfMeasure", "EffectivePrice", "UnitPrice", "PayGPrice", "Cost", "PaygCostInBillingCurrency",
    "BillingCurrency", "PricingCurrency", "ExchangeRatePricingToBilling", "ResourceLocation",
    "AvailabilityZone", "ConsumedService", "ResourceGroup", "ResourceId", "ResourceName", "ResourceType",
    "AdditionalInfo", "Tags", "ReservationId", "ReservationName", "BenefitId", "BenefitName", "Term",
    "PricingModel", "ChargeType", "Frequency", "PublisherType", "PublisherName", "PlanName",
)  # fmt: skip

#: Columns of the GCP billing export, nested names joined by an underscore; lists and structs as JSON text.
GCP_COLUMNS = (
    "billing_account_id", "service_id", "service_description", "sku_id", "sku_description", "usage_start_time",
    "usage_end_time", "project_id", "project_number", "project_name", "project_labels", "labels",
    "system_labels", "location_location", "location_country", "location_region", "location_zone",
    "resource_name", "resource_global_name", "export_time", "cost", "currency", "usage_amount", "usage_unit",
    "usage_amount_in_pricing_units", "usage_pricing_unit", "credits", "invoice_month", "cost_type",
    "adjustment_info_id", "adjustment_info_type", "adjustment_info_mode", "adjustment_info_description", "tags",
    "cost_at_list", "cost_at_list_consumption_model", "consumption_model_id", "consumption_model_description",
    "transaction_type", "seller_name", "price_tier_start_amount", "price_effective_price",
    "subscription_instance_id",
)  # fmt: skip
