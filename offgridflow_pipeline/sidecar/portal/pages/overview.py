"""The overview of a month, its emissions by dimension, and how complete and checked the figures are."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Response

from offgridflow_pipeline.database.pipeline.emissions_reads import DISPOSITIONS
from offgridflow_pipeline.identity.permissions import Permission
from offgridflow_pipeline.months import month_days
from offgridflow_pipeline.sidecar.entrance.authorization import Authorization, requires, signed_in
from offgridflow_pipeline.sidecar.portal import charts, figures
from offgridflow_pipeline.sidecar.portal.navigation import landing
from offgridflow_pipeline.sidecar.portal.rendering import language_for, page, see_other
from offgridflow_pipeline.sidecar.portal.texts import Texts

if TYPE_CHECKING:
    from offgridflow_pipeline.sidecar.entrance.caller import Caller
    from offgridflow_pipeline.sidecar.portal.figures import Month

router = APIRouter(include_in_schema=False)
#: Views of the emissions page, and what the overview shows of them: at most so many members of each.
DIMENSIONS = ("provider", "scope", "service", "region", "account")
OVERVIEW_SPLITS = {"provider": None, "scope": None, "service": 6, "region": 6}


@router.get("/")
def overview(auth: Annotated[Authorization, signed_in(tenant=True)], month: str = "") -> Response:
    """Both totals of a month side by side, its trend, its parts, and how final they are."""
    with auth.transaction() as caller:
        if not caller.may(Permission.EMISSIONS_READ):
            return see_other(landing(caller))
        months, current = _months(caller, month)
        values = _overview(caller, months, current, auth) if current else {}
    return page(auth.request, "overview.html", caller, months=months, current=current, **values)


@router.get("/emissions")
def emissions(
    auth: Annotated[Authorization, requires(Permission.EMISSIONS_READ)], by: str = "provider", month: str = ""
) -> Response:
    """One month by members of a dimension."""
    dimension = by if by in DIMENSIONS else "provider"
    with auth.transaction() as caller:
        months, current = _months(caller, month)
        slices = figures.breakdown(caller, current.month, dimension, limit=200) if current else []
    return page(
        auth.request, "emissions.html", caller, months=months, current=current, by=dimension,
        dimensions=DIMENSIONS, slices=slices, bar=charts.share_bar,
    )  # fmt: skip


@router.get("/quality")
def quality(auth: Annotated[Authorization, requires(Permission.EMISSIONS_READ)], month: str = "") -> Response:
    """The bill by disposition, and the verdicts of checks."""
    with auth.transaction() as caller:
        months, current = _months(caller, month)
        bills: list[figures.Bill] = []
        checks: list[dict[str, Any]] = []
        if current:
            days = month_days(current.month)
            bills = figures.bills(caller.database.emissions.coverage(caller.tenant, days[0], days[-1]))
            checks, _ = caller.database.emissions.verdicts_and_sources(caller.tenant, days[0], days[-1])
    texts = Texts(language_for(auth.request, caller))
    drawn = [
        (bill, charts.split_bar(
            f"bill-{number}", list(bill.costs.items()), texts("chart.bill_title"), texts("chart.bill_desc")
        ))
        for number, bill in enumerate(bills)
    ]  # fmt: skip
    return page(
        auth.request, "quality.html", caller, months=months, current=current, coverage=drawn,
        dispositions=DISPOSITIONS, checks=[_dated(check, "recorded_at") for check in checks],
    )  # fmt: skip


def _overview(caller: Caller, months: list[Month], current: Month, auth: Authorization) -> dict[str, Any]:
    texts = Texts(language_for(auth.request, caller))
    days = month_days(current.month)
    checks, sources = caller.database.emissions.verdicts_and_sources(caller.tenant, days[0], days[-1])
    last = figures.last_day(caller, current.month)
    place = months.index(current)
    previous = months[place - 1] if place else None
    comparable = previous is not None and last == days[-1]
    before = previous.total if previous is not None and comparable else None
    return {
        "previous": previous,
        "is_partial": last != days[-1],
        "change_location": figures.changed(current.total.location_kg, before.location_kg if before else None),
        "change_market": figures.changed(current.total.market_kg, before.market_kg if before else None),
        "reasons": [] if current.closed else _reasons(texts, last, days[-1], checks, sources),
        "chart": charts.trend_chart(months, texts),
        "providers": list(dict.fromkeys(name for month in months for name in month.providers)),
        "composition": _composition(current, texts),
        "splits": [
            (dimension, figures.with_emissions(figures.breakdown(caller, current.month, dimension, limit)))
            for dimension, limit in OVERVIEW_SPLITS.items()
        ],
        "coverage": figures.bills(caller.database.emissions.coverage(caller.tenant, days[0], days[-1])),
        "sources": [_dated(source, "last_success_at") for source in sources],
        "bar": charts.share_bar,
    }


def _composition(current: Month, texts: Texts) -> object:
    parts = charts.component_parts(current.total)
    amounts = dict(parts)
    description = texts(
        "chart.split_desc",
        use=texts.tonnes(amounts["use_phase"]),
        embodied=texts.tonnes(amounts["embodied"]),
        upstream=texts.tonnes(amounts["upstream"]),
    )
    return charts.split_bar("composition", parts, texts("chart.split_title"), description)


def _reasons(
    texts: Texts, last: date | None, end: date, checks: list[dict[str, Any]], sources: list[dict[str, Any]]
) -> list[str]:
    """Why the month may still change, most important first."""
    found = [texts("reason.open")]
    if last is not None and last < end:
        found.append(texts("reason.days", day=texts.day(last)))
    for source in sources:
        if source["status"] in {"failing", "paused"}:
            found.append(texts(f"reason.{source['status']}", connection=source["connection_id"]))
    if count := len(figures.failing(checks)):
        found.append(texts.count("overview.failing_checks", count))
    return found


def _months(caller: Caller, wanted: str) -> tuple[list[Month], Month | None]:
    """The months of the trend and the one shown: the wanted one, else the last that has ended, else the last."""
    today = datetime.now(UTC).date()
    this_month = f"{today:%Y-%m}"
    months = figures.trend(caller, this_month)
    if _is_month(wanted) and wanted not in {month.month for month in months}:
        months = figures.trend(caller, wanted) or months
    if not months:
        months = figures.trend(caller, this_month, figures.MONTHS_OF_HISTORY)[-figures.MONTHS_OF_TREND :]
    if not months:
        return [], None
    chosen = next((month for month in months if month.month == wanted), None)
    ended = [month for month in months if month.month < this_month]
    return months, chosen or (ended or months)[-1]


def _is_month(text: str) -> bool:
    try:
        return bool(month_days(text))
    except ValueError:
        return False


def _dated(row: dict[str, Any], name: str) -> dict[str, Any]:
    """The row with the moment of that name as one: documents hold it as text."""
    value = row[name]
    return {**row, name: datetime.fromisoformat(value) if isinstance(value, str) else value}
