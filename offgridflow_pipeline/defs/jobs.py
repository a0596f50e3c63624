"""Jobs: the daily chain from bills to totals, and the monthly chain from inventory to reports."""

from __future__ import annotations

import dagster as dg

DAILY_ASSETS = (
    "aws_billing_extract",
    "azure_billing_extract",
    "gcp_billing_extract",
    "focus_billing_extract",
    "control_totals",
    "usage_lines",
    "emission_lines",
    "scope_totals",
    "daily_scope_totals",
)
#: The daily chain without its extracts: bills that were read already, computed again.
CALCULATED_ASSETS = ("usage_lines", "emission_lines", "scope_totals", "daily_scope_totals")
MONTHLY_ASSETS = (
    "ghg_inventory",
    "report_facts",
    "report_ixbrl",
    "report_xbrl",
    "report_pdf",
    "report_workbook",
    "report_datapack",
    "report_publication",
)

daily_emissions = dg.define_asset_job(
    "daily_emissions",
    selection=dg.AssetSelection.assets(*DAILY_ASSETS),
    description="Bills of the chosen days into usage lines, ledger, totals and the serving table.",
)
daily_calculation = dg.define_asset_job(
    "daily_calculation",
    selection=dg.AssetSelection.assets(*CALCULATED_ASSETS),
    description="Usage lines, ledger, totals and the serving table of the chosen days, from bills read already.",
)
monthly_statements = dg.define_asset_job(
    "monthly_statements",
    selection=dg.AssetSelection.assets("provider_statements"),
    description="The providers' own carbon statements of the month, beside those of earlier model versions.",
)
monthly_report = dg.define_asset_job(
    "monthly_report",
    selection=dg.AssetSelection.assets(*MONTHLY_ASSETS),
    description="The month's inventory, facts, validated reports and their publication.",
)
