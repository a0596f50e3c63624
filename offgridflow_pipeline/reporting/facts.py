"""`report_facts`: every figure and text of a report, rounded once, from the month's inventory.

The order of the rows is the order of presentation. Statement, breakdowns and quality are computed in the
modules beside this one; texts come from data/texts. Artefacts print these rows and compute nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from decimal import Decimal, localcontext
from functools import cache
from importlib import resources
from operator import itemgetter
from string import Template

import pyarrow as pa

from offgridflow_pipeline.reporting.breakdowns import breakdown_facts
from offgridflow_pipeline.reporting.fact import Fact, FactSet, clean_text, fact_set, metric, metrics
from offgridflow_pipeline.reporting.profile import ReportProfile
from offgridflow_pipeline.reporting.quality import currencies, fact_of, quality_facts
from offgridflow_pipeline.reporting.rounding import EXACT, rounded
from offgridflow_pipeline.reporting.statement import (
    COMPONENTS,
    TOTALS,
    MonthInventory,
    Statement,
)
from offgridflow_pipeline.reporting.trail import TRAIL_METRICS, TRAIL_TEXT, TrailAnchor, trail_facts

EDITION = "Cloud footprint"
RUN_METRIC = "run_id"
#: What tells when the facts were built, not what they say.
_OF_THE_BUILD = (RUN_METRIC, *TRAIL_METRICS)
_OF_THE_TRAIL = frozenset((*TRAIL_METRICS, TRAIL_TEXT))
#: Months before the reported one that a trend shows.
TREND_MONTHS = 23
_RESTATEMENTS = {
    "provisional": "None: the month is still open.",
    "final": "None in this edition.",
    "restated": "This edition replaces an issued one; the register of reports names both and the cause.",
    "superseded": "A later edition replaces this one; the register of reports names both and the cause.",
}
_NOT_DECLARED = "Not declared by the entity"


class ReportFactsError(ValueError):
    """The inventories do not make one report; the message names the cause and the cure."""


def report_facts(
    inventory: pa.Table,
    profile: ReportProfile,
    *,
    previous: Sequence[pa.Table] = (),
    anchor: TrailAnchor | None = None,
) -> pa.Table:
    """The facts of one month's report, as rows of `schemas.REPORT_FACTS`.

    Args:
        inventory: `ghg_inventory` of the reported month.
        profile: entity and run.
        previous: `ghg_inventory` of earlier months, any order; empty tables are skipped.
        anchor: the newest anchor that covers the tenant's audit log, None before the first.

    Raises:
        ReportFactsError: no inventory rows, another tenant, or a month stated twice or not before the
            reported one.
    """
    month = _month_of(inventory, profile)
    earlier = _earlier(previous, month, profile)
    statement = Statement(month, profile.mass_decimals)
    before = [Statement(past, profile.mass_decimals) for past in earlier]
    facts = [
        *_identity(month, profile),
        *statement.facts,
        *_derived(month, statement, before[0] if before and _follows(earlier[0], month) else None),
        *(fact for past in before for fact in past.comparatives),
        *breakdown_facts(month, statement, profile.mass_decimals),
        *quality_facts(month),
        *_texts(month, profile),
        *trail_facts(*month.days, anchor),
    ]
    return FactSet(facts).table(profile.tenant)


def unchanged_since(earlier: pa.Table, rows: pa.Table) -> bool:
    """Whether the facts say what the earlier ones said, but for the run and the audit anchor they were built at.

    Built again, they are then the same report: the earlier rows stand, and with them every artefact's bytes. The first
    anchor makes another report, because the earlier one says that there is none. Facts of a release that knew no anchor
    say nothing of it: they stand too.
    """
    unknown = _OF_THE_TRAIL.difference(earlier["metric"].to_pylist())
    return _compared(earlier) == _compared(rows, but=unknown)


def run_of(facts: pa.Table) -> str:
    """The run that first built these facts; empty when they were built outside of one."""
    return next((str(row["value"] or "") for row in facts.to_pylist() if row["metric"] == RUN_METRIC), "")


def _compared(facts: pa.Table, but: Set[str] = frozenset()) -> list[dict[str, object]]:
    """The rows in order; of what tells when they were built counts whether it is known, not what it is."""
    rows = sorted((row for row in facts.to_pylist() if row["metric"] not in but), key=itemgetter("sort_order"))
    # What is left out must not count by the numbers of the rows after it.
    return [{**row, **_told(row), "sort_order": place} for place, row in enumerate(rows)]


def _told(row: Mapping[str, object]) -> dict[str, object]:
    return {"value": row["value"] is not None} if row["metric"] in _OF_THE_BUILD else {}


def tie_out(facts: pa.Table, inventory: pa.Table) -> list[str]:
    """Differences between the statement and the inventory beyond rounding; empty when they tie.

    A total of n rounded leaves may differ from the exact sum by n half units of the last place.
    """
    found = []
    stated, month = fact_set(facts), MonthInventory.of(inventory)
    for name, measures in COMPONENTS.items():
        total = stated.one(TOTALS[name])
        leaves = [
            f for f in stated if f.metric == name and "component" in f.dims and "cloud_provider" in f.dims and f.value
        ]
        known = [month.total[m] for m in measures.values() if month.total[m] is not None]
        if total.value is None or total.decimals is None:
            if known:
                found.append(f"{TOTALS[name]} is not available but the inventory has {sum(known)} kg.")
            continue
        with localcontext(EXACT):
            exact = sum(known, Decimal(0)) / 1000
            tolerance = len(leaves) * Decimal(5).scaleb(-total.decimals - 1)
            if abs(total.number - exact) > tolerance:
                found.append(f"{TOTALS[name]} states {total.number} t, the inventory has {exact} t.")
    return found


def _month_of(inventory: pa.Table, profile: ReportProfile) -> MonthInventory:
    tenants = set(inventory.column("tenant_id").to_pylist())
    if tenants != {profile.tenant}:
        raise ReportFactsError(
            f"The inventory holds tenants {sorted(tenants)}, the profile is {profile.tenant!r}; "
            "materialise ghg_inventory of that tenant and month first."
        )
    months = set(inventory.column("month").to_pylist())
    if len(months) != 1:
        raise ReportFactsError(f"One month per inventory, found {sorted(months)}; read one partition at a time.")
    return MonthInventory.of(inventory)


def _earlier(previous: Sequence[pa.Table], month: MonthInventory, profile: ReportProfile) -> list[MonthInventory]:
    """Earlier months, latest first."""
    found = [_month_of(table, profile) for table in previous if table.num_rows]
    found.sort(key=lambda past: past.month, reverse=True)
    months = [past.month for past in found]
    if len(set(months)) != len(months) or any(name >= month.month for name in months):
        raise ReportFactsError(f"Months {months} do not lie before {month.month}, each once.")
    return found[:TREND_MONTHS]


def _follows(past: MonthInventory, month: MonthInventory) -> bool:
    return (month.days[0] - past.days[1]).days == 1


def _identity(month: MonthInventory, profile: ReportProfile) -> Iterator[Fact]:
    start, end = month.days
    texts: Mapping[str, tuple[str | None, str]] = {
        "entity_name": (profile.display_name, ""),
        "lei": (profile.lei, "The entity has not given one"),
        "edition": (EDITION, ""),
        "status": (profile.status, ""),
        "assurance_level": ("none", ""),
        "consolidation_approach": (profile.consolidation_approach, _NOT_DECLARED),
        "base_year": (None, _NOT_DECLARED),
        "gwp_source": (profile.gwp_source, "As stated by the source of each factor"),
        "method_name": (month.total["method_id"], "No ledger lines in this month"),
        "factor_set": (profile.factor_set_name, "No factor set named"),
        "factor_set_sha": (month.total["factor_set_sha"], "No ledger lines in this month"),
        "run_id": (profile.run_id, "Built outside a run"),
        "book_of_record": (month.total["book_of_record"], ""),
    }
    for name, (text, reason) in texts.items():
        value = clean_text(text) if text else None
        yield Fact(name, start, end, "text", value, reason=None if value else reason)
    yield Fact("period_start_date", start, end, "date", start.isoformat())
    yield Fact("period_end_date", start, end, "date", end.isoformat())


def _derived(month: MonthInventory, statement: Statement, before: Statement | None) -> Iterator[Fact]:
    """Interval, change and intensity: computed from rounded totals (xbrl.md section 6.4)."""
    yield statement.number(
        "uncertainty_95", None, reason="Spreads per factor group are not carried into the month in this edition"
    )
    names = {"change_location": "scope3_location", "change_market": "scope3_market"}
    for name, basis in names.items():
        now, then = statement.totals[basis], before.totals[basis] if before else None
        change = None
        if then and then.value is not None and now.value is not None and then.number:
            with localcontext(EXACT):
                change = rounded(now.number / then.number - 1, 4)
        reason = "No earlier month to compare with" if before is None else "The month before has no emissions"
        yield fact_of(month, name, change, decimals=4, reason=reason, basis=[f for f in (now, then) if f])
    yield _cost_intensity(month, statement)
    yield fact_of(
        month, "intensity_revenue_location", None, decimals=8, unit="", reason="Net revenue is not known to OffGridFlow"
    )
    yield fact_of(month, "primary_data_share", None, decimals=4, reason="No provider statements in this edition")


def _cost_intensity(month: MonthInventory, statement: Statement) -> Fact:
    billed, total = currencies(month), statement.totals["scope3_location"]
    if len(billed) != 1 or total.value is None:
        reason = f"Billed in {len(billed)} currencies" if len(billed) > 1 else "No billed emissions"
        return fact_of(month, "intensity_cost_location", None, decimals=8, unit="", reason=reason)
    (currency,) = billed
    cost = rounded(month.breakdown("cost")[0]["billed_cost"], 2)
    with localcontext(EXACT):
        value = rounded(total.number / cost, 8) if cost > 0 else None
    unit = f"tCO2e_per_{currency}"
    return fact_of(
        month, "intensity_cost_location", value, decimals=8, unit=unit, reason="No positive billed cost", basis=[total]
    )


def _texts(month: MonthInventory, profile: ReportProfile) -> Iterable[Fact]:
    start, end = month.days
    values = {
        "factor_set": clean_text(profile.factor_set_name) or "the pinned factor set",
        "factor_set_sha": month.total["factor_set_sha"][:12],
        "method": month.total["method_id"] or "ofg-1",
        "decimals": str(profile.mass_decimals),
        "restatement": _RESTATEMENTS[profile.status],
    }
    for name in _text_names():
        text = Template(_text(name)).substitute(values)
        yield Fact(name, start, end, metric(name).value_type, text, is_text_block=True)
    if sources := _attributions(month):
        yield Fact("text_attributions", start, end, "text", "\n\n".join(sources), is_text_block=True)


def _attributions(month: MonthInventory) -> list[str]:
    """What the licences of the factors used ask to be printed, each once."""
    details = (json.loads(row["detail"] or "{}") for row in month.breakdown("factor"))
    return sorted({clean_text(detail["attribution"]) for detail in details if detail.get("attribution")})


@cache
def _text_names() -> tuple[str, ...]:
    folder = resources.files(__package__).joinpath("data/texts")
    return tuple(name for name in metrics() if folder.joinpath(f"{name}.txt").is_file())


@cache
def _text(name: str) -> str:
    return resources.files(__package__).joinpath(f"data/texts/{name}.txt").read_text(encoding="utf-8").strip()
