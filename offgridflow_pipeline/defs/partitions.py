"""Partitions: tenant (dynamic) x day, tenant x month, and the one place that parses their keys.

A multi-partition key joins its values in alphabetical order of the dimension names, so time dimensions
are called `day` and `month` (both before `tenant`): ``2026-01-31|acme``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime

import dagster as dg

from offgridflow_pipeline.settings import load_settings

TENANT_PARTITIONS = "offgridflow_tenants"
DAYS_PER_RUN = 31
_TENANT_KEY = re.compile(r"^[a-z0-9](-?[a-z0-9]){1,62}$")


class PartitionKeyError(ValueError):
    """A partition key is malformed or names a day that has not happened yet."""


tenants = dg.DynamicPartitionsDefinition(name=TENANT_PARTITIONS)
day = dg.DailyPartitionsDefinition(load_settings().history_start.isoformat(), end_offset=1)
month = dg.MonthlyPartitionsDefinition(load_settings().history_start.replace(day=1).isoformat())
day_tenant = dg.MultiPartitionsDefinition({"day": day, "tenant": tenants})
month_tenant = dg.MultiPartitionsDefinition({"month": month, "tenant": tenants})

#: A tenant-month of daily partitions is one run.
daily_backfill = dg.BackfillPolicy.multi_run(DAYS_PER_RUN)
#: A report belongs to one tenant and month.
monthly_backfill = dg.BackfillPolicy.multi_run(1)


def reads(upstream: str, downstream: str, *, start_offset: int = 0) -> dg.MultiPartitionMapping:
    """Mapping from a downstream time dimension to the upstream windows inside it, same tenant.

    `start_offset` widens the window backwards, in downstream windows; windows and days before the start of
    history are left out.
    """
    return dg.MultiPartitionMapping(
        {
            upstream: dg.DimensionPartitionMapping(
                downstream,
                dg.TimeWindowPartitionMapping(start_offset=start_offset, allow_nonexistent_upstream_partitions=True),
            ),
            "tenant": dg.DimensionPartitionMapping("tenant", dg.IdentityPartitionMapping()),
        }
    )


def valid_tenant(slug: str) -> str:
    """The slug itself.

    Raises:
        PartitionKeyError: it is not a valid tenant slug; keys like ``a|b`` would break partition keys.
    """
    if not _TENANT_KEY.match(slug):
        raise PartitionKeyError(
            f"Tenant {slug!r} is not a valid slug: use 2 to 63 lower-case letters, digits and single dashes."
        )
    return slug


def split_key(key: str) -> tuple[str, str]:
    """``(window start, tenant)`` of a key such as ``2026-01-31|acme``."""
    start, _, tenant = str(key).partition("|")
    return start, valid_tenant(tenant)


def days_by_tenant(keys: Iterable[str], *, today: date | None = None) -> dict[str, list[date]]:
    """Days per tenant, both sorted.

    Raises:
        PartitionKeyError: a key names a future day (Dagster accepts such range ends) or a bad tenant.
    """
    limit = today or datetime.now(UTC).date()
    found: defaultdict[str, list[date]] = defaultdict(list)
    for key in keys:
        start, tenant = split_key(key)
        value = date.fromisoformat(start)
        if value > limit:
            raise PartitionKeyError(f"Partition {key} lies in the future (today is {limit}): end the range at {limit}.")
        found[tenant].append(value)
    return {tenant: sorted(found[tenant]) for tenant in sorted(found)}


def months_by_tenant(keys: Iterable[str]) -> dict[str, list[str]]:
    """Months (``YYYY-MM``) per tenant, both sorted."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for key in keys:
        start, tenant = split_key(key)
        found[tenant].append(start[:7])
    return {tenant: sorted(found[tenant]) for tenant in sorted(found)}


def day_key(value: date, tenant: str) -> str:
    """Partition key of a day and tenant."""
    return f"{value.isoformat()}|{tenant}"
