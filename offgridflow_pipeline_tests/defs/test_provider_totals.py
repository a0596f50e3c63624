"""Bills on S3 through the assets: read once, and held against what Cost Explorer says they come to."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from urllib.parse import urlsplit

import dagster as dg
import pytest

from offgridflow_pipeline.connectors.connections import connection, to_row
from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.definitions import defs
from offgridflow_pipeline_tests.connectors.bills import cur_row, write_cur_delivery
from offgridflow_pipeline_tests.counterparts.s3 import CREDENTIAL, REGION, S3Server
from offgridflow_pipeline_tests.defs.platform_run import PlatformRun

pytestmark = [pytest.mark.slow]
TENANT = "provider-totals"
DAYS = [date(2026, 10, n) for n in range(1, 32)]
ACCOUNT = "000000000042"
UP_TO_USAGE = ("aws_billing_extract", "azure_billing_extract", "gcp_billing_extract", "focus_billing_extract",
               "control_totals", "usage_lines", "emission_lines")  # fmt: skip


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, database: Database, s3: S3Server, tmp_path: Path) -> Iterator[PlatformRun]:
    if TENANT not in {t.slug for t in database.tenants.list()}:
        database.tenants.add(TENANT, "Held against its provider", currency="USD")
    secret = json.dumps({"access_key_id": CREDENTIAL, "secret_access_key": CREDENTIAL})
    monkeypatch.setenv("OFFGRIDFLOW_SECRET_PROVIDER_TOTALS__AWS", secret)
    monkeypatch.setenv("OFFGRIDFLOW_ALLOWED_HOSTS", urlsplit(s3.endpoint).netloc)
    opened = PlatformRun(monkeypatch, database, tmp_path / "data")
    opened.add_tenants([TENANT])
    post(s3, "reset")  # moto gives equal questions equal answers for ever
    bucket = s3.new_bucket()
    deliver(s3, bucket, tmp_path)
    bill = connection(
        {
            "id": "payer",
            "kind": "cur",
            "uri": f"s3://{bucket}/prefix/report",
            "reconcile": "cost_explorer",
            "secret_ref": "env:OFFGRIDFLOW_SECRET_PROVIDER_TOTALS__AWS",
            "aws": {"region": REGION, "endpoint_url": s3.endpoint},
        }
    )
    database.connections.add(TENANT, "payer", **to_row(bill), replace=True)
    yield opened
    opened.close()


def deliver(s3: S3Server, bucket: str, folder: Path) -> None:
    """A month of one account, one row of 1.5 USD a day, in four files."""
    rows = [
        cur_row(
            identity__TimeInterval=f"{day}T00:00:00Z/{day}T23:59:59Z",
            lineItem__UsageAccountId=ACCOUNT,
            lineItem__UnblendedCost="1.5",
        )
        for day in DAYS
    ]
    write_cur_delivery(folder / "bills", [rows[n::4] for n in range(4)])
    for path in (folder / "bills").rglob("*"):
        if path.is_file():
            key = f"prefix/report/{path.relative_to(folder / 'bills').as_posix()}"
            s3.client("s3").put_object(Bucket=bucket, Key=key, Body=path.read_bytes())


def post(s3: S3Server, path: str, content: object = None) -> bytes:
    request = urllib.request.Request(
        f"{s3.endpoint}/moto-api/{path}",
        json.dumps(content).encode(),
        {"content-type": "application/json"},
        method="POST",
    )
    with urllib.request.urlopen(request) as response:
        return bytes(response.read())


def states(s3: S3Server, cost: str, *, estimated: bool = False) -> None:
    """Cost Explorer's answer to the next question: the same cost of the account on every day."""
    days = [
        {
            "TimePeriod": {"Start": str(day), "End": str(date.fromordinal(day.toordinal() + 1))},
            "Estimated": estimated,
            "Groups": [{"Keys": [ACCOUNT], "Metrics": {"UnblendedCost": {"Amount": cost, "Unit": "USD"}}}],
        }
        for day in DAYS
    ]
    post(s3, "static/ce/cost-and-usage-results", {"results": [{"ResultsByTime": days}]})


def materialise(run: PlatformRun, assets: tuple[str, ...] = UP_TO_USAGE) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def("daily_emissions").execute_in_process(
        instance=run.instance,
        raise_on_error=False,
        asset_selection=[dg.AssetKey(name) for name in assets],
        tags={
            "dagster/asset_partition_range_start": f"{DAYS[0]}|{TENANT}",
            "dagster/asset_partition_range_end": f"{DAYS[-1]}|{TENANT}",
        },
    )


def verdicts(result: dg.ExecuteInProcessResult, name: str) -> set[bool]:
    return {e.passed for e in result.get_asset_check_evaluations() if e.check_name == name}


def test_a_bill_that_equals_cost_explorer_goes_on_to_the_ledger(run: PlatformRun, s3: S3Server) -> None:
    states(s3, "1.5")
    result = materialise(run)
    assert result.success
    assert verdicts(result, "provider_total") == {True}
    assert sum(row["lines"] for row in run.totals(TENANT, "emission_lines").values()) == len(DAYS)


def test_a_bill_that_lacks_what_cost_explorer_finally_states_stops_before_the_ledger(
    run: PlatformRun, s3: S3Server, database: Database
) -> None:
    states(s3, "1.75")
    result = materialise(run)
    assert not result.success
    assert verdicts(result, "provider_total") == {False}
    assert "emission_lines" not in {event.step_key for event in result.all_events if event.is_step_success}
    (finding,) = {
        v.finding for v in database.check_ledger.list(TENANT, check_name="usage_lines.provider_total") if not v.passed
    }
    assert "account 000000000042: cost_explorer states 1.75" in finding
    assert "billed rows come to 1.5" in finding


def test_an_estimate_that_differs_informs_and_stops_nothing(run: PlatformRun, s3: S3Server) -> None:
    states(s3, "1.75", estimated=True)
    result = materialise(run)
    assert result.success
    assert verdicts(result, "provider_total") == {True}
    assert False in verdicts(result, "provider_estimate")


def test_a_silent_cost_explorer_is_told_and_the_bill_goes_on(
    run: PlatformRun, s3: S3Server, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from offgridflow_pipeline.connectors import control_totals
    from offgridflow_pipeline.connectors.errors import AccessDeniedError

    def denied(*_: object, **__: object) -> None:
        raise AccessDeniedError("ce:GetCostAndUsage is missing: add it to the role.")

    monkeypatch.setattr(control_totals, "control_totals", denied)
    result = materialise(run)
    assert result.success
    assert False in verdicts(result, "answered")
    assert "ce:GetCostAndUsage" in str(database.connections.get(TENANT, "payer").last_error)


def test_a_tenant_month_reads_every_object_of_the_bill_once(run: PlatformRun, s3: S3Server) -> None:
    post(s3, "recorder/reset-recording")
    post(s3, "recorder/start-recording")
    try:
        assert materialise(run, ("aws_billing_extract",)).success
    finally:
        post(s3, "recorder/stop-recording")
    with urllib.request.urlopen(f"{s3.endpoint}/moto-api/recorder/download-recording") as response:
        requests = [json.loads(line) for line in response.read().decode().splitlines()]
    read = Counter(urlsplit(r["url"]).path.rsplit("/", 1)[-1] for r in requests if r["method"] == "GET")
    assert {name: count for name, count in read.items() if name.endswith(".csv.gz")} == {
        f"report-{n:05d}.csv.gz": 1 for n in range(1, 5)
    }
    assert read["report-Manifest.json"] == 1
    assert sum("list-type=2" in r["url"] for r in requests) == 1
