"""What Google's system labels say of a row: the machine and its size, and the capacity reservation it runs on.

Names of the labels: Google Cloud, "Structure of Standard data export", system labels; billing-feeds.md section 6.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ibis

from offgridflow_pipeline.usage.expressions import decimal
from offgridflow_pipeline.usage.gcp_rules import in_kibi
from offgridflow_pipeline.usage.labels import label

if TYPE_CHECKING:
    import ibis.expr.types as ir

_PREFIX = "compute.googleapis.com/"


def machine(labels: ir.Value) -> dict[str, ir.Value]:
    """Machine type, vCPUs and memory (stated in MB of 2^20 bytes)."""
    memory = decimal(label(labels, _PREFIX + "memory"))
    return {
        "x_InstanceType": label(labels, _PREFIX + "machine_spec"),
        "x_VCpus": decimal(label(labels, _PREFIX + "cores")),
        "x_MemoryGiB": in_kibi(memory),
    }


def capacity(labels: ir.Value) -> dict[str, ir.Value]:
    """Reservation as ``project/name``, and whether its capacity was used; unused capacity is hardware held idle."""
    name = label(labels, _PREFIX + "reservation_name")
    project = label(labels, _PREFIX + "reservation_project_id")
    unused = (label(labels, _PREFIX + "is_unused_reservation").lower() == "true").fill_null(False)
    return {
        "CapacityReservationId": ibis.coalesce(project + "/" + name, name),
        "CapacityReservationStatus": ibis.cases(
            (unused, ibis.literal("Unused")),
            (name.notnull(), ibis.literal("Used")),
            else_=ibis.null("string"),
        ),
    }
