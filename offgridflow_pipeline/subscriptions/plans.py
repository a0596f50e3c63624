"""Plans: what each allows, and which Stripe price is which plan. None is without limit.

The names are those of the four prices in the settings; the figures are `data/plans.csv`. An installation without Stripe
is self-hosted: it has one plan, `unlimited`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from typing import TYPE_CHECKING, Literal, cast, get_args

from offgridflow_pipeline.data_rows import data_rows

if TYPE_CHECKING:
    from offgridflow_pipeline.settings import Settings

PlanName = Literal["free", "basic", "pro", "enterprise", "unlimited"]
#: Formats a report can be had in, as artefacts name them.
Format = Literal["datapack", "pdf", "workbook", "ixbrl", "xbrl"]
FORMATS: frozenset[Format] = frozenset(get_args(Format))


@dataclass(frozen=True, slots=True)
class Plan:
    """What a plan allows. `rank` orders plans from least to most; `has_api`: machines may ask, with keys."""

    name: PlanName
    rank: int
    connections: int | None
    history_days: int | None
    members: int | None
    auditors: int | None
    formats: frozenset[Format]
    has_api: bool

    def earliest_day(self, history_start: date, today: date) -> date:
        """The first day that may be read, not before the start of history."""
        if self.history_days is None:
            return history_start
        return max(history_start, today - timedelta(days=self.history_days))


def plan_of(name: str) -> Plan:
    """The plan of that name.

    Raises:
        LookupError: there is none.
    """
    found = _plans().get(name)
    if found is None:
        raise LookupError(f"There is no plan {name!r}: {', '.join(_plans())}.")
    return found


def subscribable() -> tuple[Plan, ...]:
    """Plans that have a price, from least to most."""
    return tuple(plan for plan in _plans().values() if plan.name != "unlimited")


def is_configured(settings: Settings) -> bool:
    """Whether tenants subscribe here; without a Stripe key everything is unlimited."""
    return bool(settings.stripe_secret_key.get_secret_value())


def is_live(settings: Settings) -> bool:
    """Whether payments are real here: the prefix of the key says so (sk_live_, rk_live_)."""
    return settings.stripe_secret_key.get_secret_value().startswith(("sk_live_", "rk_live_"))


def prices(settings: Settings) -> Mapping[PlanName, str]:
    """Stripe price of each plan that has one in the settings."""
    stated = {plan.name: getattr(settings, f"stripe_price_{plan.name}") for plan in subscribable()}
    return {name: price for name, price in stated.items() if price}


@cache
def _plans() -> dict[str, Plan]:
    return {
        row["plan"]: Plan(
            name=cast("PlanName", row["plan"]),
            rank=rank,
            connections=_limit(row["connections"]),
            history_days=_limit(row["history_days"]),
            members=_limit(row["members"]),
            auditors=_limit(row["auditors"]),
            formats=frozenset(cast("list[Format]", row["formats"].split())),
            has_api=row["api"] == "yes",
        )
        for rank, row in enumerate(data_rows(__file__, "plans.csv"))
    }


def _limit(text: str) -> int | None:
    return None if text == "unlimited" else int(text)
