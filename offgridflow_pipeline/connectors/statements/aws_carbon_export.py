"""AWS carbon statements from the Data Export table CARBON_EMISSIONS (billing-feeds.md 4.8).

The export keeps every model version, in partitions ``model_version=.../usage_period=...``; the rows themselves say
which version and month they are of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from offgridflow_pipeline.connectors.errors import BillingObjectError
from offgridflow_pipeline.connectors.statements.aws_emissions import emission_types
from offgridflow_pipeline.connectors.statements.figures import Figure, kilograms, region_code
from offgridflow_pipeline.months import month_of

_AGAIN = "Export the table CARBON_EMISSIONS again with all its columns"
_IDENTITY = (
    "model_version", "payer_account_id", "usage_account_id", "region_code", "product_code", "usage_period_start",
)  # fmt: skip


def figures(rows: Iterable[Mapping[str, Any]], months: Sequence[str], *, source: str) -> Iterator[Figure]:
    """Figures of the months in the rows of one file.

    Raises:
        BillingObjectError: a column is missing, a value is no number, or its unit is not stated.
    """
    wanted = frozenset(months)
    for number, given in enumerate(rows, start=1):
        row = {name.strip().lower(): value for name, value in given.items()}
        if number == 1:
            _check_columns(row, source)
        month = month_of(row["usage_period_start"])
        version = _text(row["model_version"])
        if month is None or version is None:
            column = "usage_period_start" if month is None else "model_version"
            raise BillingObjectError(
                source, f"{str(row[column] or '')[:40]!r} is not valid", _AGAIN, row=number, column=column
            )
        if month not in wanted:
            continue
        for kind in emission_types():
            column = f"{kind.export_column}_value"
            value = row[column]
            if value not in (None, ""):
                yield Figure(
                    month,
                    _text(row["payer_account_id"]),
                    _text(row["usage_account_id"]),
                    region_code(row["region_code"]),
                    _text(row["product_code"]),
                    version,
                    kind.scope,
                    kind.basis,
                    kilograms(value, row[f"{kind.export_column}_unit"], source=source, row=number, column=column),
                )


def _check_columns(row: Mapping[str, Any], source: str) -> None:
    stems = [kind.export_column for kind in emission_types()]
    required = (*_IDENTITY, *(f"{stem}_{part}" for stem in stems for part in ("value", "unit")))
    if missing := [name for name in required if name not in row]:
        raise BillingObjectError(source, f"the column {missing[0]} is missing", _AGAIN, row=0, column=missing[0])


def _text(value: object) -> str | None:
    text = str(value).strip() if value is not None else ""
    return text or None
