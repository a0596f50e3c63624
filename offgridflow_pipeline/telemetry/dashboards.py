"""Grafana dashboards as data: ``python -m offgridflow_pipeline.telemetry.dashboards deploy/grafana`` writes the files.

A dashboard is a list of panels; ids and places are counted here. Every expression names metrics of `names` only.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

SCHEMA_VERSION = 39
JOB = 'job="offgridflow-api"'
HEIGHT = 8
COLUMNS = 24
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: title, queries (expression, legend), unit of Grafana, and its share of the width (of 24)."""

    title: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    width: int = 12
    kind: Literal["timeseries", "stat", "bargauge"] = "timeseries"
    description: str = ""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard; `name` is that of its file and part of its uid."""

    name: str
    title: str
    panels: Sequence[Panel]


def quantile(share: float, metric: str, by: str = "", *, matching: str = JOB, window: str = "5m") -> str:
    """Quantile of a histogram."""
    labels = f"le, {by}" if by else "le"
    selector = f"{{{matching}}}" if matching else ""
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{selector}[{window}])))"


REQUESTS = "http_server_request_duration_seconds"
STATEMENTS = "db_client_operation_duration_seconds"
WAITS = "db_client_connection_wait_time_seconds"
POOL = "db_client_connection_pool_name"

API = Dashboard(
    "api",
    "OffGridFlow: API",
    (
        Panel("Requests per second", [(f"sum(rate({REQUESTS}_count{{{JOB}}}[5m]))", "requests")], "reqps", 8),
        Panel(
            "Failed requests per second",
            [(f'sum(rate({REQUESTS}_count{{{JOB},http_response_status_code=~"5.."}}[5m])) or vector(0)', "5xx/s")],
            "reqps",
            8,
        ),
        Panel(
            "Error budget left, 30 days",
            [
                (
                    f'1 - ((sum(increase({REQUESTS}_count{{{JOB},http_response_status_code=~"5.."}}[30d]))'
                    f" or vector(0)) / sum(increase({REQUESTS}_count{{{JOB}}}[30d])))"
                    ' / (1 - max(offgridflow_slo_target{slo="availability"}))',
                    "left",
                )
            ],
            "percentunit",
            8,
            "stat",
            "1 = nothing used; below 0 the target is missed.",
        ),
        Panel("p50 by route", [(quantile(0.5, REQUESTS, "http_route"), "{{http_route}}")], "s"),
        Panel("p95 by route", [(quantile(0.95, REQUESTS, "http_route"), "{{http_route}}")], "s"),
        Panel("p99 by route", [(quantile(0.99, REQUESTS, "http_route"), "{{http_route}}")], "s"),
        Panel(
            "Answers by status",
            [
                (
                    f"sum by (http_response_status_code) (rate({REQUESTS}_count{{{JOB}}}[5m]))",
                    "{{http_response_status_code}}",
                )
            ],
            "reqps",
        ),
        Panel(
            "Refused by rate limits",
            [("sum by (policy) (rate(offgridflow_ratelimit_rejected_total[5m]))", "{{policy}}")],
            "reqps",
        ),
        Panel(
            "Rates that could not be counted",
            [("sum by (policy) (increase(offgridflow_ratelimit_store_failures_total[5m]))", "{{policy}}")],
        ),
        Panel(
            "Sign-ins by outcome",
            [("sum by (outcome) (increase(offgridflow_auth_attempts_total[15m]))", "{{outcome}}")],
            width=24,
        ),
    ),
)

DATABASE = Dashboard(
    "database",
    "OffGridFlow: database",
    (
        Panel(
            "Connections of the pool",
            [
                (
                    f"sum by ({POOL}, db_client_connection_state) (db_client_connection_count)",
                    "{{db_client_connection_state}}",
                ),
                (f"sum by ({POOL}) (db_client_connection_max)", "most"),
            ],
        ),
        Panel(
            "Requests that wait, and that got no connection",
            [
                (f"sum by ({POOL}) (db_client_connection_pending_requests)", "waiting"),
                (f"sum by ({POOL}) (increase(db_client_connection_timeouts_total[5m]))", "timeouts in 5 min"),
            ],
        ),
        Panel(
            "Wait for a connection",
            [(quantile(0.5, WAITS), "p50"), (quantile(0.99, WAITS), "p99")],
            "s",
        ),
        Panel(
            "Statements per second",
            [(f"sum by (db_operation_name) (rate({STATEMENTS}_count{{{JOB}}}[5m]))", "{{db_operation_name}}")],
            "ops",
        ),
        Panel(
            "Duration of statements, p99",
            [(quantile(0.99, STATEMENTS, "db_operation_name"), "{{db_operation_name}}")],
            "s",
        ),
        Panel(
            "Slowest operations, mean",
            [
                (
                    f"topk(5, sum by (db_operation_name) (rate({STATEMENTS}_sum{{{JOB}}}[5m]))"
                    f" / sum by (db_operation_name) (rate({STATEMENTS}_count{{{JOB}}}[5m])))",
                    "{{db_operation_name}}",
                )
            ],
            "s",
            kind="bargauge",
        ),
    ),
)

PIPELINE = Dashboard(
    "pipeline",
    "OffGridFlow: pipeline",
    (
        Panel("Daemon: last tick", [("max(offgridflow_dagster_heartbeat_age_seconds)", "ago")], "s", 6, "stat"),
        Panel("Oldest waiting", [("max(offgridflow_runs_oldest_queued_age_seconds)", "age")], "s", 6, "stat"),
        Panel("Last publication", [("max(offgridflow_publish_age_seconds)", "worst tenant")], "s", 6, "stat"),
        Panel("Ledgers read", [("max(offgridflow_exporter_last_success_age_seconds)", "ago")], "s", 6, "stat"),
        Panel(
            "Runs",
            [("max(offgridflow_runs_queued)", "waiting"), ("max(offgridflow_runs_active)", "at work")],
        ),
        Panel(
            "Reads of connections per hour",
            [
                (
                    "max by (connector, outcome) (increase(offgridflow_connector_syncs_total[1h]))",
                    "{{connector}} {{outcome}}",
                )
            ],
        ),
        Panel(
            "Age of the data against its target",
            [
                ("max by (connector) (offgridflow_connector_data_freshness_seconds)", "{{connector}}"),
                ("max by (connector) (offgridflow_connector_freshness_target_seconds)", "{{connector}} target"),
            ],
            "s",
        ),
        Panel(
            "Failed checks per hour",
            [
                (
                    "max by (check, severity) (increase(offgridflow_checks_failed_total[1h])) > 0",
                    "{{check}} ({{severity}})",
                )
            ],
        ),
    ),
)

EMISSIONS = Dashboard(
    "emissions",
    "OffGridFlow: emissions and reports",
    (
        Panel("Lines served, 35 days", [("max by (provider) (offgridflow_emissions_rows)", "{{provider}}")]),
        Panel("Lines without a factor", [("max by (provider) (offgridflow_emissions_unmatched_rows)", "{{provider}}")]),
        Panel(
            "Coverage of usage cost, worst tenant",
            [("min by (provider) (offgridflow_emissions_coverage_ratio)", "{{provider}}")],
            "percentunit",
        ),
        Panel("Age of the last publication", [("max(offgridflow_publish_age_seconds)", "worst tenant")], "s"),
        Panel(
            "Report artefacts per day",
            [
                (
                    "max by (format, outcome) (increase(offgridflow_report_generated_total[1d])) > 0",
                    "{{format}} {{outcome}}",
                )
            ],
        ),
        Panel(
            "From request to report",
            [
                (quantile(share, "offgridflow_report_duration_seconds", matching="", window="1d"), label)
                for share, label in ((0.5, "p50"), (0.95, "p95"))
            ],
            "s",
        ),
    ),
)

MAIL_AND_AUDIT = Dashboard(
    "mail_and_audit",
    "OffGridFlow: mail and audit",
    (
        Panel("Mails by state", [("max by (state) (offgridflow_email_outbox_depth)", "{{state}}")]),
        Panel("Oldest unsent mail", [("max(offgridflow_email_outbox_age_seconds)", "age")], "s"),
        Panel("Audit chains whole", [("min(offgridflow_audit_chain_ok)", "1 = whole")], width=12, kind="stat"),
    ),
)

BILLING = Dashboard(
    "billing",
    "OffGridFlow: billing",
    (
        Panel("Tenants by billing state", [("max by (state) (offgridflow_billing_tenants)", "{{state}}")]),
        Panel(
            "Failed payments per day",
            [("max(increase(offgridflow_billing_payment_failures_total[1d]))", "failed payments")],
        ),
        Panel("Oldest event that waits", [("max(offgridflow_billing_inbox_age_seconds)", "age")], "s"),
        Panel(
            "Events of Stripe by state",
            [("max by (state) (offgridflow_billing_inbox_depth)", "{{state}}")],
            description="dead: given up after ten attempts; replay it.",
        ),
        Panel(
            "Differences to Stripe found by the daily comparison",
            [('max(increase(offgridflow_checks_failed_total{check="billing_snapshots.drift"}[1d]))', "failed checks")],
            width=24,
        ),
    ),
)

DASHBOARDS = (API, DATABASE, PIPELINE, EMISSIONS, MAIL_AND_AUDIT, BILLING)


def rendered(dashboard: Dashboard) -> str:
    """The dashboard's file."""
    document = {
        "uid": f"ogf-{dashboard.name.replace('_', '-')}",
        "title": dashboard.title,
        "tags": ["offgridflow"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]
        },
        "panels": _placed(dashboard.panels),
    }
    return json.dumps(document, indent=2) + "\n"


def _placed(panels: Sequence[Panel]) -> list[dict[str, Any]]:
    placed: list[dict[str, Any]] = []
    x = y = 0
    for number, panel in enumerate(panels, start=1):
        if x + panel.width > COLUMNS:
            x, y = 0, y + HEIGHT
        placed.append(_document(panel, number, {"x": x, "y": y, "w": panel.width, "h": HEIGHT}))
        x += panel.width
    return placed


def _document(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": expression, "legendFormat": legend, "datasource": _DATASOURCE}
            for index, (expression, legend) in enumerate(panel.queries)
        ],
    }


def main(arguments: Sequence[str]) -> int:
    """Write every dashboard into the folder."""
    (folder,) = arguments
    for dashboard in DASHBOARDS:
        (Path(folder) / f"{dashboard.name}.json").write_text(rendered(dashboard), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
