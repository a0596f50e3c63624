"""A figure of a carbon statement, and figures as rows of `schemas.PROVIDER_STATEMENTS`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal, InvalidOperation
from typing import Literal

import pyarrow as pa

from offgridflow_pipeline.connectors.errors import BillingObjectError
from offgridflow_pipeline.lake.schemas import MASS, PROVIDER_STATEMENTS

Scope = Literal["1", "2", "3", "total"]
Basis = Literal["location", "market", "none", "provider_unspecified"]

#: Kilograms per unit that a provider states; MTCO2e are metric tonnes (billing-feeds.md 4.8).
KG_PER_UNIT = {"MTCO2e": Decimal(1000), "kgCO2e": Decimal(1)}
#: Region names that are none.
_NO_REGION = frozenset({"", "global", "unassigned", "unknown", "none"})
#: Enough digits that no sum is rounded before it is stored.
_EXACT = Context(prec=120)
#: 10^20 tonnes is no emission of anybody, and what is larger fits no column.
_LARGEST_EXPONENT = 20
_SMALLEST = Decimal(1).scaleb(-MASS.scale)
#: Columns of a row's key, in the order of `Figure`.
_KEY = (
    "month", "BillingAccountId", "SubAccountId", "RegionId", "x_ServiceCode", "model_version", "scope", "basis",
)  # fmt: skip
_Key = tuple[str, str | None, str | None, str | None, str | None, str, Scope, Basis]


@dataclass(frozen=True, slots=True)
class Figure:
    """One stated figure; None stands for what the statement does not attribute. `month` is ``YYYY-MM``."""

    month: str
    billing_account_id: str | None
    sub_account_id: str | None
    region_id: str | None
    service_code: str | None
    model_version: str
    scope: Scope
    basis: Basis
    co2e_kg: Decimal
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class Incomplete:
    """A part of a month that the provider denied, and why."""

    month: str
    part: str
    reason: str


@dataclass(frozen=True, slots=True)
class StatementRead:
    """What one reading found: rows of `schemas.PROVIDER_STATEMENTS`, remarks for people, and what was denied."""

    rows: pa.Table
    notices: tuple[str, ...] = ()
    incomplete: tuple[Incomplete, ...] = ()


def kilograms(value: object, unit: object, *, source: str, row: int, column: str) -> Decimal:
    """The mass in kg, exactly; doubles count as their shortest decimal text.

    Raises:
        BillingObjectError: the value is no mass, or the unit is missing or none we know.
    """
    try:
        number = Decimal(repr(value)) if isinstance(value, float) else Decimal(str(value).strip())
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or number.adjusted() > _LARGEST_EXPONENT:
        raise BillingObjectError(
            source, f"{str(value)[:80]!r} is no mass", "Correct it and deliver again", row=row, column=column
        )
    if unit not in KG_PER_UNIT:
        raise BillingObjectError(
            source,
            f"the unit is {str(unit or '')[:40]!r}, known are {', '.join(KG_PER_UNIT)}",
            "A mass without its unit cannot be used",
            row=row,
            column=column,
        )
    return _EXACT.multiply(number, KG_PER_UNIT[str(unit)])


def region_code(text: object) -> str | None:
    """A provider's region as it codes it: lower case, no blanks; None for global and unknown ones."""
    code = "".join(str(text or "").lower().split())
    return None if code in _NO_REGION else code


def as_table(
    figures: Iterable[Figure],
    *,
    tenant: str,
    connection_id: str,
    provider: str,
    source: str,
    retrieved_at: datetime,
    run_id: str,
) -> pa.Table:
    """The figures as rows, those of one key added up, sorted by key. Masses are rounded to 10^-12 kg at the end.

    `statement_id` is the SHA-256 of the key columns, the mass and its completeness: the same statement read twice
    has the same ids.
    """
    sums = _added(figures)
    keys = sorted(sums, key=lambda key: tuple(part or "" for part in key))
    found = [(_EXACT.quantize(mass, _SMALLEST), is_complete) for mass, is_complete in (sums[key] for key in keys)]
    origin = (connection_id, provider, source)
    columns: dict[str, list[object]] = {name: [key[i] for key in keys] for i, name in enumerate(_KEY)}
    columns["statement_id"] = [_identity(origin, key, *stated) for key, stated in zip(keys, found, strict=True)]
    columns["co2e_kg"] = [mass for mass, _ in found]
    columns["is_complete"] = [is_complete for _, is_complete in found]
    constants: dict[str, object] = {
        "tenant_id": tenant,
        "connection_id": connection_id,
        "provider": provider,
        "source": source,
        "retrieved_at": retrieved_at,
        "run_id": run_id,
    }
    columns |= {name: [value] * len(keys) for name, value in constants.items()}
    return pa.Table.from_pydict(columns, schema=PROVIDER_STATEMENTS.arrow_schema)


def _added(figures: Iterable[Figure]) -> dict[_Key, tuple[Decimal, bool]]:
    """Sum of each key, and whether all of it is complete."""
    sums: dict[_Key, tuple[Decimal, bool]] = {}
    for figure in figures:
        key = _key(figure)
        mass, is_complete = sums.get(key, (Decimal(0), True))
        sums[key] = (_EXACT.add(mass, figure.co2e_kg), is_complete and figure.is_complete)
    return sums


def _key(figure: Figure) -> _Key:
    return (
        figure.month,
        figure.billing_account_id,
        figure.sub_account_id,
        figure.region_id,
        figure.service_code,
        figure.model_version,
        figure.scope,
        figure.basis,
    )


def _identity(origin: tuple[str, ...], key: _Key, mass: Decimal, is_complete: bool) -> str:
    digits = format(_EXACT.normalize(mass), "f")
    text = json.dumps([*origin, *key, digits, is_complete], separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
