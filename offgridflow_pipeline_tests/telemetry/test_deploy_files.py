"""Rules, dashboards, collector and runbooks: they parse, they fire, and they name what is exported and nothing else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from offgridflow_pipeline.telemetry import dashboards, names

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yml"
#: Made by Prometheus itself.
OF_PROMETHEUS = frozenset({"up"})


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


ALERTS = [rule for rule in rules() if "alert" in rule]
RECORDED = {rule["record"] for rule in rules() if "record" in rule}


def expressions() -> Iterator[tuple[str, str]]:
    for rule in rules():
        yield rule.get("alert") or rule["record"], rule["expr"]
    for dashboard in dashboards.DASHBOARDS:
        for panel in dashboard.panels:
            for expression, _ in panel.queries:
                yield f"{dashboard.name}: {panel.title}", expression


def selectors(node: Any) -> Iterator[tuple[str, set[str]]]:
    """Names of metrics and of the labels that they are selected by."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node.name, {matcher.name for matcher in node.matchers.matchers}
    for child in ("expr", "lhs", "rhs", "args", "vector_selector", "param"):
        found = getattr(node, child, None)
        for part in found if isinstance(found, list) else [found]:
            if part is not None and not isinstance(part, str | float):
                yield from selectors(part)


@pytest.mark.parametrize(("place", "expression"), list(expressions()))
def test_every_expression_parses_and_names_declared_metrics_and_labels(place: str, expression: str) -> None:
    declared = {series: set(metric.prometheus_labels) for metric in names.METRICS.values() for series in metric.series}
    found = list(selectors(promql_parser.parse(expression)))
    assert found, place
    for name, labels in found:
        if name in RECORDED | OF_PROMETHEUS:
            continue
        assert name in declared, place
        assert labels <= declared[name] | {"job", "le"}, place


def test_every_declared_metric_is_shown_or_alerted_on() -> None:
    used = {name for _, expression in expressions() for name, _ in selectors(promql_parser.parse(expression))}
    unused = [metric.name for metric in names.METRICS.values() if not used & set(metric.series)]
    assert unused == []


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian package prometheus); the expressions are parsed all the same")
    return subprocess.run([program, *arguments], cwd=RULES.parent, capture_output=True, text=True, check=False)


def test_prometheus_accepts_rules_and_configuration() -> None:
    checked = promtool("check", "config", "prometheus.yml")
    assert checked.returncode == 0, checked.stderr


def test_every_alert_fires_when_it_should_and_none_in_a_healthy_installation() -> None:
    tested = promtool("test", "rules", "rules_test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_every_alert_has_a_test_that_fires_it_and_a_place_in_the_quiet_run() -> None:
    tests = yaml.safe_load((RULES.parent / "rules_test.yml").read_text())["tests"]
    fired, quiet = set(), set()
    for case in (case for test in tests for case in test.get("alert_rule_test", [])):
        (fired if case["exp_alerts"] else quiet).add(case["alertname"])
    assert fired == quiet == {rule["alert"] for rule in ALERTS}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_has_summary_severity_and_a_runbook(rule: dict[str, Any]) -> None:
    assert rule["annotations"]["summary"]
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"
    text = (ROOT / rule["annotations"]["runbook_url"]).read_text()
    for heading in ("## What it means", "## What to look at", "## What to do"):
        assert heading in text


def test_every_runbook_belongs_to_an_alert() -> None:
    assert {path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")} == {rule["alert"] for rule in ALERTS}


@pytest.mark.parametrize("dashboard", dashboards.DASHBOARDS, ids=lambda dashboard: dashboard.name)
def test_the_dashboard_files_are_current(dashboard: dashboards.Dashboard) -> None:
    file = DEPLOY / "grafana" / f"{dashboard.name}.json"
    assert file.read_text() == dashboards.rendered(dashboard), (
        "run `python -m offgridflow_pipeline.telemetry.dashboards deploy/grafana`"
    )


def test_no_other_dashboard_lies_there() -> None:
    found = {path.stem for path in (DEPLOY / "grafana").glob("*.json")}
    assert found == {dashboard.name for dashboard in dashboards.DASHBOARDS}


@pytest.mark.parametrize("dashboard", dashboards.DASHBOARDS, ids=lambda dashboard: dashboard.name)
def test_panels_have_ids_of_their_own_and_do_not_overlap(dashboard: dashboards.Dashboard) -> None:
    document = json.loads(dashboards.rendered(dashboard))
    panels = document["panels"]
    assert document["schemaVersion"] == dashboards.SCHEMA_VERSION
    assert re.fullmatch(r"[a-z-]{1,40}", document["uid"])
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < dashboards.COLUMNS


def test_the_collector_has_no_exporter_that_is_gone_and_uses_what_it_declares() -> None:
    found = yaml.safe_load((DEPLOY / "otel" / "collector.yaml").read_text())
    assert set(found["exporters"]) == {"otlp", "debug"}
    for pipeline in found["service"]["pipelines"].values():
        for part in ("receivers", "processors", "exporters"):
            assert set(pipeline[part]) <= set(found[part])


def test_no_label_names_a_tenant_a_person_or_a_connection() -> None:
    forbidden = ("tenant", "user", "email", "connection_id", "slug", "principal", "key")
    assert not [m.name for m in names.METRICS.values() for label in m.labels if any(f in label for f in forbidden)]


def test_gauges_have_no_unit_that_collectors_would_put_into_the_name() -> None:
    assert {metric.unit for metric in names.METRICS.values()} <= {"", "s"}
