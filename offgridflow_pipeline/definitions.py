"""The one object that Dagster loads. Wiring only; what is wired lives in `defs`."""

from __future__ import annotations

import gc
import os
import warnings

import dagster as dg

# Read when events are written: a range run of 31 days would otherwise open a connection per event.
os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "500")
# MultiPartitionMapping and backfill_policy are beta in Dagster 1.13; we need both.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
# A run builds large trees of expressions that live as long as their query. With Python's own thresholds (700, 10, 10)
# a sixth of a run's CPU went into searching them, and every loaded module, for garbage.
gc.set_threshold(50_000, 10, 10)

from offgridflow_pipeline.defs.assets import daily, extracts, monthly, provider_figures, reports  # noqa: E402
from offgridflow_pipeline.defs.audit_anchor import audit_anchor, daily_audit_anchor  # noqa: E402
from offgridflow_pipeline.defs.billing import (  # noqa: E402
    billing_events,
    billing_reconcile,
    billing_snapshots,
    daily_billing_reconcile,
    drift,
    no_event_given_up,
)
from offgridflow_pipeline.defs.checks import LAKE_CHECKS  # noqa: E402
from offgridflow_pipeline.defs.io_manager import LakeIOManager  # noqa: E402
from offgridflow_pipeline.defs.jobs import daily_emissions, monthly_report, monthly_statements  # noqa: E402
from offgridflow_pipeline.defs.notices import hourly_notices, notices  # noqa: E402
from offgridflow_pipeline.defs.resources import Platform  # noqa: E402
from offgridflow_pipeline.defs.schedules import hourly_survey, nightly_window  # noqa: E402
from offgridflow_pipeline.defs.sensors.billing import stripe_inbox  # noqa: E402
from offgridflow_pipeline.defs.sensors.changes import changed_sources  # noqa: E402
from offgridflow_pipeline.defs.sensors.heartbeat import heartbeat  # noqa: E402
from offgridflow_pipeline.defs.sensors.jobs import job_requests  # noqa: E402
from offgridflow_pipeline.defs.sensors.outbox import outbox  # noqa: E402
from offgridflow_pipeline.defs.sensors.tenants import tenant_sync  # noqa: E402
from offgridflow_pipeline.defs.sensors.watchdog import run_watchdog  # noqa: E402
from offgridflow_pipeline.defs.source_survey import source_survey  # noqa: E402
from offgridflow_pipeline.defs.telemetry import run_traces  # noqa: E402

platform = Platform()

defs = dg.Definitions(
    assets=[*dg.load_assets_from_modules([extracts, provider_figures, daily, monthly, reports]), billing_snapshots],
    asset_checks=[*LAKE_CHECKS, *reports.REPORT_CHECKS, drift, no_event_given_up],
    jobs=[
        daily_emissions,
        monthly_statements,
        monthly_report,
        source_survey,
        audit_anchor,
        notices,
        billing_events,
        billing_reconcile,
    ],
    schedules=[hourly_survey, nightly_window, daily_audit_anchor, hourly_notices, daily_billing_reconcile],
    sensors=[tenant_sync, changed_sources, job_requests, stripe_inbox, outbox, heartbeat, run_watchdog, run_traces],
    resources={"platform": platform, "lake_io": LakeIOManager(platform=platform)},
    executor=dg.in_process_executor,
)
