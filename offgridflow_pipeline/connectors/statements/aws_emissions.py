"""What AWS calls its kinds of emissions in the API and in the export, and which scope and basis they are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, cast

from offgridflow_pipeline.data_rows import data_rows

if TYPE_CHECKING:
    from offgridflow_pipeline.connectors.statements.figures import Basis, Scope


@dataclass(frozen=True, slots=True)
class EmissionType:
    """A kind of emissions: its name in the API, the stem of its two columns in the export, scope and basis."""

    api_type: str
    export_column: str
    scope: Scope
    basis: Basis


@cache
def emission_types() -> tuple[EmissionType, ...]:
    """All kinds, from data/aws_emission_types.csv."""
    return tuple(
        EmissionType(row["api_type"], row["export_column"], cast("Scope", row["scope"]), cast("Basis", row["basis"]))
        for row in data_rows(__file__, "aws_emission_types.csv")
    )
