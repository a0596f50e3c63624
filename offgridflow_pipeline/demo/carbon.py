"""Carbon statements of the providers: AWS's carbon export and Google's carbon footprint table.

Shapes follow billing-feeds.md 4.8 and 6.5; figures are made up in proportion to the bill, with one month restated
by a newer model version. AWS states tonnes, Google kilograms; Google's unattributed row has no project.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal

import pyarrow as pa

from offgridflow_pipeline.months import first_day, next_month

AMAZON_MODELS = ("v3.0.0", "v3.1.0")
GOOGLE_MODELS = (13, 14)
_TONNES_PER_USD = Decimal("0.00018")
_KG_PER_POUND = Decimal("0.21")
_RESTATED = Decimal("0.96")
_UNATTRIBUTED_KG = Decimal("1.4")
#: Share of the location-based total: (AWS's column stem, share).
_AMAZON_FIGURES = (
    ("total_lbm", Decimal(1)), ("total_mbm", Decimal("0.42")), ("total_scope_1", Decimal("0.01")),
    ("total_scope_2_lbm", Decimal("0.62")), ("total_scope_2_mbm", Decimal("0.04")),
    ("total_scope_3_lbm", Decimal("0.37")), ("total_scope_3_mbm", Decimal("0.37")),
)  # fmt: skip
_METERED = ("Usage", "DiscountedUsage", "SavingsPlanCoveredUsage")
_SIX = Decimal("0.000001")
_TEXT = pa.string()
_AMAZON = pa.schema(
    {
        "last_refresh_timestamp": pa.timestamp("ms"), "location": _TEXT, "model_version": _TEXT,
        "payer_account_id": _TEXT, "product_code": _TEXT, "region_code": _TEXT,
    }
    | {
        f"{stem}_emissions_{part}": kind
        for stem, _ in _AMAZON_FIGURES
        for part, kind in (("unit", _TEXT), ("value", pa.float64()))
    }
    | {"usage_account_id": _TEXT, "usage_period_end": pa.timestamp("ms"), "usage_period_start": pa.timestamp("ms")}
)  # fmt: skip
_BOTH = pa.struct({"location_based": pa.float64(), "market_based": pa.float64()})
_GOOGLE = pa.schema(
    {
        "usage_month": pa.date32(),
        "billing_account_id": _TEXT,
        "project": pa.struct({"number": _TEXT, "id": _TEXT}),
        "service": pa.struct({"id": _TEXT, "description": _TEXT}),
        "location": pa.struct({"location": _TEXT, "region": _TEXT}),
        "carbon_model_version": pa.int64(),
        "carbon_footprint_kgCO2e": pa.struct({"scope1": pa.float64(), "scope2": _BOTH, "scope3": pa.float64()}),
        "carbon_footprint_total_kgCO2e": pa.struct(
            {"after_offsets": pa.float64(), "location_based": pa.float64(), "market_based": pa.float64()}
        ),
        "carbon_offsets_kgCO2e": pa.float64(),
    }
)


def amazon_statement(rows: Sequence[Mapping[str, object]], month: str, model: str) -> pa.Table:
    """What AWS states about a bill's month (rows of CUR 2.0): tonnes by account, product and region."""
    spent: dict[tuple[str, str, str, str, str | None], Decimal] = defaultdict(Decimal)
    for row in rows:
        if row["line_item_line_item_type"] not in _METERED or row["bill_billing_entity"] != "AWS":
            continue
        region = row["product_region_code"]
        key = (
            str(row["bill_payer_account_id"]), str(row["line_item_usage_account_id"]),
            str(row["line_item_product_code"]), str(row["product_location"]), str(region) if region else None,
        )  # fmt: skip
        spent[key] += Decimal(str(row["pricing_public_on_demand_cost"]))
    start, end = _bounds(month)
    scale = _TONNES_PER_USD * (_RESTATED if model == AMAZON_MODELS[-1] else 1)
    stated = []
    for (payer, account, product, location, region), cost in spent.items():
        figures: dict[str, object] = {}
        for stem, share in _AMAZON_FIGURES:
            figures[f"{stem}_emissions_value"] = _rounded(cost * scale * share)
            figures[f"{stem}_emissions_unit"] = "MTCO2e"
        stated.append(
            figures
            | {
                "last_refresh_timestamp": end + timedelta(days=14 if model == AMAZON_MODELS[0] else 45),
                "location": location if region else "Global",
                "model_version": model,
                "payer_account_id": payer,
                "product_code": product,
                "region_code": region,
                "usage_account_id": account,
                "usage_period_start": start,
                "usage_period_end": end,
            }
        )
    return pa.Table.from_pylist(stated, schema=_AMAZON)


def google_statement(rows: Sequence[Mapping[str, object]], month: str, model: int) -> pa.Table:
    """What Google states about a bill's month (rows of the detailed export): kilograms by project and service."""
    spent: dict[tuple[tuple[str, str], tuple[str, str], tuple[str, str | None]], Decimal] = defaultdict(Decimal)
    accounts: set[str] = set()
    for row in rows:
        project, service, place = row.get("project"), row["service"], row["location"]
        if not isinstance(project, dict) or not isinstance(service, dict) or not isinstance(place, dict):
            continue
        used = row["usage_start_time"]
        if isinstance(used, datetime) and f"{used:%Y-%m}" == month and row["cost_type"] == "regular":
            key = (
                (project["number"], project["id"]),
                (service["id"], service["description"]),
                (place["location"], place["region"]),
            )
            spent[key] += Decimal(str(row["cost"]))
            accounts.add(str(row["billing_account_id"]))
    scale = _KG_PER_POUND * (_RESTATED if model == GOOGLE_MODELS[-1] else 1)
    figures = [(project, service, place, cost * scale) for (project, service, place), cost in spent.items()]
    nobody = (("", None), ("6F81-5844-456A", "Compute Engine"), ("global", None), _UNATTRIBUTED_KG)
    (account,) = accounts
    return pa.Table.from_pylist(
        [_google_row(account, month, model, *figure) for figure in (*figures, nobody)], schema=_GOOGLE
    )


def _google_row(
    account: str,
    month: str,
    model: int,
    project: tuple[str, str | None],
    service: tuple[str, str],
    place: tuple[str, str | None],
    kilograms: Decimal,
) -> dict[str, object]:
    scope1, scope2, market, scope3 = (
        _rounded(kilograms * Decimal(share)) for share in ("0.01", "0.60", "0.18", "0.39")
    )
    return {
        "usage_month": date.fromisoformat(f"{month}-01"),
        "billing_account_id": account,
        "project": {"number": project[0], "id": project[1]},
        "service": {"id": service[0], "description": service[1]},
        "location": {"location": place[0], "region": place[1]},
        "carbon_model_version": model,
        "carbon_footprint_kgCO2e": {
            "scope1": scope1,
            "scope2": {"location_based": scope2, "market_based": market},
            "scope3": scope3,
        },
        "carbon_footprint_total_kgCO2e": {
            "location_based": _rounded(kilograms),
            "market_based": _rounded(kilograms * Decimal("0.58")),
        },
    }


def _rounded(number: Decimal) -> float:
    return float(number.quantize(_SIX))


def _bounds(month: str) -> tuple[datetime, datetime]:
    """Midnight UTC of the first day of a month and of the next, without a zone, as the export states them."""
    first = first_day(month)
    return datetime.combine(first, time()), datetime.combine(next_month(first), time())
