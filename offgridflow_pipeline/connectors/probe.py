"""Probing a connection: the smallest real calls of everything it needs, and what each came to.

Nothing is written or kept. What a refusal means and its cure are told by the stores and API modules themselves;
here is only what to try, in which order, and what was seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from offgridflow_pipeline.connectors.access import Access, AwsAccess, AzureAccess, GcpAccess
from offgridflow_pipeline.connectors.credentials import secrets_of
from offgridflow_pipeline.connectors.errors import BillingObjectError, ConnectionConfigError, DeliveryError
from offgridflow_pipeline.connectors.providers.calls import Budget, Calls
from offgridflow_pipeline.connectors.secrets.shapes import redacted
from offgridflow_pipeline.months import shifted

if TYPE_CHECKING:
    from offgridflow_pipeline.connectors.connections import Connection
    from offgridflow_pipeline.connectors.deliveries.listing import Delivery
    from offgridflow_pipeline.connectors.stores import StoredObject

#: A probe is waited for: one more try of a throttled call, not ten minutes.
BUDGET = Budget(attempts=2, deadline_seconds=30.0)
#: A data file of at most this size is read as a whole, to see that files can be read.
SMALL_BYTES = 16 * 2**20
_MARKED_DAYS = 10


@dataclass(frozen=True, slots=True)
class Finding:
    """What one step of a probe came to; `text` says what was seen, or what is missing for what, and the cure."""

    step: str
    ok: bool
    text: str


class _FailedError(Exception):
    """A step failed that later steps rest on."""


class _Probe:
    def __init__(self, access: Access) -> None:
        self.findings: list[Finding] = []
        self._secrets = secrets_of(access)

    def step(self, name: str, attempt: Callable[[], str], *, needed: bool = False) -> None:
        """Note what the attempt tells, or why it failed; a needed one ends the probe."""
        try:
            told, ok = attempt(), True
        except (DeliveryError, ConnectionConfigError, BillingObjectError) as error:
            told, ok = str(error), False
        self.findings.append(Finding(name, ok, redacted(told, self._secrets)))
        if needed and not ok:
            raise _FailedError


def probe(connection: Connection, access: Access, today: date | None = None) -> list[Finding]:
    """Try what the connection needs; later steps are left out where they rest on one that failed."""
    seen = _Probe(access)
    day = (today or datetime.now(UTC).date()) - timedelta(days=2)
    try:
        if isinstance(access, AwsAccess) and access.role_arn:
            seen.step("role", lambda: _assumed(access), needed=True)
        _contents(seen, connection, access, day)
    except _FailedError:
        return seen.findings
    if connection.reconcile == "cost_explorer" and isinstance(access, AwsAccess):
        seen.step("Cost Explorer", lambda: _cost_explorer(connection, access, day))
    elif connection.reconcile == "cost_management" and isinstance(access, AzureAccess):
        seen.step("Cost Management", lambda: _cost_management(connection, access, day))
    return seen.findings


def _contents(seen: _Probe, connection: Connection, access: Access, day: date) -> None:
    if connection.kind == "aws_sustainability" and isinstance(access, AwsAccess):
        seen.step("carbon API", lambda: _sustainability(connection, access, day))
    elif connection.kind == "azure_carbon" and isinstance(access, AzureAccess):
        seen.step("carbon API", lambda: _azure_carbon(connection, access, day))
    elif connection.uri.startswith("bigquery://") and isinstance(access, GcpAccess):
        seen.step("table", lambda: _table(connection, access), needed=True)
        seen.step("query", lambda: _query(connection, access, day))
    else:
        _files(seen, connection, access)


def _files(seen: _Probe, connection: Connection, access: Access) -> None:
    from offgridflow_pipeline.connectors.stores import open_store

    listed: list[StoredObject] = []

    def listing() -> str:
        listed.extend(open_store(connection.uri, access).list(connection.uri))
        return f"{len(listed):,} objects, {sum(max(0, o.size_bytes) for o in listed):,} bytes at {connection.uri}"

    def reading(item: StoredObject) -> str:
        content = open_store(connection.uri, access).read_bytes(item)
        return f"{item.uri} can be read ({len(content):,} bytes)"

    seen.step("listing", listing, needed=True)
    for item in _worth_reading(listed):
        seen.step("reading", lambda item=item: reading(item), needed=True)  # type: ignore[misc]
    if connection.is_feed:
        seen.step("deliveries", lambda: _deliveries(connection, access))


def _worth_reading(listed: Sequence[StoredObject]) -> Iterator[StoredObject]:
    """The newest manifest and the smallest data file: they may lie under different rights and keys."""
    manifests = [o for o in listed if o.uri.lower().endswith("manifest.json")]
    data = [o for o in listed if not o.uri.lower().endswith(".json") and o.size_bytes <= SMALL_BYTES]
    if manifests:
        yield max(manifests, key=lambda o: (o.modified_at or datetime.min.replace(tzinfo=UTC), o.uri))
    if data:
        yield min(data, key=lambda o: (o.size_bytes, o.uri))


def _deliveries(connection: Connection, access: Access) -> str:
    from offgridflow_pipeline.connectors.deliveries.listing import EVERY_PERIOD
    from offgridflow_pipeline.connectors.sources import open_source

    found, refused = open_source(connection, access).survey(EVERY_PERIOD)
    if refused:
        raise DeliveryError(f"{_periods(found)}; refused: {'; '.join(r.reason for r in refused[:3])}")
    return _periods(found)


def _periods(found: Sequence[Delivery]) -> str:
    starts = sorted(d.period_start for d in found if d.period_start)
    if not starts:
        return f"{sum(len(d.objects) for d in found)} files without a manifest: they are read as one bill"
    newest = max((d for d in found if d.period_start), key=lambda d: (d.period_start or date.min, d.version))
    written = max((o.modified_at for o in newest.objects if o.modified_at), default=None)
    when = f", written {written:%Y-%m-%d %H:%M} UTC" if written else ""
    return (
        f"{len(starts)} billing periods from {starts[0]:%Y-%m} to {starts[-1]:%Y-%m}; the newest has "
        f"{len(newest.objects)} files{when}"
    )


def _assumed(access: AwsAccess) -> str:
    from offgridflow_pipeline.connectors.providers.aws_clients import aws_client

    calls = Calls("sts", access.role_arn, BUDGET)
    client = calls(lambda: aws_client(access, "sts"))
    return f"acts as {calls(client.get_caller_identity)['Arn']}"


def _cost_explorer(connection: Connection, access: AwsAccess, day: date) -> str:
    from offgridflow_pipeline.connectors.control_totals.cost_explorer import cost_explorer

    calls = Calls("cost_explorer", f"costs of {day}", BUDGET)
    found = list(cost_explorer(access, [day], calls, account_ids=connection.aws.account_ids))
    return f"control totals of {len(found)} accounts on {day}"


def _cost_management(connection: Connection, access: AzureAccess, day: date) -> str:
    from offgridflow_pipeline.connectors.control_totals.cost_management import cost_management

    calls = Calls("cost_management", connection.azure.scope, BUDGET)
    found = list(cost_management(access, connection.azure.scope, [day], calls, asked_on=day))
    return f"control totals of {len(found)} subscriptions on {day} at {connection.azure.scope}"


def _sustainability(connection: Connection, access: AwsAccess, day: date) -> str:
    from offgridflow_pipeline.connectors.statements.aws_sustainability import aws_sustainability

    month = shifted(f"{day:%Y-%m}", -3)
    calls = Calls("sustainability", f"carbon statements of {month}", BUDGET)
    first = next(aws_sustainability(access, [month], calls, account_ids=connection.aws.account_ids), None)
    return f"carbon statements of {month} are there" if first else f"can be asked; nothing is stated for {month}"


def _azure_carbon(connection: Connection, access: AzureAccess, day: date) -> str:
    from offgridflow_pipeline.connectors.statements.azure_carbon import AzureCarbon

    month = shifted(f"{day:%Y-%m}", -2)
    subscriptions = connection.azure.subscriptions
    calls = Calls("carbon_optimization", f"carbon statements of {len(subscriptions)} subscriptions", BUDGET)
    reading = AzureCarbon(access, subscriptions, calls)
    count = sum(1 for _ in reading.figures([month]))
    if reading.incomplete:
        denied = "; ".join(f"{gap.part}: {gap.reason}" for gap in reading.incomplete[:3])
        raise DeliveryError(
            f"{len(reading.incomplete)} subscriptions are denied ({denied}). They need {calls.api.right}: "
            f"{calls.api.grant}."
        )
    return f"{count:,} figures for {month}; {' '.join(reading.notices)}".rstrip("; ")


def _table(connection: Connection, access: GcpAccess) -> str:
    from offgridflow_pipeline.connectors.bigquery.client import BigQueryTable, TableName

    table = BigQueryTable(TableName.of_uri(connection.uri), access)
    return f"{table.name} is there, with {len(table.description.schema)} columns"


def _query(connection: Connection, access: GcpAccess, day: date) -> str:
    from offgridflow_pipeline.connectors.bigquery.client import BigQueryTable, TableName

    if not connection.is_feed:
        [row] = BigQueryTable(TableName.of_uri(connection.uri), access).rows(
            "SELECT MAX(usage_month) AS newest FROM {table}"
        )
        return f"the newest month is {row['newest']}"
    from offgridflow_pipeline.connectors.bigquery.source import BigQuerySource

    marks = BigQuerySource(connection, access).partition_marks(_MARKED_DAYS, day)
    if not marks:
        return f"can be queried; nothing was exported in the {_MARKED_DAYS} days before {day}"
    newest = max(marks)
    return f"can be queried; newest partition {newest}, {marks[newest][1]:,} rows, exported {marks[newest][0]}"
