"""Delivery manifests of AWS and Azure: which period, which version, which files (billing-feeds.md 4.1, 5.1).

A manifest is written after its data files, and the file list comes only from it. Whether the files are there
is asked in `listing`, which manifests are read at all is told by `layouts`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from offgridflow_pipeline.connectors.errors import DeliveryError
from offgridflow_pipeline.connectors.stores import Store, StoredObject
from offgridflow_pipeline.months import next_month

_CUR_FOLDER = re.compile(r"(\d{8})-(\d{8})")
_CUR_PATH = re.compile(r"/(\d{8})-(\d{8})/")
#: Datasets of Azure exports (`exportConfig.type`) per kind of connection (billing-feeds.md 5.1); ``Usage`` is the
#: actual cost of pay-as-you-go subscriptions.
_AZURE_DATASETS = {
    "focus": ("FocusCost",),
    "azure_actual": ("ActualCost", "Usage"),
    "azure_amortized": ("AmortizedCost",),
}
_EXPORT_PATH = re.compile(r"/BILLING_PERIOD=(\d{4}-\d{2})(?:/|$)")


@dataclass(frozen=True, slots=True)
class Period:
    """A billing period; `end` is exclusive."""

    start: date
    end: date


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest says. `export` is the folder of its export, `stream` what it bills (account or scope).

    `sizes` holds the bytes of a file where the manifest states them.
    """

    item: StoredObject
    export: str
    stream: str
    version: str
    period: Period
    files: tuple[str, ...]
    sizes: dict[str, int]


def read_manifest(store: Store, item: StoredObject, kind: str) -> Manifest | None:
    """The manifest; None for one that names nothing to read (an assembly's copy, an export of another kind).

    Raises:
        DeliveryError: not JSON, not a manifest we know, or the store refuses.
    """
    try:
        content = json.loads(store.read_bytes(item))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DeliveryError(f"{item.uri} is not a readable manifest ({error}): wait for the next delivery.") from None
    if not isinstance(content, dict):
        raise DeliveryError(f"{item.uri} holds no JSON object: not a manifest we know.")
    try:
        if "reportKeys" in content:
            return None if kind.startswith("azure_") else _cost_and_usage_report(item, content)
        if "dataFiles" in content:
            return None if kind.startswith("azure_") else _data_export(item, content)
        if "blobs" in content:
            return _azure_export(item, content, _AZURE_DATASETS.get(kind, ()))
    except (KeyError, TypeError, AttributeError) as error:
        raise DeliveryError(
            f"{item.uri} lacks or misstates {error}: not a manifest we know, wait for the next delivery."
        ) from None
    raise DeliveryError(f"{item.uri} has none of reportKeys, dataFiles, blobs: not a manifest we know.")


def period_of_path(uri: str) -> Period | None:
    """Billing period that the folders of a manifest name; None when they name none."""
    if found := _EXPORT_PATH.search(uri):
        start = date.fromisoformat(f"{found[1]}-01")
        return Period(start, next_month(start))
    if found := _CUR_PATH.search(uri):
        days = [datetime.strptime(text, "%Y%m%d").date() for text in found.groups()]  # noqa: DTZ007  calendar days
        return Period(days[0], days[1])
    return None


def _cost_and_usage_report(item: StoredObject, content: dict[str, Any]) -> Manifest | None:
    folder, _, name = item.uri.rpartition("/")[0].rpartition("/")
    if not _CUR_FOLDER.fullmatch(name):
        return None  # the copy inside an assembly folder; the period-level one names the newest
    stated = content["billingPeriod"]
    period = Period(_day(stated.get("start"), item), _day(stated.get("end"), item))
    files = _names(content["reportKeys"])
    return Manifest(
        item, folder, str(content.get("account", "")), str(content.get("assemblyId", "")), period, files, {}
    )


def _data_export(item: StoredObject, content: dict[str, Any]) -> Manifest:
    period = period_of_path(item.uri)
    if period is None:
        raise DeliveryError(f"{item.uri} does not lie in a BILLING_PERIOD=YYYY-MM folder: restore the layout.")
    export, _, below = item.uri.partition("/metadata/")
    # Create-new exports lie in a folder <timestamp>-<executionId>, which sorts by time.
    execution = below.split("/")[1] if below.count("/") > 1 else str(content.get("executionId", ""))
    return Manifest(item, export, "", execution, period, _names(content["dataFiles"]), {})


def _azure_export(item: StoredObject, content: dict[str, Any], datasets: tuple[str, ...]) -> Manifest | None:
    config, run = content.get("exportConfig") or {}, content.get("runInfo") or {}
    if not datasets or config.get("type", datasets[0]) not in datasets:
        return None
    start, blobs = _day(run.get("startDate"), item), content["blobs"]
    end = next_month(start)
    if start.day > 1 and run.get("endDate"):  # "selected dates": a part of a month
        end = _day(run["endDate"], item) + timedelta(days=1)
    return Manifest(
        item,
        str(config.get("exportName", "")),
        str(config.get("resourceId", "")),
        f"{run.get('submittedTime', '')} {run.get('runId', '')}",
        Period(start, end),
        _names([blob["blobName"] for blob in blobs]),
        {blob["blobName"]: int(blob["byteCount"]) for blob in blobs if "byteCount" in blob},
    )


def _names(listed: Sequence[Any]) -> tuple[str, ...]:
    if not isinstance(listed, list) or not all(isinstance(name, str) and name for name in listed):
        raise TypeError("its list of files")
    return tuple(listed)


def _day(text: Any, item: StoredObject) -> date:
    digits = str(text or "")
    try:
        if re.match(r"^\d{8}", digits):
            return datetime.strptime(digits[:8], "%Y%m%d").date()  # noqa: DTZ007  a calendar day, no time
        return date.fromisoformat(digits[:10])
    except ValueError:
        raise DeliveryError(
            f"{item.uri} states no readable billing period ({text!r}): wait for the next delivery."
        ) from None
