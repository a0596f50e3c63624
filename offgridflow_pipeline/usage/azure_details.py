"""What Azure packs into one text: ARM resource ids, additional information, tags. Shared by its own and FOCUS exports.

Additional information is a JSON object (``SkuPriceDetails`` and ``x_SkuDetails`` in FOCUS), read by regular
expressions: the engine would parse it once per property, and Azure at times leaves out the outer braces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ibis

if TYPE_CHECKING:
    import ibis.expr.types as ir

_SIZE = r"^(?:Standard|Basic)_"
_IDLE_CAPACITY = "microsoft.compute/capacityreservationgroups/capacityreservations"


def arm_type(resource_id: ir.Value) -> ir.Value:
    """Type of a resource by its ARM id in lower case: provider and types without the names between them."""
    parts = resource_id.re_extract(r"^.*/providers/(.+)$", 1).nullif("").split("/")
    return parts[0] + "/" + parts[1] + _below(parts[3]) + _below(parts[5])


def additional(info: ir.Value, key: str) -> ir.Value:
    """One property of a JSON object, with or without its outer braces; null when it is missing or empty."""
    return info.re_extract(rf'"{key}"\s*:\s*"?([^",}}]*)"?', 1).strip().nullif("")


def braced(text: ir.Value) -> ir.Value:
    """A JSON object: Azure leaves the outer braces out of tags and at times of additional information."""
    return ibis.ifelse(text.lstrip().startswith('"'), "{" + text + "}", text)


def machine_size(info: ir.Value) -> ir.Value:
    """Size of the machine (``Standard_D2s_v3``) in additional information, whose ServiceType may name other things."""
    service = ibis.coalesce(additional(info, "(?:x_)?ServiceType"), additional(info, "InstanceType"))
    return ibis.ifelse(service.re_search(_SIZE), service, ibis.null("string"))


def capacity_reservation(info: ir.Value, resource_type: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Capacity reservation of a row and whether it is used: its own rows are the hours nobody used.

    Source: microsoft/finops-toolkit, transformation of SkuPriceDetails to CapacityReservationStatus.
    """
    reservation = additional(info, "(?:x_)?VMCapacityReservationId")
    status = ibis.cases(
        (reservation.isnull(), ibis.null("string")),
        (resource_type == _IDLE_CAPACITY, ibis.literal("Unused")),
        else_=ibis.literal("Used"),
    )
    return reservation, status


def _below(part: ir.Value) -> ir.Value:
    return ibis.coalesce("/" + part.nullif(""), ibis.literal(""))
