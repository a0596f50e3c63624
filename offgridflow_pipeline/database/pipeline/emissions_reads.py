"""What the API reads of published emissions: grouped totals by keyset, coverage, versions, evidence of a line.

Decimals leave PostgreSQL as exact text without trailing zeros. Statements are built once per shape from the closed
sets below, never from what a client writes. Every statement names the tenant, row level security is the backstop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from offgridflow_pipeline.database.prepared import Prepared

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database

#: Dimension -> its text in SQL. Days and months are written ISO, so that text sorts as time does.
DIMENSIONS: Mapping[str, str] = {
    "day": "usage_date::text",
    "month": "to_char(usage_date, 'YYYY-MM')",
    "scope": "scope",
    "provider": "provider",
    "account": "sub_account",
    "service": "service",
    "region": "region",
    "disposition": "disposition",
}
#: Where grouping by another form of a dimension is cheaper, that form and its text in terms of the group.
_GROUPED: Mapping[str, tuple[str, str]] = {
    "day": ("usage_date", "group_day::text"),
    "month": ("date_trunc('month', usage_date::timestamp)", "to_char(group_month, 'YYYY-MM')"),
}
#: What a read may be limited to: one value of a dimension, the empty text for rows that do not state it.
FILTERS = ("scope", "provider", "account", "service", "region", "disposition")
MEASURES = ("kwh", "co2e_lbm_kg", "co2e_mbm_kg", "embodied_kg", "upstream_energy_kg")
DISPOSITIONS = ("mapped", "proxied", "no_emission", "unmapped")


class GroupTotals(NamedTuple):
    """Totals of one group, decimals as exact text: energy in kWh, emissions in kgCO2e, null = nothing was computed.

    `costs` pairs `currencies` one to one; `lines` counts ledger lines by disposition, in the order of DISPOSITIONS.
    """

    group: tuple[str | None, ...]
    line_count: int
    kwh: str | None
    co2e_location_kg: str | None
    co2e_market_kg: str | None
    embodied_kg: str | None
    upstream_energy_kg: str | None
    currencies: list[str | None]
    costs: list[str]
    lines: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class ReportedVersion:
    """A publication: Delta version of `scope_totals` as it was then (None: there was none), and when it was made."""

    scope_totals: int | None
    published_at: datetime
    closed_months: frozenset[str]


@dataclass(frozen=True, slots=True)
class Coverage:
    """Ledger lines and billed cost of one provider, currency and disposition."""

    provider: str | None
    currency: str | None
    disposition: str
    line_count: int
    billed_cost: str


class EmissionsReads:
    """Reads of published emissions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def totals(
        self,
        tenant: str,
        first: date,
        last: date,
        *,
        group_by: tuple[str, ...] = (),
        filters: Mapping[str, str] | None = None,
        after: Sequence[str | None] | None = None,
        limit: int,
    ) -> tuple[list[GroupTotals], frozenset[str]]:
        """Up to `limit` groups behind `after`, ordered by their keys, and the months of the period that are closed.

        Months are only known beside rows: without any group the set is empty. A group without a value of a
        dimension sorts first.
        """
        asked = dict(filters or {})
        values: dict[str, Any] = {"first": first, "last": last, "limit": limit}
        values |= {"first_month": first.isoformat()[:7], "last_month": last.isoformat()[:7]}
        values |= {f"filter_{name}": value for name, value in asked.items()}
        if after is not None:
            values |= {f"after_{place}": sortable(key) for place, key in enumerate(after)}
        statement = _totals(group_by, tuple(name for name in FILTERS if name in asked), after is not None)
        with self._database.tenant(tenant) as scope:
            rows = statement.rows(scope.connection, {**values, "tenant_id": scope.tenant_id})
        width = len(group_by)
        found = [
            GroupTotals._make((tuple(row[:width]), *row[width : width + 8], tuple(row[width + 8 : width + 12])))
            for row in rows
        ]
        return found, frozenset(rows[0][-1] or ()) if rows else frozenset()

    def reported(self, tenant: str, data_version: int) -> ReportedVersion | None:
        """What the totals were as of a data version; None when there is no such version."""
        with self._database.tenant(tenant) as scope:
            row = scope.connection.execute(
                _REPORTED, {"tenant_id": scope.tenant_id, "data_version": data_version}
            ).one_or_none()
        return ReportedVersion(row[0], row[1], frozenset(row[2] or ())) if row else None

    def coverage(self, tenant: str, first: date, last: date) -> list[Coverage]:
        """Lines and cost of the days from `first` to `last`, both included, by provider, currency, disposition."""
        with self._database.tenant(tenant) as scope:
            rows = scope.connection.execute(
                _COVERAGE, {"tenant_id": scope.tenant_id, "first": first, "last": last}
            ).all()
        return [Coverage(*row) for row in rows]

    def verdicts_and_sources(
        self, tenant: str, first: date, last: date
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Newest verdict of every check on partitions of the period, and how fresh every connection is.

        Both in one statement, as documents: see `sidecar.routes.emissions` for their fields.
        """
        with self._database.tenant(tenant) as scope:
            row = scope.connection.execute(
                _QUALITY,
                {
                    "tenant_id": scope.tenant_id,
                    "first": first.replace(day=1).isoformat(),  # windows of months begin on their first day
                    "last": last.isoformat(),
                },
            ).one()
        return row[0] or [], row[1] or []

    def source_object(self, tenant: str, sha256: str) -> dict[str, Any] | None:
        """The billing object of that SHA-256 as it was read last; None when none was recorded."""
        with self._database.tenant(tenant) as scope:
            row = scope.connection.execute(
                _SOURCE_OBJECT, {"tenant_id": scope.tenant_id, "sha256": sha256}
            ).mappings().one_or_none()  # fmt: skip
        return dict(row) if row else None


def sortable(key: str | None) -> str:
    """A key of a group as it is sorted by: what is not stated comes first, and is not the empty text."""
    return "" if key is None else f"={key}"


@cache
def _totals(group_by: tuple[str, ...], filters: tuple[str, ...], is_continued: bool) -> Prepared:
    """The statement of one shape: costs are summed by currency, then groups are put together."""
    grouped = "".join(f"{_GROUPED.get(name, (DIMENSIONS[name],))[0]} as group_{name}, " for name in group_by)
    names = ", ".join(f"group_{name}" for name in group_by)
    shown = [_GROUPED[name][1] if name in _GROUPED else f"group_{name}" for name in group_by]
    where = "".join(
        f" and ({column} = :filter_{name} or (:filter_{name} = '' and {column} is null))"
        for name, column in ((name, DIMENSIONS[name]) for name in filters)
    )
    if is_continued:
        keys = ", ".join(_sort_key(DIMENSIONS[name]) for name in group_by)
        where += f" and ({keys}) > ({', '.join(f':after_{place}' for place in range(len(group_by)))})"
    order = ", ".join(map(_sort_key, shown))
    sums = ", ".join(f"sum({name}) as {name}" for name in MEASURES)
    by_disposition = ", ".join(
        f"sum(line_count) filter (where disposition = '{name}') as {name}" for name in DISPOSITIONS
    )
    texts = ", ".join(f"trim_scale(sum({name}))::text" for name in MEASURES)
    counts = ", ".join(f"coalesce(sum({name}), 0)::bigint" for name in DISPOSITIONS)
    by_currency = _sort_key("currency")
    return Prepared(
        f"select {''.join(f'{text}, ' for text in shown)}sum(line_count)::bigint, {texts},"
        f" array_agg(currency order by {by_currency}), array_agg(trim_scale(billed_cost)::text order by {by_currency}),"
        f" {counts}, (select array_agg(month) from ogf.period_closures where tenant_id = :tenant_id"
        " and reopened_at is null and month between :first_month and :last_month)"
        f" from (select {grouped}currency, sum(line_count) as line_count, sum(billed_cost) as billed_cost, {sums},"
        f" {by_disposition} from ogf.daily_scope_totals where tenant_id = :tenant_id"
        f" and usage_date between :first and :last{where} group by {names + ', ' if names else ''}currency) parts"
        + (f" group by {names} order by {order}" if names else " having count(*) > 0")
        + " limit :limit"
    )


def _sort_key(column: str) -> str:
    """As `sortable`; bytes, not a language, decide the order, so that the lake's engine sorts the same."""
    return f"""coalesce('=' || {column}, '') collate "C\""""


# Other publications read scope_totals too, and not always its newest version: only its own ones count.
_REPORTED = sa.text(
    "select (select (p.lake_versions ->> 'scope_totals')::bigint from ogf.data_versions p"
    " where p.tenant_id = :tenant_id and p.data_version <= d.data_version and p.what = 'totals'"
    " order by p.data_version desc limit 1), d.published_at,"
    " (select array_agg(c.month) from ogf.period_closures c where c.tenant_id = :tenant_id"
    " and c.closed_at <= d.published_at and (c.reopened_at is null or c.reopened_at > d.published_at))"
    " from ogf.data_versions d where d.tenant_id = :tenant_id and d.data_version = :data_version"
)
_COVERAGE = sa.text(
    "select provider, currency, disposition, sum(line_count)::bigint, trim_scale(sum(billed_cost))::text"
    " from ogf.daily_scope_totals where tenant_id = :tenant_id and usage_date between :first and :last"
    " group by provider, currency, disposition order by provider nulls first, currency nulls first, disposition"
)
_QUALITY = sa.text(
    "with newest as (select distinct on (check_name, partition_key) check_name, partition_key, passed, severity,"
    " finding, recorded_at, entry_id from ogf.check_ledger where tenant_id = :tenant_id"
    " and left(partition_key, 10) between :first and :last"
    " order by check_name, partition_key, entry_id desc),"
    " checks as (select distinct on (check_name) check_name, partition_key, passed, severity, left(finding, 2000)"
    " as finding, recorded_at, count(*) over (partition by check_name) as partitions,"
    " count(*) filter (where not passed) over (partition by check_name) as failing"
    " from newest order by check_name, entry_id desc)"
    " select (select jsonb_agg(jsonb_build_object('check', check_name, 'severity', severity, 'passed', passed,"
    " 'partition', split_part(partition_key, '|', 1), 'finding', finding, 'recorded_at', recorded_at,"
    " 'partitions', partitions, 'failing', failing) order by check_name) from checks),"
    " (select jsonb_agg(jsonb_build_object('connection_id', connection_id, 'provider', provider, 'kind', kind,"
    " 'status', status, 'last_attempt_at', last_attempt_at, 'last_success_at', last_success_at)"
    " order by connection_id) from ogf.cloud_connections where tenant_id = :tenant_id)"
)
_SOURCE_OBJECT = sa.text(
    "select connection_id, feed, uri, etag, sha256, size_bytes, row_count, version, retrieved_at, last_read_at"
    " from ogf.source_snapshots where tenant_id = :tenant_id and sha256 = :sha256"
    " order by last_read_at desc limit 1"
)
