"""Google Cloud carbon footprints from the BigQuery table ``carbon_footprint``, or files of its columns.

Kilograms already. Rows that no project is named in are usage of the account all the same and are kept; offsets are
never read (billing-feeds.md 6.5). Every model version in the table is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from offgridflow_pipeline.connectors.errors import BillingObjectError
from offgridflow_pipeline.connectors.statements.figures import Figure, kilograms, region_code
from offgridflow_pipeline.data_rows import data_rows
from offgridflow_pipeline.months import first_day, month_of

if TYPE_CHECKING:
    from offgridflow_pipeline.connectors.bigquery.client import BigQueryTable
    from offgridflow_pipeline.connectors.statements.figures import Basis, Scope

_IDENTITY = ("usage_month", "billing_account_id", "carbon_model_version")
_AGAIN = "Export the table again with its own column names"


@dataclass(frozen=True, slots=True)
class Mass:
    """A column of the table that holds a mass in kg: flattened name in lower case, scope and basis."""

    column: str
    scope: Scope
    basis: Basis


@cache
def masses() -> tuple[Mass, ...]:
    """The columns, from data/gcp_footprint_columns.csv."""
    return tuple(
        Mass(row["column"], cast("Scope", row["scope"]), cast("Basis", row["basis"]))
        for row in data_rows(__file__, "gcp_footprint_columns.csv")
    )


def carbon_footprint(table: BigQueryTable, months: Sequence[str]) -> Iterator[Figure]:
    """All figures of the months in the BigQuery table, in every model version it holds."""
    batches = table.batches(
        "SELECT usage_month, billing_account_id, project, service, location, carbon_model_version, "
        "carbon_footprint_kgCO2e, carbon_footprint_total_kgCO2e FROM {table} WHERE usage_month IN UNNEST(@months)",
        {"months": [first_day(month) for month in months]},
    )
    rows = (row for batch in batches for row in batch.to_pylist())
    yield from figures(rows, months, source=table.name.uri)


def figures(rows: Iterable[Mapping[str, Any]], months: Sequence[str], *, source: str) -> Iterator[Figure]:
    """Figures of the months in rows of the table, nested or with names joined by a dot or an underscore.

    Raises:
        BillingObjectError: a column is missing or a value is not what the table documents.
    """
    wanted = frozenset(months)
    for number, given in enumerate(rows, start=1):
        row = _flat(given)
        if number == 1:
            _check_columns(row, source)
        month = month_of(row["usage_month"])
        if month is None:
            raise BillingObjectError(
                source, f"{str(row['usage_month'])[:40]!r} is no date", _AGAIN, row=number, column="usage_month"
            )
        if month in wanted:
            for mass in masses():
                value = row.get(mass.column)
                if value not in (None, ""):
                    yield Figure(
                        month,
                        _text(row.get("billing_account_id")),
                        _text(row.get("project_id")) or _text(row.get("project_number")),
                        region_code(row.get("location_region")) or region_code(row.get("location_location")),
                        _text(row.get("service_id")) or _text(row.get("service_description")),
                        _text(row.get("carbon_model_version")) or "",
                        mass.scope,
                        mass.basis,
                        kilograms(value, "kgCO2e", source=source, row=number, column=mass.column),
                    )


def _check_columns(row: Mapping[str, Any], source: str) -> None:
    missing = [name for name in _IDENTITY if name not in row]
    if not missing and not any(mass.column in row for mass in masses()):
        missing = [masses()[0].column]
    if missing:
        raise BillingObjectError(source, f"the column {missing[0]} is missing", _AGAIN, row=0, column=missing[0])


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with nested names joined by an underscore, in lower case."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        key = name.strip().replace(".", "_").lower()
        if isinstance(value, Mapping):
            found |= {f"{key}_{inner}": leaf for inner, leaf in _flat(value).items()}
        else:
            found[key] = value
    return found


def _text(value: object) -> str | None:
    text = str(value).strip() if value is not None else ""
    return text or None
