"""Runs the main job's jobs in this process on a lake and database of the test's own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.definitions import defs
from offgridflow_pipeline.defs.partitions import TENANT_PARTITIONS
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline.lake.tables import Lake
from offgridflow_pipeline.settings import load_settings


class PlatformRun:
    """A Dagster instance, a lake and a database; the environment is set before anything is opened."""

    def __init__(self, monkeypatch: Any, database: Database, data_dir: Path) -> None:
        self._variables = {
            "DATABASE_URL": database.admin_engine.url.render_as_string(hide_password=False),
            "OFFGRIDFLOW_DATA_DIR": str(data_dir),
        }
        self.set_environment(monkeypatch)
        self.instance = dg.DagsterInstance.ephemeral()
        self.lake = Lake(str(data_dir / "lake"))

    def set_environment(self, monkeypatch: Any) -> None:
        """Jobs of this process work on this lake and database until the patch ends."""
        for name, value in self._variables.items():
            monkeypatch.setenv(name, value)
        load_settings.cache_clear()

    def close(self) -> None:
        self.instance.dispose()
        load_settings.cache_clear()

    def add_tenants(self, tenants: Sequence[str]) -> None:
        self.instance.add_dynamic_partitions(TENANT_PARTITIONS, list(tenants))

    def days(self, tenant: str, first: date, last: date) -> dg.ExecuteInProcessResult:
        return defs.resolve_job_def("daily_emissions").execute_in_process(
            instance=self.instance,
            raise_on_error=False,
            tags={
                "dagster/asset_partition_range_start": f"{first}|{tenant}",
                "dagster/asset_partition_range_end": f"{last}|{tenant}",
            },
        )

    def report(self, tenant: str, month: str) -> dg.ExecuteInProcessResult:
        return defs.resolve_job_def("monthly_report").execute_in_process(
            instance=self.instance, raise_on_error=False, partition_key=f"{month}-01|{tenant}"
        )

    def totals(self, tenant: str, dataset: str = "scope_totals", by: Sequence[str] = ("usage_date",)) -> dict[Any, Any]:
        """Sums of cost, kWh and emissions of the tenant, grouped."""
        with Engine(memory_mb=256, threads=1) as engine:
            rows = engine.table(self.lake.slice(tenant, dataset))
            cost = "billed_cost"
            grouped = rows.group_by(list(by)).aggregate(
                cost=rows[cost].sum(),
                kwh=rows.kwh.sum(),
                lbm=rows.co2e_lbm_kg.sum(),
                mbm=rows.co2e_mbm_kg.sum(),
                embodied=rows.embodied_kg.sum(),
                lines=rows.count() if dataset == "emission_lines" else rows.line_count.sum().cast("int64"),
            )
            found = engine.to_arrow(grouped).to_pylist()
        return {tuple(r[b] for b in by): {k: v for k, v in r.items() if k not in by and v is not None} for r in found}


def summed(groups: dict[Any, dict[str, Any]]) -> dict[str, Decimal]:
    """One row of sums over all groups."""
    total: dict[str, Decimal] = {}
    for row in groups.values():
        for name, value in row.items():
            total[name] = total.get(name, Decimal(0)) + value
    return total
