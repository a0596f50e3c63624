"""Metered rows of a Google Cloud bill, as records of the detailed usage cost export.

A machine is billed as rows of cores, memory and GPUs that measure the same hours; commitment fees repeat the
committed cores, and a flexible commitment splits usage by consumption model (billing-feeds.md 6.3 and 6.4).
Names of services, SKUs and units are Google's; ids of SKUs and consumption models, prices and quantities are made up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache
from uuid import NAMESPACE_URL, uuid5

from offgridflow_pipeline.demo import fleet
from offgridflow_pipeline.demo.fleet import Consumption, FleetItem
from offgridflow_pipeline.demo.google.metering import (
    Window,
    hours_of,
    invoice_month,
    measured,
    month_after,
    pacific_day,
)

Row = dict[str, object]

CURRENCY = "GBP"
GBP_PER_USD = Decimal("0.79")
FLEX_SHARE = Decimal("0.60")
FLEX_PRICE = Decimal("0.72")
ON_TIME = timedelta(hours=5, minutes=12)
LATE = timedelta(hours=43)
#: Credit of a purchase: type, name, and share of the cost that it gives back.
CREDITS = {
    "sud": ("SUSTAINED_USAGE_DISCOUNT", "Sustained Usage Discount", Decimal("0.20")),
    "cud": ("COMMITTED_USAGE_DISCOUNT", "Committed Usage Discount", Decimal(1)),
    "free": ("FREE_TIER", "Free Tier", Decimal("0.60")),
    "promo": ("PROMOTION", "Startup programme", Decimal("0.50")),
    "flexfee": ("FEE_UTILIZATION_OFFSET", "Fee utilization offset", Decimal("0.93")),
}
_ZONAL = ("instances", "disks")
_DEFAULT_MODEL = ("7A11-0C3E-58D2", "Default")
_FLEX_MODEL = ("D40F-92B6-1E77", "Compute Flexible CUDs 1 Year")
_MICRO = Decimal("0.000001")
_NANO = Decimal("0.000000001")


@dataclass(frozen=True, slots=True)
class GoogleAccount:
    """A billing account; `bill` selects its rows of ``gcp_projects.csv``."""

    bill: str
    id: str
    fleet_file: str

    @property
    def items(self) -> tuple[FleetItem, ...]:
        """What its projects run."""
        return fleet.fleet(self.fleet_file)

    @property
    def table_suffix(self) -> str:
        """The account as BigQuery tables name it."""
        return self.id.replace("-", "_")


@dataclass(frozen=True, slots=True)
class Sku:
    """One SKU of a kind of resource; `per` names what of the resource its quantity is multiplied by."""

    service_id: str
    service: str
    text: str
    unit: str
    pricing_unit: str
    per: str
    rate: Decimal


def usage(account: GoogleAccount, days: Sequence[date], seed: int) -> Iterator[Row]:
    """Rows of everything that ran on some UTC days."""
    for used in fleet.consumption(account.items, "unit", list(days), seed):
        for window, quantity in _windows(used):
            for sku in skus_of(used.item["kind"]):
                if used.item["purchase"] == "flex":
                    covered = quantity * FLEX_SHARE
                    yield usage_row(account, used, sku, window, quantity - covered, seed)
                    yield usage_row(account, used, sku, window, covered, seed, covered=True)
                else:
                    yield usage_row(account, used, sku, window, quantity, seed)


def usage_row(
    account: GoogleAccount,
    used: Consumption,
    sku: Sku,
    window: Window,
    quantity: Decimal,
    seed: int,
    *,
    covered: bool = False,
) -> Row:
    """The row of one SKU of a resource in a window."""
    item = used.item
    amount, priced = measured(quantity * _multiple(item, sku.per), sku.pricing_unit, window)
    rate = (sku.rate * GBP_PER_USD).quantize(_NANO)
    price = (rate * FLEX_PRICE).quantize(_NANO) if covered else rate
    cost, listed = (priced * price).quantize(_MICRO), (priced * rate).quantize(_MICRO)
    model = _FLEX_MODEL if covered else _DEFAULT_MODEL
    late = item["purchase"] == "late" and _is_last_day(window)
    third_party = item["purchase"] == "thirdparty"
    return {
        **common(account, window.start, window.end, late=late),
        **_standing(account.bill, item, used.copy, sku, seed),
        "cost": float(cost),
        "usage": {
            "amount": float(amount.quantize(Decimal(1) if sku.unit.startswith("byte") else _MICRO)),
            "unit": sku.unit,
            "amount_in_pricing_units": float(priced),
            "pricing_unit": sku.pricing_unit,
        },
        "credits": _credits(item["purchase"], sku, cost),
        "cost_at_list": float(listed),
        "cost_at_list_consumption_model": cost,
        "price": {
            "list_price": rate,
            "effective_price": price,
            "list_price_consumption_model": price,
            "tier_start_amount": Decimal(0),
            "unit": sku.pricing_unit,
            "pricing_unit_quantity": Decimal(1),
        },
        "consumption_model": {"id": model[0], "description": model[1]},
        "transaction_type": "THIRD_PARTY_RESELLER" if third_party else "GOOGLE",
        "seller_name": "Harbour Security Ltd" if third_party else None,
    }


def common(account: GoogleAccount, start: datetime, end: datetime, *, late: bool = False) -> Row:
    """What every row says, whatever it charges for; a late row goes to the invoice of the next month."""
    month = invoice_month(start)
    return {
        "billing_account_id": account.id,
        "usage_start_time": start,
        "usage_end_time": end,
        "export_time": end + (LATE if late else ON_TIME),
        "currency": CURRENCY,
        "currency_conversion_rate": float(GBP_PER_USD),
        "invoice": {"month": month_after(month) if late else month, "publisher_type": "GOOGLE"},
        "cost_type": "regular",
        "credits": [],
        "labels": [],
        "system_labels": [],
        "tags": [],
    }


def skus_of(kind: str) -> tuple[Sku, ...]:
    """The SKUs of a kind of resource, cores first."""
    return _skus()[kind]


def _windows(used: Consumption) -> Iterator[tuple[Window, Decimal]]:
    """Spot machines come by the hour, everything else by the Pacific day."""
    if used.item["purchase"] == "spot":
        whole = int(used.quantity)
        yield from ((window, Decimal(1)) for window in hours_of(used.day, whole))
    else:
        yield pacific_day(used.day), used.quantity


def _multiple(item: FleetItem, per: str) -> Decimal:
    if per == "one":
        return Decimal(1)
    if per == "millicores":
        return Decimal(item["cores"]) * 1000
    return Decimal(item[per])


def _credits(purchase: str, sku: Sku, cost: Decimal) -> list[Row]:
    if purchase not in CREDITS or not cost:
        return []
    kind, name, share = CREDITS[purchase]
    name = f"{name}: {'RAM' if 'Ram' in sku.text else 'CPU'}" if purchase == "cud" else name
    amount = float(-(cost * share).quantize(_MICRO))
    return [{"name": name, "amount": amount, "full_name": None, "id": name, "type": kind}]


@cache
def _standing(bill: str, item: FleetItem, copy: int, sku: Sku, seed: int) -> Row:
    """What the rows of one SKU of a resource share on all days."""
    place = _places()[item["place"]]
    text = sku.text.format(place=place["sku_place"], location=place["location"])
    found: Row = {
        "service": {"id": sku.service_id, "description": sku.service},
        "sku": {"id": _sku_id(text), "description": text},
        "location": place_of(item["place"], zonal=item["resource_type"] in _ZONAL),
    }
    if item["purchase"] in ("fee", "flexfee"):
        found["subscription"] = {"instance_id": str(uuid5(NAMESPACE_URL, f"{bill}/{item['kind']}"))}
    if item["purchase"] == "flexfee":
        return found  # bought by the billing account, not by a project
    project = projects(bill)[item["project"]]
    found |= {
        "project": project,
        "labels": [{"key": "team", "value": item["team"]}] if item["team"] and copy % 3 < 2 else [],
        "tags": [
            {"key": "environment", "value": "production", "inherited": True, "namespace": "301475992866"},
        ],
    }
    if item["resource_type"]:
        found["resource"] = _resource(item, copy, seed, str(project["id"]))
    if item["resource_type"] == "instances" and sku.service == "Compute Engine":
        found["system_labels"] = [
            {"key": "compute.googleapis.com/cores", "value": item["cores"]},
            {"key": "compute.googleapis.com/machine_spec", "value": item["instance_type"]},
            {"key": "compute.googleapis.com/memory", "value": str(int(Decimal(item["memory_gib"]) * 1024))},
        ]
    return found


def place_of(place: str, *, zonal: bool = False) -> Row:
    """The location record of a place; multi-regions have no region, and most resources no zone."""
    found = {name: _places()[place][name] or None for name in ("location", "country", "region", "zone")}
    return {**found, "zone": found["zone"] if zonal else None}


@cache
def projects(bill: str) -> dict[str, Row]:
    """The project record of each role of a bill."""
    return {
        row["role"]: {
            "id": row["project_id"],
            "number": row["project_number"],
            "name": row["name"],
            "labels": [{"key": "owner", "value": row["role"]}],
            "ancestry_numbers": "/773051942216/",
            "ancestors": [{"resource_name": f"projects/{row['project_number']}", "display_name": row["name"]}],
        }
        for row in fleet.rows("gcp_projects.csv")
        if row["bill"] == bill
    }


@cache
def _skus() -> dict[str, tuple[Sku, ...]]:
    found: dict[str, tuple[Sku, ...]] = {}
    for row in fleet.rows("gcp_skus.csv"):
        sku = Sku(
            row["service_id"], row["service"], row["sku"], row["unit"], row["pricing_unit"], row["per"],
            Decimal(row["rate"]),
        )  # fmt: skip
        found[row["kind"]] = (*found.get(row["kind"], ()), sku)
    return found


@cache
def _places() -> dict[str, dict[str, str]]:
    return {row["place"]: row for row in fleet.rows("gcp_regions.csv")}


def _resource(item: FleetItem, copy: int, seed: int, project: str) -> Row:
    digest = hashlib.sha256(f"{seed}/gcp/{item.number}/{copy}".encode()).hexdigest()
    name, number = f"{item['team'] or item['kind']}-{digest[:5]}", int(digest[5:17], 16)
    service = _skus()[item["kind"]][0].service.lower().replace(" engine", "").replace("cloud ", "").replace(" ", "")
    zone = _places()[item["place"]]["zone"] or _places()[item["place"]]["location"]
    scope = f"zones/{zone}" if item["resource_type"] in _ZONAL else f"locations/{zone}"
    path = f"//{service}.googleapis.com/projects/{project}/{scope}/{item['resource_type']}/{number}"
    return {"name": name, "global_name": path}


def _sku_id(text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest().upper()
    return f"{digest[:4]}-{digest[4:8]}-{digest[8:12]}"


def _is_last_day(window: Window) -> bool:
    return invoice_month(window.start) != invoice_month(window.end)
