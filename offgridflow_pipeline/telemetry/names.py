"""Every metric that OffGridFlow exports: name, unit, labels, kind, and where its value comes from.

Closed both ways by tests: what is declared is emitted, and rules and dashboards name nothing else. No label ever names
a tenant, a person or a connection: questions about one tenant are answered by the portal (observability reference, 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Literal

from offgridflow_pipeline.data_rows import data_rows

Kind = Literal["counter", "gauge", "histogram"]
#: requests: the middleware around all others; pool: the connection pool; ledger: tables of PostgreSQL;
#: process: counted in this process; settings: a constant; exporter: the loop that reads the ledgers.
Source = Literal["requests", "pool", "ledger", "process", "settings", "exporter"]

PROVIDERS = ("aws", "azure", "gcp", "https", "local")
ARTEFACT_FORMATS = ("pdf", "ixbrl", "xbrl", "workbook", "datapack")
#: Every asset check, as `asset.check`; a test holds the list against the definitions.
CHECKS = tuple(row["check"] for row in data_rows(__file__, "checks.csv"))
#: States a tenant can be in; a test holds them against the entitlements.
BILLING_STATES = ("trial", "active", "grace", "restricted", "suspended", "offboarded")

HOUR = 3600
#: Billing data may be this old (CUR 36 h, Azure and GCP 48 h: observability reference, section 4), in seconds.
FRESHNESS_TARGETS = {"aws": 36 * HOUR, "azure": 48 * HOUR, "gcp": 48 * HOUR}
#: Upper bounds of report durations, seconds.
REPORT_DURATION_BOUNDS = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
#: Upper bounds of request, statement and wait durations, seconds (semantic conventions 1.44).
DURATION_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

_UNIT_SUFFIXES = {"": "", "s": "_seconds"}


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `unit` is `s` or empty (a gauge with the unit `1` would be renamed by collectors).

    `known` has the values of a label that are exported as zero before anything was counted.
    """

    name: str
    kind: Kind
    source: Source
    meaning: str
    unit: str = ""
    labels: tuple[str, ...] = ()
    known: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)

    @property
    def prometheus_name(self) -> str:
        """Name of the series in Prometheus; a histogram's has `_bucket`, `_sum` or `_count` behind it."""
        base = self.name.replace(".", "_") + _UNIT_SUFFIXES[self.unit]
        return f"{base}_total" if self.kind == "counter" else base

    @property
    def series(self) -> tuple[str, ...]:
        """Names of all its series in Prometheus."""
        if self.kind == "histogram":
            return tuple(f"{self.prometheus_name}_{part}" for part in ("bucket", "sum", "count"))
        return (self.prometheus_name,)

    @property
    def prometheus_labels(self) -> tuple[str, ...]:
        """Label names in Prometheus."""
        return tuple(label.replace(".", "_") for label in self.labels)

    def combinations(self) -> list[tuple[str, ...]]:
        """Known values of all labels, combined; empty when a label has none."""
        return list(product(*(self.known.get(label, ()) for label in self.labels))) if self.labels else []


_POOL = ("db.client.connection.pool.name",)

REQUEST_DURATION = Metric(
    "http.server.request.duration",
    "histogram",
    "requests",
    "Time from request to answer.",
    unit="s",
    labels=("http.request.method", "http.response.status_code", "http.route"),
)
OPERATION_DURATION = Metric(
    "db.client.operation.duration",
    "histogram",
    "pool",
    "Time of a database statement.",
    unit="s",
    labels=("db.operation.name",),
)
POOL_COUNT = Metric(
    "db.client.connection.count",
    "gauge",
    "pool",
    "Connections of the pool by state.",
    labels=(*_POOL, "db.client.connection.state"),
)
POOL_MAX = Metric("db.client.connection.max", "gauge", "pool", "Connections that the pool may open.", labels=_POOL)
POOL_PENDING = Metric(
    "db.client.connection.pending_requests", "gauge", "pool", "Requests that wait for a connection.", labels=_POOL
)
POOL_TIMEOUTS = Metric(
    "db.client.connection.timeouts", "counter", "pool", "Requests that got no connection in time.", labels=_POOL
)
POOL_WAIT = Metric(
    "db.client.connection.wait_time",
    "histogram",
    "pool",
    "Time until the pool gave a connection.",
    unit="s",
    labels=_POOL,
)

RUNS_QUEUED = Metric("offgridflow.runs.queued", "gauge", "ledger", "Jobs that are due and runs that wait in Dagster.")
RUNS_ACTIVE = Metric("offgridflow.runs.active", "gauge", "ledger", "Runs at work.")
RUNS_OLDEST = Metric(
    "offgridflow.runs.oldest_queued_age", "gauge", "ledger", "How long the oldest job or run waits.", unit="s"
)
HEARTBEAT_AGE = Metric(
    "offgridflow.dagster.heartbeat_age", "gauge", "ledger", "Time since the Dagster daemon last ticked.", unit="s"
)
SYNCS = Metric(
    "offgridflow.connector.syncs",
    "counter",
    "ledger",
    "Attempts to read connections.",
    labels=("connector", "outcome"),
    known={"connector": PROVIDERS, "outcome": ("success", "failure")},
)
FRESHNESS = Metric(
    "offgridflow.connector.data_freshness",
    "gauge",
    "ledger",
    "Time since the last successful read, of the connection that waits longest.",
    unit="s",
    labels=("connector",),
    known={"connector": PROVIDERS},
)
FRESHNESS_TARGET = Metric(
    "offgridflow.connector.freshness_target",
    "gauge",
    "settings",
    "How old a provider's data may be.",
    unit="s",
    labels=("connector",),
)
CHECKS_FAILED = Metric(
    "offgridflow.checks.failed",
    "counter",
    "ledger",
    "Partitions that failed an asset check.",
    labels=("check", "severity"),
    known={"check": CHECKS, "severity": ("error", "warn")},
)
PUBLISH_AGE = Metric(
    "offgridflow.publish.age",
    "gauge",
    "ledger",
    "Time since the last publication, of the tenant that waits longest.",
    unit="s",
)
EMISSION_ROWS = Metric(
    "offgridflow.emissions.rows", "gauge", "ledger", "Lines served of the last 35 days.", labels=("provider",)
)
UNMATCHED_ROWS = Metric(
    "offgridflow.emissions.unmatched_rows", "gauge", "ledger", "Those without a factor.", labels=("provider",)
)
COVERAGE = Metric(
    "offgridflow.emissions.coverage_ratio",
    "gauge",
    "ledger",
    "Share of usage cost with emissions, 0 to 1, of the worst tenant.",
    labels=("provider",),
)
REPORTS = Metric(
    "offgridflow.report.generated",
    "counter",
    "ledger",
    "Report artefacts by format and verdict; format `report` counts report jobs that failed.",
    labels=("format", "outcome"),
    known={"format": (*ARTEFACT_FORMATS, "report"), "outcome": ("valid", "invalid", "not_validated", "failed")},
)
REPORT_DURATION = Metric(
    "offgridflow.report.duration",
    "histogram",
    "ledger",
    "Time from the request of a report to its end.",
    unit="s",
    labels=("outcome",),
    known={"outcome": ("completed", "failed")},
)
OUTBOX_DEPTH = Metric(
    "offgridflow.email.outbox_depth",
    "gauge",
    "ledger",
    "Mails by state.",
    labels=("state",),
    known={"state": ("pending", "sending", "dead")},
)
OUTBOX_AGE = Metric(
    "offgridflow.email.outbox_age", "gauge", "ledger", "How long the oldest unsent mail waits.", unit="s"
)
AUDIT_CHAIN_OK = Metric(
    "offgridflow.audit.chain_ok",
    "gauge",
    "ledger",
    "1 when the last nightly verification found every audit chain whole.",
)
PAYMENT_FAILURES = Metric(
    "offgridflow.billing.payment_failures", "counter", "ledger", "Failed payments that Stripe told of."
)
INBOX_DEPTH = Metric(
    "offgridflow.billing.inbox_depth",
    "gauge",
    "ledger",
    "Events of Stripe that are not settled, by state; dead: given up.",
    labels=("state",),
    known={"state": ("pending", "processing", "dead")},
)
INBOX_AGE = Metric(
    "offgridflow.billing.inbox_age", "gauge", "ledger", "How long the oldest unsettled event waits.", unit="s"
)
BILLING_TENANTS = Metric(
    "offgridflow.billing.tenants",
    "gauge",
    "ledger",
    "Tenants by billing state; without Stripe all are active.",
    labels=("state",),
    known={"state": BILLING_STATES},
)
AUTH_ATTEMPTS = Metric(
    "offgridflow.auth.attempts",
    "counter",
    "process",
    "Sign-ins and second factors by outcome.",
    labels=("outcome",),
    known={
        "outcome": (
            "success",
            "failure",
            "throttled",
            "second_factor_required",
            "second_factor_success",
            "second_factor_failure",
        )
    },
)
RATE_LIMIT_REJECTED = Metric(
    "offgridflow.ratelimit.rejected", "counter", "process", "Requests refused by a rate limit.", labels=("policy",)
)
RATE_LIMIT_STORE_FAILURES = Metric(
    "offgridflow.ratelimit.store_failures",
    "counter",
    "process",
    "Requests whose rate could not be counted.",
    labels=("policy",),
)
SLO_TARGET = Metric(
    "offgridflow.slo.target", "gauge", "settings", "Share of requests that must succeed, 0 to 1.", labels=("slo",)
)
EXPORTER_AGE = Metric(
    "offgridflow.exporter.last_success_age", "gauge", "exporter", "Time since the ledgers were last read.", unit="s"
)

METRICS: Mapping[str, Metric] = {value.name: value for value in list(globals().values()) if isinstance(value, Metric)}


def of_source(*sources: Source) -> list[Metric]:
    """Metrics that come from the sources, in order of declaration."""
    return [metric for metric in METRICS.values() if metric.source in sources]
