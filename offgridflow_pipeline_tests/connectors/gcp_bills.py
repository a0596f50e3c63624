"""Small rows of Google Cloud's exports for tests, as BigQuery holds them and as tools flatten them to CSV.

Names and types are facts of Google's pages "Structure of Standard/Detailed data export" and "FOCUS export"; rows ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_RECORD = Mapping[str, Any]

#: Leaf -> BigQuery type of the detailed export; [] is repeated.
DETAILED: dict[str, Any] = {
    "billing_account_id": "STRING",
    "service": {"id": "STRING", "description": "STRING"},
    "sku": {"id": "STRING", "description": "STRING"},
    "usage_start_time": "TIMESTAMP",
    "usage_end_time": "TIMESTAMP",
    "project": {
        "id": "STRING", "number": "STRING", "name": "STRING", "labels": [{"key": "STRING", "value": "STRING"}],
        "ancestors": [{"resource_name": "STRING", "display_name": "STRING"}],
    },
    "labels": [{"key": "STRING", "value": "STRING"}],
    "system_labels": [{"key": "STRING", "value": "STRING"}],
    "location": {"location": "STRING", "country": "STRING", "region": "STRING", "zone": "STRING"},
    "resource": {"name": "STRING", "global_name": "STRING"},
    "export_time": "TIMESTAMP",
    "cost": "FLOAT",
    "currency": "STRING",
    "usage": {
        "amount": "FLOAT", "unit": "STRING", "amount_in_pricing_units": "FLOAT", "pricing_unit": "STRING",
    },
    "credits": [
        {"name": "STRING", "amount": "FLOAT", "full_name": "STRING", "id": "STRING", "type": "STRING"},
    ],
    "invoice": {"month": "STRING", "publisher_type": "STRING"},
    "cost_type": "STRING",
    "adjustment_info": {"id": "STRING", "description": "STRING", "mode": "STRING", "type": "STRING"},
    "tags": [{"key": "STRING", "value": "STRING", "inherited": "BOOLEAN", "namespace": "STRING"}],
    "cost_at_list": "FLOAT",
    "transaction_type": "STRING",
    "seller_name": "STRING",
    "price": {"effective_price": "NUMERIC", "tier_start_amount": "NUMERIC"},
    "cost_at_list_consumption_model": "NUMERIC",
    "consumption_model": {"id": "STRING", "description": "STRING"},
    "subscription": {"instance_id": "STRING"},
}  # fmt: skip

FOCUS: dict[str, Any] = {
    "BilledCost": "NUMERIC",
    "EffectiveCost": "NUMERIC",
    "ListCost": "NUMERIC",
    "BillingAccountId": "STRING",
    "BillingCurrency": "STRING",
    "BillingPeriodStart": "TIMESTAMP",
    "BillingPeriodEnd": "TIMESTAMP",
    "ChargeCategory": "STRING",
    "ChargeClass": "STRING",
    "ChargeDescription": "STRING",
    "ChargePeriodStart": "TIMESTAMP",
    "ChargePeriodEnd": "TIMESTAMP",
    "ConsumedQuantity": "NUMERIC",
    "ConsumedUnit": "STRING",
    "ProviderName": "STRING",
    "PublisherName": "STRING",
    "RegionId": "STRING",
    "RegionName": "STRING",
    "ResourceId": "STRING",
    "ServiceName": "STRING",
    "SkuId": "STRING",
    "SubAccountId": "STRING",
    "SubAccountName": "STRING",
    "x_Credits": [{"Name": "STRING", "Amount": "NUMERIC", "Type": "STRING"}],
    "x_CostType": "STRING",
    "x_ExportTime": "TIMESTAMP",
    "x_Location": "STRING",
    "x_ServiceId": "STRING",
    "x_SystemLabels": [{"Key": "STRING", "Value": "STRING"}],
    "x_Labels": [{"Key": "STRING", "Value": "STRING"}],
    "x_ProjectLabels": [{"Key": "STRING", "Value": "STRING"}],
    "x_Tags": [{"Key": "STRING", "Value": "STRING", "x_Inherited": "BOOLEAN", "x_Namespace": "STRING"}],
    "x_SubscriptionInstanceId": "STRING",
}

#: An hour of a machine's cores in a single region.
ROW: dict[str, Any] = {
    "billing_account_id": "01AAAA-0BBBBB-0CCCCC",
    "service.id": "6F81-5844-456A",
    "service.description": "Compute Engine",
    "sku.id": "CF4E-A0C7-E3BF",
    "sku.description": "N2 Instance Core running in Frankfurt",
    "usage_start_time": "2026-10-05T01:00:00Z",
    "usage_end_time": "2026-10-05T02:00:00Z",
    "project.id": "larch-web",
    "project.name": "Larch web",
    "location.location": "europe-west3",
    "location.region": "europe-west3",
    "location.zone": "europe-west3-a",
    "resource.name": "web-1",
    "resource.global_name": "//compute.googleapis.com/projects/7/zones/europe-west3-a/instances/42",
    "export_time": "2026-10-05T06:00:00.25Z",
    "cost": 0.1,
    "currency": "EUR",
    "usage.amount": 14400.0,
    "usage.unit": "seconds",
    "credits": [],
    "labels": [{"key": "team", "value": "web"}],
    "system_labels": [
        {"key": "compute.googleapis.com/cores", "value": "4"},
        {"key": "compute.googleapis.com/machine_spec", "value": "n2-standard-4"},
        {"key": "compute.googleapis.com/memory", "value": "16384"},
    ],
    "invoice.month": "202610",
    "cost_type": "regular",
    "transaction_type": "GOOGLE",
    "seller_name": "Google Cloud",
}

FOCUS_ROW: dict[str, Any] = {
    "BilledCost": "0.1",
    "EffectiveCost": "0.1",
    "BillingAccountId": "01AAAA-0BBBBB-0CCCCC",
    "BillingCurrency": "EUR",
    "BillingPeriodStart": "2026-10-01T07:00:00Z",
    "BillingPeriodEnd": "2026-11-01T07:00:00Z",
    "ChargeCategory": "Usage",
    "ChargeDescription": "N2 Instance Core running in Frankfurt",
    "ChargePeriodStart": "2026-10-05T01:00:00Z",
    "ChargePeriodEnd": "2026-10-05T02:00:00Z",
    "ConsumedQuantity": "14400",
    "ConsumedUnit": "seconds",
    "RegionId": "europe-west3",
    "ServiceName": "Compute Engine",
    "SkuId": "CF4E-A0C7-E3BF",
    "SubAccountId": "larch-web",
    "x_CostType": "regular",
    "x_ExportTime": "2026-10-05T06:00:00.25Z",
    "x_ServiceId": "6F81-5844-456A",
    "x_Labels": [{"Key": "team", "Value": "web"}],
    "x_SystemLabels": [
        {"Key": "compute.googleapis.com/cores", "Value": "4"},
        {"Key": "compute.googleapis.com/machine_spec", "Value": "n2-standard-4"},
        {"Key": "compute.googleapis.com/memory", "Value": "16384"},
    ],
}


def gcp_row(**changed: Any) -> dict[str, Any]:
    """A row of the billing export with flat names; keyword ``usage__amount`` changes ``usage.amount``."""
    return ROW | {name.replace("__", "."): value for name, value in changed.items()}


def gcp_focus_row(**changed: Any) -> dict[str, Any]:
    """A row of Google's FOCUS export."""
    return FOCUS_ROW | changed


def as_text(row: _RECORD, *, python: bool = False) -> dict[str, str]:
    """The row as CSV cells; lists as JSON, or in Python's spelling as some tools write them."""
    spelled = repr if python else json.dumps
    return {
        name: "" if value is None else spelled(value) if isinstance(value, list) else str(value)
        for name, value in row.items()
    }


def nested(row: _RECORD) -> dict[str, Any]:
    """The row as BigQuery takes it: dotted names become records."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        record, _, member = name.partition(".")
        if member:
            found.setdefault(record, {})[member] = value
        else:
            found[name] = value
    return found


def schema(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The fields as BigQuery's JSON schema."""
    return [_field(name, kind) for name, kind in fields.items()]


def _field(name: str, kind: Any) -> dict[str, Any]:
    if isinstance(kind, list):
        return {"name": name, "type": "RECORD", "mode": "REPEATED", "fields": schema(kind[0])}
    if isinstance(kind, dict):
        return {"name": name, "type": "RECORD", "mode": "NULLABLE", "fields": schema(kind)}
    return {"name": name, "type": kind, "mode": "NULLABLE"}


def without(row: _RECORD, *names: str) -> dict[str, Any]:
    """The row without these columns."""
    return {name: value for name, value in row.items() if name not in names}


def credit(amount: float | str, kind: str = "PROMOTION", name: str = "A credit") -> dict[str, Any]:
    """One credit."""
    return {"name": name, "amount": amount, "full_name": None, "id": "c-1", "type": kind}


def system_labels(**values: str) -> list[dict[str, str]]:
    """System labels of Compute Engine."""
    return [{"key": f"compute.googleapis.com/{name}", "value": value} for name, value in values.items()]


Rows = Sequence[_RECORD]
