"""docs/billing.md says what the program does: plans, states, events, version, days and waits."""

from __future__ import annotations

import re
from pathlib import Path

import stripe

from offgridflow_pipeline.database.money.external_events import (
    CLAIMED_AT_ONCE,
    FIRST_WAIT,
    LONGEST_WAIT,
    OUTAGE_WAIT,
    PAYLOAD_KEPT,
)
from offgridflow_pipeline.identity.rate_limits import limits_of
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline.subscriptions.billing_mails import DUNNING_DAYS
from offgridflow_pipeline.subscriptions.derivation import GRACE, READABLE_AFTER_END
from offgridflow_pipeline.subscriptions.entitlements import EVERY_STATE
from offgridflow_pipeline.subscriptions.event_bodies import HANDLED
from offgridflow_pipeline.subscriptions.gateway import PINNED_API_VERSION
from offgridflow_pipeline.subscriptions.plans import Plan, subscribable

GUIDE = (Path(__file__).parents[1] / "docs" / "billing.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """Cells of the table below the heading, without its head."""
    section = GUIDE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def shown(limit: int | None) -> str:
    return "unlimited" if limit is None else str(limit)


def column(plan: Plan) -> list[str]:
    """What the guide says of a plan, from top to bottom."""
    order = ("datapack", "pdf", "workbook", "ixbrl", "xbrl")
    return [
        shown(plan.connections),
        shown(plan.history_days),
        f"{shown(plan.members)} / {shown(plan.auditors)}",
        ", ".join(name for name in order if name in plan.formats),
        "yes" if plan.has_api else "no",
        str(limits_of(f"tenant.{plan.name}")[0].quota),
    ]


def test_the_plans_are_those_of_the_table() -> None:
    told = list(zip(*(row[1:] for row in rows("Plans")), strict=True))
    assert [list(cells) for cells in told] == [column(plan) for plan in subscribable()]


def test_every_state_has_a_row_in_its_order() -> None:
    assert [row[0].strip("`") for row in rows("States")] == list(EVERY_STATE)


def test_the_endpoint_is_made_with_exactly_the_events_that_are_handled_in_the_pinned_version() -> None:
    assert set(re.findall(r"enabled_events\[\]=([a-z_.]+)", GUIDE)) == HANDLED
    assert set(re.findall(r"api_version=(\S+)", GUIDE)) == {PINNED_API_VERSION}
    assert f"(`{PINNED_API_VERSION}`)" in GUIDE
    assert stripe.api_version == PINNED_API_VERSION, "read docs/billing.md, then make the endpoint anew"


def test_days_waits_and_sizes_are_those_of_the_program() -> None:
    days = f"{', '.join(map(str, DUNNING_DAYS[:-1]))} and {DUNNING_DAYS[-1]}"
    for text in (
        f"for {GRACE.days} days since the invoice is due",
        f"mails on days {days}",
        f"read and export for {READABLE_AFTER_END.days} days",
        f"batches of {CLAIMED_AT_ONCE}",
        f"again after {FIRST_WAIT.seconds} s",
        f"again every {OUTAGE_WAIT.seconds // 60} minutes, for as long as it takes",
        f"up to {LONGEST_WAIT.seconds // 3600} h",
        f"kept for {PAYLOAD_KEPT.days} days after they were settled",
        f"{Settings.model_fields['stripe_trial_days'].default}: trial",
    ):
        assert text in GUIDE, text
