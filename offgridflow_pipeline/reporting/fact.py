"""One reported figure or text: its identity, its table row, and a set of facts to look figures up in.

The id is a hash of metric, period and dimensions, so the same figure has the same id in every build and
artefact. What a metric means is data (data/metrics.csv). No figure is computed here.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cache, cached_property
from importlib import resources
from types import MappingProxyType
from typing import Any, Literal

import pyarrow as pa

from offgridflow_pipeline.lake.schemas import REPORT_FACTS

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
ValueType = Literal["number", "text", "date", "boolean"]
#: Dimension members that are no member of the data: the rest of a capped list, and what rounding left over.
REST, ROUNDING = "#rest", "#rounding"


class UnknownMetricError(KeyError):
    """The metric is not declared in data/metrics.csv."""


class FactError(ValueError):
    """Facts contradict each other or one is missing; the message names metric and dimensions."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A row of data/metrics.csv; `unit` and `decimals` are words where they depend on the report.

    `scale` is the power of ten that turns the displayed figure into the value: -2 shows a percentage.
    """

    name: str
    label: str
    value_type: ValueType
    unit: str
    decimals: str
    scale: int
    meaning: str
    source: str


@dataclass(frozen=True, slots=True)
class Fact:
    """One row of `report_facts`.

    Attributes:
        value: canonical text of the rounded value, or None with `reason`.
        exact: unrounded value as text, where one exists.
        dims: neutral axis to neutral member.
        reason: why the value is not available.
        basis: ids of the facts it is computed from.
    """

    metric: str
    period_start: date
    period_end: date
    value_type: ValueType
    value: str | None
    dims: Mapping[str, str] = field(default_factory=dict)
    exact: str | None = None
    unit: str = ""
    decimals: int | None = None
    reason: str | None = None
    is_text_block: bool = False
    basis: tuple[str, ...] = ()

    @property
    def fact_id(self) -> str:
        """Stable id; a valid XML id."""
        return fact_id(self.metric, self.period_start, self.period_end, self.dims)

    @property
    def number(self) -> Decimal:
        """The rounded value.

        Raises:
            FactError: the fact is no number or not available.
        """
        if self.value is None or self.value_type != "number":
            raise FactError(f"{self.metric} {dict(self.dims)} has no number: {self.reason or self.value_type}.")
        return Decimal(self.value)


_Place = tuple[str, date, tuple[tuple[str, str], ...]]


class FactSet:
    """The facts of one report, in order of presentation, found by metric, period and dimensions."""

    def __init__(self, facts: Iterable[Fact]) -> None:
        self.facts = tuple(facts)
        self._by_place: dict[_Place, Fact] = {}
        for fact in self.facts:
            place = _place(fact.metric, fact.period_start, fact.dims)
            if place in self._by_place:
                raise FactError(f"{fact.metric} {dict(fact.dims)} of {fact.period_start} is stated twice.")
            self._by_place[place] = fact

    def __iter__(self) -> Iterator[Fact]:
        return iter(self.facts)

    def __len__(self) -> int:
        return len(self.facts)

    @cached_property
    def period(self) -> tuple[date, date]:
        """First and last day of the report: the latest period stated."""
        return max((fact.period_start, fact.period_end) for fact in self.facts)

    def get(
        self, metric: str, dims: Mapping[str, str] | None = None, *, start: date | None = None, **members: str
    ) -> Fact | None:
        """The fact of exactly these dimensions; the report's own period unless `start` is given."""
        return self._by_place.get(_place(metric, start or self.period[0], {**(dims or {}), **members}))

    def one(
        self, metric: str, dims: Mapping[str, str] | None = None, *, start: date | None = None, **members: str
    ) -> Fact:
        """The fact of exactly these dimensions.

        Raises:
            FactError: it is not stated.
        """
        fact = self.get(metric, dims, start=start, **members)
        if fact is None:
            where = {**(dims or {}), **members}
            raise FactError(f"{metric} {where} of {start or self.period[0]} is not among the facts.")
        return fact

    def along(self, axis: str, metric: str, *, start: date | None = None, **dims: str) -> dict[str, Fact]:
        """Facts of one metric that differ in `axis` only: member to fact, in order of presentation."""
        begin = start or self.period[0]
        return {
            fact.dims[axis]: fact
            for fact in self.facts
            if (fact.metric, fact.period_start) == (metric, begin)
            and axis in fact.dims
            and {k: v for k, v in fact.dims.items() if k != axis} == dims
        }

    def table(self, tenant: str) -> pa.Table:
        """Rows of `schemas.REPORT_FACTS`."""
        month = f"{self.period[0]:%Y-%m}"
        rows = [_row(fact, order, tenant, month) for order, fact in enumerate(self.facts, 1)]
        return pa.Table.from_pylist(rows, schema=REPORT_FACTS.arrow_schema)


def fact_set(table: pa.Table) -> FactSet:
    """The facts of a `report_facts` table, in its sort order.

    Raises:
        FactError: a stored id is not that of its row, or a fact is stated twice.
    """
    facts = []
    for row in sorted(table.to_pylist(), key=lambda row: row["sort_order"]):
        fact = Fact(
            metric=row["metric"],
            period_start=row["period_start"],
            period_end=row["period_end"],
            value_type=row["value_type"],
            value=row["value"],
            dims=MappingProxyType(json.loads(row["dims"])),
            exact=row["exact_value"],
            unit=row["unit"] or "",
            decimals=row["decimals"],
            reason=row["not_available_reason"],
            is_text_block=row["is_text_block"],
            basis=tuple(row["basis_fact_ids"] or ()),
        )
        if fact.fact_id != row["fact_id"]:
            raise FactError(f"fact_id {row['fact_id']} is not that of {fact.metric} {dict(fact.dims)}; rebuild facts.")
        facts.append(fact)
    return FactSet(facts)


def fact_id(metric: str, start: date, end: date, dims: Mapping[str, str]) -> str:
    """Stable XML id of a figure: ``f-`` and 16 hexadecimal digits of a SHA-256."""
    canonical = json.dumps([metric, start.isoformat(), end.isoformat(), dict(sorted(dims.items()))], ensure_ascii=False)
    return "f-" + hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _place(name: str, start: date, dims: Mapping[str, str]) -> _Place:
    return name, start, tuple(sorted(dims.items()))


def clean_text(text: str) -> str:
    """Text that every artefact can carry: no control characters, lone surrogates or non-characters."""
    return _UNPRINTABLE.sub("", text)


@cache
def metrics() -> Mapping[str, Metric]:
    """Declared metrics by name, in file order."""
    text = resources.files(__package__).joinpath("data/metrics.csv").read_text(encoding="utf-8")
    return MappingProxyType(
        {
            row["metric"]: Metric(
                row["metric"], row["label"], _value_type(row["value_type"]), row["unit"], row["decimals"],
                int(row["scale"] or 0), row["meaning"], row["source"],
            )
            for row in csv.DictReader(text.splitlines())
        }
    )  # fmt: skip


def metric(name: str) -> Metric:
    """The declared metric.

    Raises:
        UnknownMetricError: no row of that name in data/metrics.csv.
    """
    try:
        return metrics()[name]
    except KeyError:
        raise UnknownMetricError(
            f"Metric {name!r} is not declared; add its row to reporting/data/metrics.csv."
        ) from None


def _value_type(text: str) -> ValueType:
    types: dict[str, ValueType] = {"number": "number", "text": "text", "date": "date", "boolean": "boolean"}
    return types[text]


def _row(fact: Fact, order: int, tenant: str, month: str) -> dict[str, Any]:
    return {
        "tenant_id": tenant,
        "month": month,
        "fact_id": fact.fact_id,
        "sort_order": order,
        "metric": fact.metric,
        "period_start": fact.period_start,
        "period_end": fact.period_end,
        "dims": json.dumps(dict(sorted(fact.dims.items())), ensure_ascii=False),
        "value_type": fact.value_type,
        "value": fact.value,
        "exact_value": fact.exact,
        "unit": fact.unit or None,
        "decimals": fact.decimals,
        "not_available_reason": fact.reason,
        "is_text_block": fact.is_text_block,
        "basis_fact_ids": list(fact.basis),
    }
