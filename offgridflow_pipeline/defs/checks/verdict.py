"""One verdict per partition: what a check found goes to Dagster and to our check ledger.

In a range run Dagster stores one result without partition, and the partitions' own rows would stay
planned for ever; `verdict` therefore reports one evaluation per partition under the run's id (a runless
one violates Dagster's unique index when the day is run again), and records it in our check ledger.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg

from offgridflow_pipeline.defs.io_manager import partitions_by_tenant
from offgridflow_pipeline.defs.partitions import day_tenant, month_tenant
from offgridflow_pipeline.defs.resources import Platform
from offgridflow_pipeline.lake import schemas

if TYPE_CHECKING:
    import ibis.expr.types as ir

#: partition key -> what is wrong there
Failures = dict[str, str]
#: Finds faults of one tenant's partitions of a table: partition -> what is wrong there.
Find = Callable[[Platform, str, schemas.Table, list[Any]], dict[Any, str]]
Severity = Literal["ERROR", "WARN"]


def verdict(
    context: dg.AssetCheckExecutionContext,
    platform: Platform,
    asset: str,
    name: str,
    failing: Failures,
    severity: Severity = "ERROR",
    details: Mapping[str, dg.MetadataValue[Any]] | None = None,
) -> dg.AssetCheckResult:
    """One check result for Dagster and one ledger row per partition, whatever the size of the run."""
    keys = [str(key) for key in context.partition_keys]
    if len(keys) > 1:
        for key in keys:
            evaluation = dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey(asset),
                check_name=name,
                passed=key not in failing,
                partition=key,
                severity=dg.AssetCheckSeverity(severity),
                metadata={"finding": failing.get(key, "")},
            )
            context.instance.report_dagster_event(
                dg.DagsterEvent(
                    event_type_value=dg.DagsterEventType.ASSET_CHECK_EVALUATION.value,
                    job_name=context.run.job_name,
                    message=f"{asset}.{name} on {key}",
                    event_specific_data=evaluation,
                ),
                run_id=context.run.run_id,
            )
    platform.database.check_ledger.record(
        run_id=context.run.run_id,
        check_name=f"{asset}.{name}",
        partition_keys=keys,
        failing=failing,
        severity=severity,
    )
    table = dg.MetadataValue.md(
        "| partition | finding |\n|---|---|\n" + "\n".join(f"| {k} | {v} |" for k, v in sorted(failing.items()))
    )
    return dg.AssetCheckResult(
        passed=not failing,
        severity=dg.AssetCheckSeverity(severity),
        metadata={"failed_partitions": len(failing), **({"findings": table} if failing else {}), **(details or {})},
    )


def _window(table: schemas.Table, partition: Any) -> str:
    return partition.isoformat() if table.grain == "day" else f"{partition}-01"


def rows_of(platform: Platform, name: str, tenant: str, partitions: Iterable[Any]) -> "ir.Table":
    """The tenant's partitions of a lake table, lazily read."""
    return platform.engine.table(platform.lake.slice(tenant, name, list(partitions)))


def listed(platform: Platform, expr: "ir.Table") -> list[dict[str, Any]]:
    """A small result as dictionaries."""
    rows: list[dict[str, Any]] = platform.engine.to_arrow(expr).to_pylist()
    return rows


def lake_check(
    asset: str,
    name: str,
    description: str,
    *,
    severity: Severity = "ERROR",
    additional_deps: tuple[str, ...] = (),
) -> Callable[[Find], dg.AssetChecksDefinition]:
    """Decorator: the function finds faults of one tenant's partitions; the rest is the same for all checks.

    An ERROR check blocks everything downstream, a WARN check informs.
    """
    table = schemas.table(asset)

    def decorate(find: Find) -> dg.AssetChecksDefinition:
        @dg.asset_check(
            asset=asset,
            name=name,
            description=description,
            blocking=severity == "ERROR",
            partitions_def=day_tenant if table.grain == "day" else month_tenant,
            additional_deps=list(additional_deps),
        )
        def check(context: dg.AssetCheckExecutionContext, platform: Platform) -> dg.AssetCheckResult:
            failing: Failures = {}
            wanted = partitions_by_tenant(table, [str(k) for k in context.partition_keys])
            for tenant, partitions in wanted.items():
                for partition, finding in find(platform, tenant, table, partitions).items():
                    failing[f"{_window(table, partition)}|{tenant}"] = finding
            return verdict(context, platform, asset, name, failing, severity)

        return check

    return decorate
