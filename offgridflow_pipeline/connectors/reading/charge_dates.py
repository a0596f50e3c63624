"""UTC date of a row's charge period, per header dialect: which column tells it and how its writer spells dates.

One function per dialect returns SQL; a text no spelling fits stops the reading with object, row, column and
cure (billing-feeds.md section 3). What a charge period means is decided in `usage`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from offgridflow_pipeline.connectors.feeds import Dialect
from offgridflow_pipeline.connectors.reading.refusals import refusal
from offgridflow_pipeline.connectors.reading.relation import ROW, LocalObject, Relation

_MISSING = "NULL::VARCHAR"


@dataclass(frozen=True, slots=True)
class ChargeDate:
    """SQL of the text that tells the day, SQL of the DATE it means (null when it is none), and for messages
    the column as delivered and the spellings that are understood.
    """

    text: str
    day: str
    header: str
    spelling: str


def usage_date(item: LocalObject, relation: Relation, spoken: Dialect) -> str:
    """SQL of the row's DATE; a row whose date cannot be told is refused."""
    found = _CHARGE_DATES[spoken](relation)
    wrong = refusal(item, found.header, found.text, f"is not a date like {found.spelling}")
    return f"coalesce({found.day}, CASE WHEN {ROW} > 0 THEN {wrong}::DATE END)"


def _cur(relation: Relation) -> ChargeDate:
    """The start of the time interval (UTC), else the usage start date of reports without intervals."""
    parts = [relation.columns.get(c) for c in ("identity_time_interval", "line_item_usage_start_date")]
    start = f"coalesce({', '.join(p for p in parts if p)})" if any(parts) else _MISSING
    header = relation.headers.get("identity_time_interval", "lineItem/UsageStartDate")
    return ChargeDate(start, f"try_cast(left({start}, 10) AS DATE)", header, "2026-11-01T00:00:00Z")


def _azure(relation: Relation) -> ChargeDate:
    """``Date`` of cost details: MM/DD/YYYY with or without leading zeros, ISO, or the number yyyymmdd."""
    text = relation.columns["Date"]
    american = f"try_strptime(split_part({text}, ' ', 1), '%m/%d/%Y')::DATE"
    day = (
        f"CASE WHEN regexp_full_match({text}, '\\d{{1,2}}/\\d{{1,2}}/\\d{{4}}( .*)?') THEN {american} "
        f"WHEN regexp_full_match({text}, '\\d{{8}}') THEN try_strptime({text}, '%Y%m%d')::DATE "
        f"WHEN regexp_full_match({text}, '\\d{{4}}-\\d{{2}}-\\d{{2}}([ T].*)?') "
        f"THEN try_cast(left({text}, 10) AS DATE) END"
    )
    return ChargeDate(text, day, relation.headers["Date"], "11/30/2026 (month first), 2026-11-30 or 20261130")


def _focus(relation: Relation) -> ChargeDate:
    """The start of the charge period, which may state an offset from UTC."""
    start = relation.columns["ChargePeriodStart"]
    zone = f"substr({start}, 20)"
    day = (
        f"CASE WHEN contains({zone}, '+') OR contains({zone}, '-') "
        f"THEN timezone('UTC', try_cast({start} AS TIMESTAMPTZ))::DATE ELSE try_cast(left({start}, 10) AS DATE) END"
    )
    return ChargeDate(start, day, relation.headers["ChargePeriodStart"], "2026-11-01T00:00:00Z")


def _gcp(relation: Relation) -> ChargeDate:
    """The start of the usage window; tools that export it write ``Z``, ``+00:00``, `` UTC`` or nothing, all UTC."""
    start = relation.columns["usage_start_time"]
    day = (
        f"CASE WHEN length({start}) > 19 THEN timezone('UTC', try_cast({start} AS TIMESTAMPTZ))::DATE "
        f"ELSE try_cast({start} AS TIMESTAMP)::DATE END"
    )
    return ChargeDate(start, day, relation.headers["usage_start_time"], "2026-11-01T00:00:00Z")


_CHARGE_DATES: dict[Dialect, Callable[[Relation], ChargeDate]] = {
    "cur": _cur,
    "azure": _azure,
    "gcp": _gcp,
    "focus": _focus,
}
