"""The one declaration of every lake table: columns, types, units and meaning.

Used for writing, checking, documentation (data dictionary) and Dagster's column schema. What a column
means is decided here; how it is computed belongs to the package that writes it. FOCUS columns keep the
names of FOCUS 1.4 (FinOps Foundation); ours begin with ``x_`` in `usage_lines`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import pyarrow as pa

from offgridflow_pipeline.lake.source_columns import AZURE_COLUMNS, CUR_COLUMNS, FOCUS_COLUMNS, GCP_COLUMNS

QUANTITY = pa.decimal128(38, 18)
MONEY = pa.decimal128(38, 18)
INTENSITY = pa.decimal128(38, 18)
MASS = pa.decimal128(38, 12)
TEXT = pa.string()
TIME = pa.timestamp("us", tz="UTC")
TEXTS = pa.list_(pa.field("element", pa.string()))  # the name Delta gives list elements


class UnknownTableError(KeyError):
    """No lake table has that name."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: Arrow type, unit (empty for none) and meaning in one sentence."""

    name: str
    type: pa.DataType
    meaning: str
    unit: str = ""
    nullable: bool = True


@dataclass(frozen=True)
class Table:
    """One lake table; `grain` is the partition grain and `partition` the partition column."""

    name: str
    grain: Literal["day", "month"]
    meaning: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def partition(self) -> str:
        """Partition column: ``usage_date`` (DATE) for daily tables, ``month`` (text YYYY-MM) else."""
        return "usage_date" if self.grain == "day" else "month"

    @cached_property
    def arrow_schema(self) -> pa.Schema:
        """Arrow schema in declared order."""
        return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in self.columns])

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """Names in declared order."""
        return tuple(c.name for c in self.columns)

    def no_rows(self) -> pa.Table:
        """A table without rows; unlike `pa.Schema.empty_table`, it does not import pandas."""
        return pa.Table.from_batches([], schema=self.arrow_schema)


def _texts(meanings: dict[str, str]) -> tuple[Column, ...]:
    return tuple(Column(name, TEXT, meaning) for name, meaning in meanings.items())


_DAY = Column("usage_date", pa.date32(), "UTC date of ChargePeriodStart.", nullable=False)
_MONTH = Column("month", TEXT, "Calendar month of the usage date, YYYY-MM.", nullable=False)
_TENANT = Column("tenant_id", TEXT, "Tenant the row belongs to.", nullable=False)

_LINEAGE = (
    Column("connection_id", TEXT, "Connection that delivered the row.", nullable=False),
    Column("feed", TEXT, "Feed the row came from, a name of connectors.feeds.", nullable=False),
    Column("source_object_sha256", TEXT, "SHA-256 of the raw object's bytes.", nullable=False),
    Column("source_object", TEXT, "URI the raw object was read from.", nullable=False),
    Column("source_row", pa.int64(), "Row number in the raw object, first data row = 1.", nullable=False),
    Column("source_version", TEXT, "Version of the delivery (assembly, execution or content hash)."),
    Column("source_row_hash", TEXT, "SHA-256 of the canonical row without volatile columns.", nullable=False),
    Column("extracted_at", TIME, "When the row was read.", nullable=False),
)


def _extract(name: str, source: str, columns: tuple[str, ...]) -> Table:
    return Table(
        name,
        "day",
        f"Rows of {source} as delivered, text as text, one row per source row.",
        ("source_object_sha256", "source_row"),
        (
            _TENANT,
            _DAY,
            *_LINEAGE,
            *(Column(c, TEXT, f"Source column {c}, unchanged text.") for c in columns),
            Column("other_columns", TEXT, "JSON object of the source columns not listed here, non-empty only."),
        ),
    )


AWS_BILLING_EXTRACT = _extract("aws_billing_extract", "AWS cost and usage reports", CUR_COLUMNS)
AZURE_BILLING_EXTRACT = _extract("azure_billing_extract", "Azure cost exports", AZURE_COLUMNS)
GCP_BILLING_EXTRACT = _extract("gcp_billing_extract", "GCP usage cost exports", GCP_COLUMNS)
FOCUS_BILLING_EXTRACT = _extract("focus_billing_extract", "FOCUS cost and usage files", FOCUS_COLUMNS)

#: What providers themselves say a day's bill comes to; held against our extracts, never added to them.
CONTROL_TOTALS = Table(
    "control_totals",
    "day",
    "Billed cost per day, account and currency as the provider's own totals state it.",
    ("connection_id", "source", "BillingAccountId", "SubAccountId", "BillingCurrency"),
    (
        _TENANT,
        _DAY,
        Column("connection_id", TEXT, "Connection whose bill the total is of.", nullable=False),
        Column("source", TEXT, "cost_explorer, cost_management_query, bigquery or manifest.", nullable=False),
        Column("BillingAccountId", TEXT, "Account that is billed, where the source tells it."),
        Column("SubAccountId", TEXT, "Account, subscription or project, where the source tells it."),
        Column("BillingCurrency", TEXT, "ISO 4217 code.", nullable=False),
        Column("BilledCost", MONEY, "Cost the source states.", "BillingCurrency", nullable=False),
        Column("line_count", pa.int64(), "Rows the source states, where it does.", "rows"),
        Column("is_final", pa.bool_(), "Whether the source calls the figure final.", nullable=False),
        Column("watermark", TEXT, "State of the source that the total belongs to."),
        Column("retrieved_at", TIME, "When the source was asked.", nullable=False),
    ),
)

#: Providers' own carbon statements. Versions are kept for ever: a model change restates history beside it.
PROVIDER_STATEMENTS = Table(
    "provider_statements",
    "month",
    "Carbon statements of the providers, one row per account, service, region, scope and basis, all versions.",
    # A figure may change and change back: the same statement is then read twice.
    ("statement_id", "retrieved_at"),
    (
        _TENANT,
        _MONTH,
        Column("statement_id", TEXT, "SHA-256 of the key columns, the figure and its completeness.", nullable=False),
        Column("connection_id", TEXT, "Connection that delivered it.", nullable=False),
        Column("provider", TEXT, "aws, azure or gcp.", nullable=False),
        Column("source", TEXT, "carbon_export, sustainability, carbon_optimization or bigquery.", nullable=False),
        Column("BillingAccountId", TEXT, "Payer or billing account."),
        Column("SubAccountId", TEXT, "Account, subscription or project; null = not attributed."),
        Column("RegionId", TEXT, "Region; null = global or not stated."),
        Column("x_ServiceCode", TEXT, "Service as the statement names it."),
        Column("model_version", TEXT, "Version of the provider's model; empty when it has none.", nullable=False),
        Column("scope", TEXT, "1, 2, 3 or total.", nullable=False),
        Column("basis", TEXT, "location, market, none or provider_unspecified.", nullable=False),
        Column("co2e_kg", MASS, "Emissions as stated.", "kgCO2e", nullable=False),
        Column("is_complete", pa.bool_(), "False when the provider denied part of it.", nullable=False),
        Column("retrieved_at", TIME, "When it was read.", nullable=False),
        Column("run_id", TEXT, "Run that read it.", nullable=False),
    ),
)

#: The columns a usage key consists of: all that classification may read (region and date join later).
USAGE_KEY_COLUMNS = (
    "x_Provider", "x_ServiceCode", "ServiceName", "x_UsageType", "x_Operation", "x_LineItemType",
    "x_InstanceType", "x_VCpus", "x_MemoryGiB", "x_GpuCount", "ResourceType", "x_SkuMeterCategory",
    "x_SkuMeterSubcategory", "SkuMeter", "x_KeyDescription", "CapacityReservationStatus", "x_NormUnit",
    "x_SourceUnit", "x_Disposition", "x_DispositionReason",
)  # fmt: skip

USAGE_LINES = Table(
    "usage_lines",
    "day",
    "One row per billed row of any feed in FOCUS 1.4 names, with canonical quantity and disposition.",
    ("x_LineId",),
    (
        _TENANT,
        _DAY,
        *_texts(
            {
                "BillingAccountId": "Account that is billed.",
                "BillingAccountName": "Its name.",
                "SubAccountId": "Account, subscription or project that used the resource.",
                "SubAccountName": "Its name.",
                "SubAccountType": "Kind of sub account.",
                "ServiceProviderName": "Who sells the service.",
                "HostProviderName": "Whose infrastructure runs it.",
                "InvoiceIssuerName": "Who invoices it.",
                "InvoiceId": "Invoice; null while the period is open.",
            }
        ),
        Column("BillingPeriodStart", TIME, "Start of the billing period."),
        Column("BillingPeriodEnd", TIME, "End of the billing period, exclusive."),
        Column("ChargePeriodStart", TIME, "Start of the charge period.", nullable=False),
        Column("ChargePeriodEnd", TIME, "End of the charge period, exclusive."),
        *_texts(
            {
                "ServiceName": "Service as the provider names it.",
                "ServiceCategory": "FOCUS category; never chooses a formula.",
                "ServiceSubcategory": "FOCUS subcategory.",
                "SkuId": "Provider's SKU.",
                "SkuPriceId": "Provider's price point.",
                "SkuMeter": "What the SKU meters.",
                "SkuPriceDetails": "JSON of the SKU's properties.",
                "PricingCategory": "Standard, Dynamic, Committed or Other.",
                "ChargeCategory": "Usage, Purchase, Tax, Credit or Adjustment.",
                "ChargeClass": "Correction or null.",
                "ChargeFrequency": "One-Time, Recurring or Usage-Based.",
                "ChargeDescription": "Provider's text.",
            }
        ),
        Column("ConsumedQuantity", QUANTITY, "Quantity as billed, in ConsumedUnit."),
        Column("ConsumedUnit", TEXT, "Unit as billed."),
        Column("PricingQuantity", QUANTITY, "Quantity in PricingUnit."),
        Column("PricingUnit", TEXT, "Unit of the price."),
        Column(
            "BilledCost",
            MONEY,
            "Cost the bill states: before amortisation, but the amortised one of an azure_amortized export.",
            "BillingCurrency",
            nullable=False,
        ),
        Column("EffectiveCost", MONEY, "Amortised cost.", "BillingCurrency"),
        Column("ListCost", MONEY, "Cost at list price.", "BillingCurrency"),
        Column("ContractedCost", MONEY, "Cost at contracted price.", "BillingCurrency"),
        *_texts(
            {
                "BillingCurrency": "ISO 4217 code of the cost columns.",
                "RegionId": "Provider's region code, lower case; null when unknown or global.",
                "RegionName": "Region as displayed.",
                "AvailabilityZone": "Zone.",
                "ResourceId": "Provider's resource id.",
                "ResourceName": "Display name of the resource.",
                "ResourceType": "Kind of resource.",
                "Tags": "JSON map of tags.",
                "CommitmentDiscountId": "Reservation or savings plan applied.",
                "CommitmentDiscountCategory": "Spend or Usage.",
                "CommitmentDiscountType": "Provider's name of the commitment.",
                "CommitmentDiscountStatus": "Used or Unused.",
                "CapacityReservationId": "Capacity reservation.",
                "CapacityReservationStatus": "Used or Unused; Unused is hardware held idle and counts.",
                "x_Provider": "aws, azure, gcp, oci or other.",
                "x_Feed": "Feed the row came from, a name of connectors.feeds.",
                "x_ServiceCode": "Provider's code of the service.",
                "x_UsageType": "AWS usage type.",
                "x_Operation": "AWS operation.",
                "x_LineItemType": "AWS line item type, Azure charge type or GCP cost type.",
                "x_BillingEntity": "AWS or AWS Marketplace.",
                "x_InstanceType": "Instance type, machine type or VM size.",
            }
        ),
        Column("x_VCpus", QUANTITY, "vCPUs of the instance when billed.", "vCPU"),
        Column("x_MemoryGiB", QUANTITY, "Memory of the instance when billed.", "GiB"),
        Column("x_GpuCount", QUANTITY, "GPUs of the instance when billed.", "GPU"),
        *_texts(
            {
                "x_SkuMeterId": "Azure meter id.",
                "x_SkuMeterCategory": "Azure meter category.",
                "x_SkuMeterSubcategory": "Azure meter subcategory.",
                "x_SourceRegion": "Region text as delivered.",
                "x_SourceUnit": "Unit text as delivered.",
                "x_KeyDescription": "Description text when classification needs it (not for AWS CUR).",
            }
        ),
        Column("x_PricingBlockSize", QUANTITY, "Units per price block."),
        Column("x_NormQuantity", QUANTITY, "Quantity in x_NormUnit.", "x_NormUnit"),
        *_texts(
            {
                "x_NormUnit": "Hours, vCPU-Hours, GiB-Hours, GiB, Requests or Count; null = no rule fits.",
                "x_UnitRule": "Rule that turned the billed into the canonical quantity.",
                "x_Disposition": "countable or no_emission.",
                "x_DispositionReason": "Why a row has no emission.",
                "x_UsageKey": "MD5 over USAGE_KEY_COLUMNS: the only thing that is classified.",
            }
        ),
        Column("x_LineId", TEXT, "Identity that survives re-delivery and re-chunking.", nullable=False),
        Column("x_SourceRowHash", TEXT, "SHA-256 of the canonical row.", nullable=False),
        Column("x_SourceObjectSha256", TEXT, "SHA-256 of the raw object.", nullable=False),
        Column("x_SourceObject", TEXT, "URI of the raw object.", nullable=False),
        Column("x_SourceRow", pa.int64(), "Row in the raw object.", nullable=False),
        Column("x_SourceVersion", TEXT, "Version of the delivery."),
        Column("x_ExtractedAt", TIME, "When the row was read.", nullable=False),
        Column("x_ConnectionId", TEXT, "Connection that delivered the row.", nullable=False),
    ),
)

#: Measures of a ledger line: name -> (unit, meaning). All are sums of quantity x intensity, exact.
MEASURES = {
    "it_kwh_compute": ("kWh", "IT energy of processors."),
    "it_kwh_memory": ("kWh", "IT energy of memory."),
    "it_kwh_accelerator": ("kWh", "IT energy of accelerators."),
    "it_kwh_storage": ("kWh", "IT energy of storage."),
    "it_kwh_network": ("kWh", "IT energy of network."),
    "it_kwh": ("kWh", "Sum of the five components."),
    "kwh": ("kWh", "Electricity at the site: IT energy x PUE."),
    "co2e_lbm_kg": ("kgCO2e", "Use-phase electricity, location-based."),
    "co2e_mbm_kg": ("kgCO2e", "Use-phase electricity, market-based."),
    "embodied_kg": ("kgCO2e", "Manufacture of the hardware, this use's share."),
    "upstream_energy_kg": ("kgCO2e", "Fuel supply and grid losses of the electricity."),
}
#: Measures that have an intensity of their own (it_kwh is the sum of its parts).
INTENSITY_MEASURES = tuple(name for name in MEASURES if name != "it_kwh")


def _measures(meaning_suffix: str = "") -> tuple[Column, ...]:
    return tuple(
        Column(name, MASS, meaning.removesuffix(".") + meaning_suffix + ".", unit)
        for name, (unit, meaning) in MEASURES.items()
    )


#: Verdict of the classifier and of factor selection; constant per (usage key, region, factor epoch).
VERDICT_COLUMNS = (
    Column("disposition", TEXT, "mapped, proxied, no_emission or unmapped.", nullable=False),
    Column("reason", TEXT, "Why, for no_emission and unmapped."),
    Column("rule_id", TEXT, "Classification rule that matched.", nullable=False),
    Column("proxy_rule", TEXT, "Stand-in used, for proxied."),
    Column("component", TEXT, "compute, memory, accelerator, storage, network or mixed; null without energy."),
    Column("pue", pa.decimal128(9, 4), "Power usage effectiveness applied.", "ratio"),
    Column("mbm_method", TEXT, "instrument, supplier, provider_claim, residual_mix or lbm_fallback."),
    Column("upstream_status", TEXT, "computed, td_only, td_included, included_in_lifecycle or missing."),
    Column("embodied_status", TEXT, "computed, embodied_on_vcpu_row, embodied_missing or null."),
    Column("scope", TEXT, "GHG Protocol scope; cloud use is 3."),
    Column("s3_category", pa.int16(), "Scope 3 category; cloud use is 1."),
    Column("ghg_source", TEXT, "Kind of source, for example cloud_service."),
    Column("lbm_boundary", TEXT, "direct, consumption or lifecycle."),
    Column("gwp_basis", TEXT, "GWP set of the grid factor."),
    Column("grid_level", TEXT, "Level of the factor chain that served."),
    Column("vintage_lag_years", pa.int16(), "Usage year minus factor year, at least 0.", "years"),
    Column("flags", TEXTS, "Sorted flags, for example carried_forward, lifecycle, region_unknown."),
    Column("dq_score", pa.int16(), "Data quality 1 (best) to 5; null without energy."),
    Column("uncertainty_groups", TEXTS, "Correlation groups (factor keys) with a spread."),
    Column("factor_ids", TEXTS, "factor_uid of every emission factor used."),
    Column("coefficient_ids", TEXTS, "factor_uid of every technical coefficient used."),
)

EMISSION_LINES = Table(
    "emission_lines",
    "day",
    "The ledger: one row per usage line, with verdict, energy, emissions and what they were made from.",
    ("line_id",),
    (
        _TENANT,
        _DAY,
        Column("line_id", TEXT, "x_LineId of the usage line.", nullable=False),
        Column("source_object_sha256", TEXT, "SHA-256 of the raw object.", nullable=False),
        Column("row_no", pa.int64(), "Row in the raw object.", nullable=False),
        *_texts(
            {
                "BillingAccountId": "Billing account.",
                "SubAccountId": "Sub account.",
                "x_Provider": "Provider.",
                "x_ServiceCode": "Service code.",
                "ServiceName": "Service.",
                "RegionId": "Region.",
                "ResourceId": "Resource.",
                "ChargeCategory": "FOCUS charge category.",
                "BillingCurrency": "Currency of billed_cost.",
            }
        ),
        Column(
            "billed_cost", MONEY, "Billed cost of the row; never drives emissions.", "BillingCurrency", nullable=False
        ),
        Column("x_UsageKey", TEXT, "Usage key that was classified."),
        Column("norm_quantity", QUANTITY, "Quantity the intensities apply to.", "norm_unit"),
        Column("norm_unit", TEXT, "Canonical unit."),
        *VERDICT_COLUMNS,
        *(
            Column(f"intensity_{name}", INTENSITY, f"{name} per norm_unit.", f"{MEASURES[name][0]} per norm_unit")
            for name in INTENSITY_MEASURES
        ),
        *_measures(),
        Column("factor_set_sha", TEXT, "Hash of the pinned factor set.", nullable=False),
        Column("method_id", TEXT, "Method, for example ofg-1.", nullable=False),
        Column("as_of", pa.date32(), "Knowledge date of factor selection.", nullable=False),
        Column("code_version", TEXT, "Version of the code.", nullable=False),
        Column("run_id", TEXT, "Dagster run that wrote the row.", nullable=False),
    ),
)

SCOPE_TOTALS = Table(
    "scope_totals",
    "day",
    "Exact sums of ledger lines per account, service, region, disposition and basis.",
    (
        "usage_date", "x_Provider", "BillingAccountId", "SubAccountId", "x_ServiceCode", "ServiceName",
        "RegionId", "ChargeCategory", "BillingCurrency", "scope", "s3_category", "disposition", "reason",
        "mbm_method", "lbm_boundary", "upstream_status", "embodied_status", "dq_score",
    ),
    (
        _TENANT,
        _DAY,
        *_texts(
            {
                "x_Provider": "Provider.",
                "BillingAccountId": "Billing account.",
                "SubAccountId": "Sub account.",
                "x_ServiceCode": "Service code.",
                "ServiceName": "Service.",
                "RegionId": "Region.",
                "ChargeCategory": "FOCUS charge category.",
                "BillingCurrency": "Currency of billed_cost.",
                "scope": "GHG Protocol scope.",
            }
        ),
        Column("s3_category", pa.int16(), "Scope 3 category."),
        *_texts(
            {
                "disposition": "mapped, proxied, no_emission or unmapped.",
                "reason": "Reason of no_emission and unmapped.",
                "mbm_method": "Method of the market-based figure.",
                "lbm_boundary": "Boundary of the location-based factor.",
                "upstream_status": "Status of the upstream figure.",
                "embodied_status": "Status of the embodied figure.",
            }
        ),
        Column("dq_score", pa.int16(), "Data quality score."),
        Column("line_count", pa.int64(), "Ledger lines.", "lines", nullable=False),
        Column("billed_cost", MONEY, "Sum of billed cost.", "BillingCurrency", nullable=False),
        *_measures(", summed"),
        Column("factor_set_sha", TEXT, "Hash of the pinned factor set.", nullable=False),
        Column("method_id", TEXT, "Method.", nullable=False),
    ),
)  # fmt: skip

GHG_INVENTORY = Table(
    "ghg_inventory",
    "month",
    "The month's inventory: totals and breakdowns, each an exact sum of daily scope totals or ledger lines.",
    ("month", "breakdown", "member", "submember"),
    (
        _TENANT,
        _MONTH,
        Column(
            "breakdown",
            TEXT,
            "total, provider, service, account, region, day, disposition, reason, mbm_method, lbm_boundary, "
            "upstream_status, dq_score, cost, factor or control.",
            nullable=False,
        ),
        Column("member", TEXT, "Member of the breakdown, empty for total.", nullable=False),
        Column(
            "submember", TEXT, "Second key where one is needed (currency, disposition), else empty.", nullable=False
        ),
        Column("scope", TEXT, "GHG Protocol scope of the measures."),
        Column("s3_category", pa.int16(), "Scope 3 category."),
        Column("line_count", pa.int64(), "Ledger lines.", "lines", nullable=False),
        Column("billed_cost", MONEY, "Billed cost.", "submember where breakdown = cost, disposition or control"),
        *_measures(", summed"),
        Column("detail", TEXT, "JSON of attributes that explain the row (factor citation, control totals)."),
        Column("factor_set_sha", TEXT, "Hash of the pinned factor set.", nullable=False),
        Column("method_id", TEXT, "Method.", nullable=False),
        Column("book_of_record", TEXT, "estimate or provider.", nullable=False),
        Column("status", TEXT, "provisional or final.", nullable=False),
    ),
)

REPORT_FACTS = Table(
    "report_facts",
    "month",
    "Every printed figure: one row per fact, rounded once, with the same id in every artefact.",
    ("fact_id",),
    (
        _TENANT,
        _MONTH,
        Column("fact_id", TEXT, "Stable hash of metric, period and dimensions; the XML id.", nullable=False),
        Column("sort_order", pa.int32(), "Order of presentation.", nullable=False),
        Column("metric", TEXT, "Neutral metric name, for example scope3_location.", nullable=False),
        Column("period_start", pa.date32(), "First day.", nullable=False),
        Column("period_end", pa.date32(), "Last day, inclusive.", nullable=False),
        Column("dims", TEXT, "JSON object: neutral axis -> neutral member, keys sorted.", nullable=False),
        Column("value_type", TEXT, "number, text, date or boolean.", nullable=False),
        Column("value", TEXT, "Rounded value as canonical text; null with a reason when not available."),
        Column(
            "exact_value", TEXT, "The unrounded sum as text; totals add rounded parts and can differ from it, rounded."
        ),
        Column("unit", TEXT, "tCO2e, MWh, pure, a currency code, or empty."),
        Column("decimals", pa.int16(), "Decimal places that value, or the parts it adds up, were rounded to."),
        Column("not_available_reason", TEXT, "Why value is null."),
        Column("is_text_block", pa.bool_(), "Value is a paragraph text.", nullable=False),
        Column("basis_fact_ids", TEXTS, "Facts this one is computed from."),
    ),
)

TABLES: dict[str, Table] = {
    t.name: t
    for t in (
        AWS_BILLING_EXTRACT,
        AZURE_BILLING_EXTRACT,
        GCP_BILLING_EXTRACT,
        FOCUS_BILLING_EXTRACT,
        CONTROL_TOTALS,
        PROVIDER_STATEMENTS,
        USAGE_LINES,
        EMISSION_LINES,
        SCOPE_TOTALS,
        GHG_INVENTORY,
        REPORT_FACTS,
    )
}


def table(name: str) -> Table:
    """The declared table of that name.

    Raises:
        UnknownTableError: no such table; the message lists the declared ones.
    """
    try:
        return TABLES[name]
    except KeyError:
        raise UnknownTableError(f"No lake table {name!r}; declared: {', '.join(sorted(TABLES))}") from None
