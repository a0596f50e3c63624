"""Brightwater Health, an Azure customer: FOCUS of the group, amortized costs of its clinics, actual of its research.

The group has a FOCUS export, the clinics an enterprise agreement (EA), the research company a customer agreement
(MCA). Of each bill the last month was also delivered half-way.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from offgridflow_pipeline.connectors.feeds import FeedName
from offgridflow_pipeline.demo import fleet
from offgridflow_pipeline.demo.exports import CostExport, write_cost_management_export
from offgridflow_pipeline.demo.microsoft import costs, focus
from offgridflow_pipeline.demo.microsoft.costs import CostAccount, CostDelivery
from offgridflow_pipeline.demo.microsoft.focus import MicrosoftDelivery
from offgridflow_pipeline.demo.tenants import ControlTotal, DemoFeed, DemoTenant, delivered
from offgridflow_pipeline.months import month_days

SLUG = "brightwater-health"
CURRENCY = "EUR"
GROUP = CostExport("brightwater-focus", "FocusCost", "1.2", focus.BILLING_ACCOUNT)
CLINICS = CostAccount("clinics", "70615843", "Brightwater Clinics B.V.", "EA", "AmortizedCost")
RESEARCH = CostAccount(
    "research",
    "3b7e0f52-9d6a-5c1e-8f27-4a90d1b6c3e8:7c21f4de-0b95-4e38-a6d7-58f2c91e0b43_2019-05-31",
    "Brightwater Research B.V.",
    "MCA",
    "ActualCost",
)


def brightwater(out_dir: Path, months: Sequence[str], seed: int) -> DemoTenant:
    """Write all deliveries of the company."""
    root = out_dir / SLUG
    return DemoTenant(
        SLUG,
        "Brightwater Health B.V.",
        "7245BRIGHTWATERH0145",
        CURRENCY,
        (
            _group(root, months, seed),
            _costs(root, CLINICS, "azure_amortized", months, seed),
            _costs(root, RESEARCH, "azure_actual", months, seed),
        ),
    )


def _group(root: Path, months: Sequence[str], seed: int) -> DemoFeed:
    controls, columns = [], focus.columns()
    for number, month in enumerate(months):
        days, special = month_days(month), number == len(months) // 2
        if month == months[-1]:
            half = focus.bill(MicrosoftDelivery(month, days[24]), seed)
            write_cost_management_export(root, GROUP, columns, half, delivered(month, 26))
        rows = focus.bill(MicrosoftDelivery(month, days[-1], special=special), seed)
        write_cost_management_export(root, GROUP, columns, rows, delivered(month, 6, following=True))
        charges = ((row["ChargeCategory"], Decimal(row["BilledCost"])) for row in rows)
        controls.append(ControlTotal.of(month, charges, CURRENCY))
    return DemoFeed(f"{SLUG}-focus", "focus", root / GROUP.name, tuple(controls))


def _costs(root: Path, account: CostAccount, kind: FeedName, months: Sequence[str], seed: int) -> DemoFeed:
    export = CostExport(f"brightwater-{account.bill}", account.dataset, "2021-10-01", account.scope)
    headers = costs.columns(account)
    seed = fleet.own_seed(seed, account.bill)
    cost, charge = costs.header_of(account, "Cost"), costs.header_of(account, "ChargeType")
    controls = []
    for number, month in enumerate(months):
        days, special = month_days(month), number == len(months) // 2
        if month == months[-1]:
            half = costs.bill(CostDelivery(account, month, days[24]), seed)
            write_cost_management_export(root, export, headers, half, delivered(month, 26))
        rows = costs.bill(CostDelivery(account, month, days[-1], special), seed)
        write_cost_management_export(root, export, headers, rows, delivered(month, 6, following=True))
        controls.append(ControlTotal.of(month, ((row[charge], Decimal(row[cost])) for row in rows), CURRENCY))
    return DemoFeed(f"{SLUG}-{account.bill}-{kind.removeprefix('azure_')}", kind, root / export.name, tuple(controls))
