"""What people and alerts read: the serving copy of daily scope totals, and the ledger of check verdicts.

Schemas are in ``sql/migrations``; every statement names the tenant, row level security is the backstop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa

from offgridflow_pipeline.database.statements import RecordError, one_at_a_time, write

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database

ROWS_PER_STATEMENT = 5_000

#: Columns of daily_scope_totals after tenant_id, with the array type they are sent as.
_TOTALS = {
    "usage_date": "date[]",
    "scope": "text[]",
    "s3_category": "smallint[]",
    "provider": "text[]",
    "sub_account": "text[]",
    "service": "text[]",
    "region": "text[]",
    "disposition": "text[]",
    "currency": "text[]",
    "line_count": "bigint[]",
    "billed_cost": "numeric[]",
    "kwh": "numeric[]",
    "co2e_lbm_kg": "numeric[]",
    "co2e_mbm_kg": "numeric[]",
    "embodied_kg": "numeric[]",
    "upstream_energy_kg": "numeric[]",
}
_INSERT_TOTALS = (
    f"insert into ogf.daily_scope_totals (tenant_id, {', '.join(_TOTALS)})"
    " select :tenant_id, totals.* from unnest("
    + ", ".join(f"cast(:{name} as {array})" for name, array in _TOTALS.items())
    + ") as totals"
)


class ScopeTotalsServing:
    """Serving table of daily scope totals; costs in `currency`, energy in kWh, emissions in kgCO2e."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def replace(self, tenant: str, days: Sequence[date], rows: Sequence[Mapping[str, Any]]) -> int:
        """Replace the tenant's days in one transaction; returns the number of rows.

        Each row holds every column of the table but tenant_id; measures may be null.

        Raises:
            RecordError: a row lies outside of the days, lacks a column or has a value of the wrong form.
        """
        wanted = set(days)
        for number, row in enumerate(rows, start=1):
            if missing := _TOTALS.keys() - row.keys():
                raise RecordError(f"daily_scope_totals, row {number}: column {min(missing)} is missing.")
            if row["usage_date"] not in wanted:
                raise RecordError(
                    f"daily_scope_totals, row {number}, usage_date {row['usage_date']}: not one of the replaced days."
                )
        with self._database.tenant(tenant) as scope:
            one_at_a_time(scope, "daily_scope_totals")
            scope.connection.execute(
                sa.text(
                    "delete from ogf.daily_scope_totals where tenant_id = :tenant_id"
                    " and usage_date = any(cast(:days as date[]))"
                ),
                {"tenant_id": scope.tenant_id, "days": sorted(wanted)},
            )
            for start in range(0, len(rows), ROWS_PER_STATEMENT):
                part = rows[start : start + ROWS_PER_STATEMENT]
                columns = {name: [row[name] for row in part] for name in _TOTALS}
                write(scope, "daily_scope_totals", _INSERT_TOTALS, {**columns, "tenant_id": scope.tenant_id})
        return len(rows)

    def list(self, tenant: str, first: date, last: date) -> list[dict[str, Any]]:
        """Rows of the tenant's days from `first` to `last`, both included."""
        with self._database.tenant(tenant) as scope:
            rows = scope.connection.execute(
                sa.text(
                    f"select {', '.join(_TOTALS)} from ogf.daily_scope_totals where tenant_id = :tenant_id"
                    " and usage_date between :first and :last"
                    " order by usage_date, provider, sub_account, service, region, disposition, scope,"
                    " currency"
                ),
                {"tenant_id": scope.tenant_id, "first": first, "last": last},
            ).mappings()
            return [dict(row) for row in rows]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One check of one partition in one run; `finding` is empty when it passed."""

    run_id: str
    check_name: str
    partition_key: str
    passed: bool
    severity: Literal["ERROR", "WARN"]
    finding: str
    recorded_at: datetime


_VERDICT = ", ".join(Verdict.__dataclass_fields__)


class CheckLedger:
    """Verdicts of asset checks per partition, append-only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(
        self,
        *,
        run_id: str,
        check_name: str,
        partition_keys: Sequence[str],
        failing: Mapping[str, str],
        severity: Literal["ERROR", "WARN"] = "ERROR",
    ) -> None:
        """Record one verdict per partition key ``window|tenant``; `failing` maps failed keys to findings.

        Each tenant's verdicts are written in a transaction of their own.

        Raises:
            RecordError: a key names no tenant, or a failing key is not among the keys. Nothing was written.
        """
        keys_of: dict[str, list[str]] = {}
        for key in partition_keys:
            tenant = key.partition("|")[2]
            if not tenant:
                raise RecordError(f"check_ledger, partition_key {key!r}: names no tenant; write `window|tenant`.")
            keys_of.setdefault(tenant, []).append(key)
        if strangers := failing.keys() - set(partition_keys):
            raise RecordError(f"check_ledger, partition_key {min(strangers)!r}: failed but was not checked.")
        for tenant, keys in sorted(keys_of.items()):
            with self._database.tenant(tenant) as scope:
                write(
                    scope,
                    "check_ledger",
                    "insert into ogf.check_ledger (tenant_id, run_id, check_name, partition_key, passed,"
                    " severity, finding) select :tenant_id, :run_id, :check_name, verdict.partition_key,"
                    " verdict.finding is null, :severity, coalesce(verdict.finding, '')"
                    " from unnest(cast(:keys as text[]), cast(:findings as text[]))"
                    " as verdict (partition_key, finding)",
                    {
                        "tenant_id": scope.tenant_id,
                        "run_id": run_id,
                        "check_name": check_name,
                        "severity": severity,
                        "keys": keys,
                        "findings": [failing.get(key) for key in keys],
                    },
                )

    def failures(self, tenant: str, run_id: str) -> list[Verdict]:
        """Checks of severity ERROR that failed in the run, in the order they were recorded."""
        with self._database.tenant(tenant) as scope:
            rows = scope.connection.execute(
                sa.text(
                    f"select {_VERDICT} from ogf.check_ledger where tenant_id = :tenant_id and run_id = :run_id"
                    " and not passed and severity = 'ERROR' order by entry_id"
                ),
                {"tenant_id": scope.tenant_id, "run_id": run_id},
            ).all()
        return [Verdict(*row) for row in rows]

    def list(self, tenant: str, *, check_name: str | None = None, partition_key: str | None = None) -> list[Verdict]:
        """Verdicts of the tenant, oldest first; of one check and one partition where given."""
        with self._database.tenant(tenant) as scope:
            rows = scope.connection.execute(
                sa.text(
                    f"select {_VERDICT} from ogf.check_ledger where tenant_id = :tenant_id"
                    " and (cast(:check_name as text) is null or check_name = :check_name)"
                    " and (cast(:partition_key as text) is null or partition_key = :partition_key)"
                    " order by entry_id"
                ),
                {"tenant_id": scope.tenant_id, "check_name": check_name, "partition_key": partition_key},
            ).all()
        return [Verdict(*row) for row in rows]
