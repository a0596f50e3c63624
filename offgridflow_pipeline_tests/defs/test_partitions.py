"""Partition keys: parsed in one place, future days and bad tenants refused."""

from __future__ import annotations

from datetime import date

import dagster as dg
import pytest

from offgridflow_pipeline.defs.partitions import (
    PartitionKeyError,
    days_by_tenant,
    months_by_tenant,
    reads,
)


def test_keys_are_grouped_by_tenant_and_sorted():
    keys = ["2026-01-02|beta", "2026-01-01|acme", "2026-01-01|beta"]
    assert days_by_tenant(keys) == {
        "acme": [date(2026, 1, 1)],
        "beta": [date(2026, 1, 1), date(2026, 1, 2)],
    }


def test_a_future_day_is_refused_with_the_day_and_the_cure():
    with pytest.raises(PartitionKeyError, match=r"2026-02-01\|acme lies in the future.*end the range at 2026-01-31"):
        days_by_tenant(["2026-02-01|acme"], today=date(2026, 1, 31))


@pytest.mark.parametrize("tenant", ["", "a", "A-b", "a--b", "a|b", "../etc", "-ab", "ab-", "x" * 80])
def test_a_tenant_that_is_no_slug_is_refused(tenant):
    with pytest.raises(PartitionKeyError):
        days_by_tenant([f"2026-01-01|{tenant}"])


def test_months_are_year_and_month():
    assert months_by_tenant(["2026-02-01|acme"]) == {"acme": ["2026-02"]}


def test_a_month_in_which_the_history_begins_reads_the_days_that_there_are():
    tenants = dg.DynamicPartitionsDefinition(name="tenants")
    day = dg.MultiPartitionsDefinition({"day": dg.DailyPartitionsDefinition("2026-01-30"), "tenant": tenants})
    month = dg.MultiPartitionsDefinition({"month": dg.MonthlyPartitionsDefinition("2026-01-01"), "tenant": tenants})
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("tenants", ["acme", "beta"])
        found = reads("day", "month").get_upstream_mapped_partitions_result_for_partitions(
            month.empty_subset().with_partition_keys(["2026-01-01|acme"]), month, day, dynamic_partitions_store=instance
        )
    assert sorted(found.partitions_subset.get_partition_keys()) == ["2026-01-30|acme", "2026-01-31|acme"]
    assert not found.required_but_nonexistent_subset.get_partition_keys()
