"""Intensities and verdicts as a small table in the engine, for the join with the lines.

One row per usage key, region, factor epoch and presence of a quantity. Besides the values it holds what
makes the per-row work plain arithmetic: limbs of each intensity and masks that are 0 or null.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv

from offgridflow_pipeline.emissions.exact import intensity_limb_names, split_intensity
from offgridflow_pipeline.emissions.intensity import Intensity
from offgridflow_pipeline.lake.schemas import (
    INTENSITY,
    INTENSITY_MEASURES,
    MASS,
    TEXTS,
    VERDICT_COLUMNS,
)

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from offgridflow_pipeline.factors.register import FactorSet
    from offgridflow_pipeline.lake.engine import Engine

#: Columns of the join; the lines carry them under the same names.
JOIN_COLUMNS = KEY, REGION, EPOCH, HAS_QUANTITY = ("_key", "_region", "_epoch", "_has_quantity")
#: Suffix of the column that is added to a product: 0, or null where the measure is not available.
MASK = "_mask"

COMPONENT_MEASURES = tuple(name for name in INTENSITY_MEASURES if name.startswith("it_kwh_"))
VERDICTS = {column.name: column for column in VERDICT_COLUMNS}

#: A text that no bill holds: it stands for null in the intermediate CSV.
_NULL = "\x1f"
_LIST_SEPARATOR = "|"
_PUE_PLACES = Decimal("0.0001")


def intensity_table(
    engine: Engine,
    rows: Sequence[tuple[Mapping[str, Any], Intensity]],
    wanted: Sequence[str],
    measures: Sequence[str],
    active: Sequence[str],
    factor_set: FactorSet,
) -> ir.Table:
    """The table, registered in the engine.

    Args:
        engine: where the join will run.
        rows: the join columns of a key, and its intensity.
        wanted: columns of the ledger that are asked for: verdicts and intensities among them are included.
        measures: measures to compute; each gets a mask.
        active: those of `measures` that are not zero or null everywhere; each gets limbs.
        factor_set: pinned factor set.
    """
    found = [item for _, item in rows]
    zero = Decimal(0)
    columns: dict[str, tuple[list[Any], pa.DataType]] = {
        KEY: ([row[KEY] for row, _ in rows], pa.string()),
        REGION: ([row[REGION] for row, _ in rows], pa.string()),
        EPOCH: ([row[EPOCH] for row, _ in rows], pa.int16()),
        HAS_QUANTITY: ([row[HAS_QUANTITY] for row, _ in rows], pa.bool_()),
    }
    for measure in ("it_kwh", *measures):
        mask = [zero if _available(item, measure) else None for item in found]
        columns[f"{measure}{MASK}"] = (mask, MASS)
    for name in wanted:
        if name in VERDICTS:
            columns[name] = ([_verdict(item, name, factor_set) for item in found], VERDICTS[name].type)
        elif name.startswith("intensity_"):
            measure = name.removeprefix("intensity_")
            columns[name] = ([item.measures[measure] for item in found], INTENSITY)
    for measure in active:
        limbs = [split_intensity(item.measures[measure] or zero) for item in found]
        for position, name in enumerate(intensity_limb_names(measure)):
            columns[name] = ([limb[position] for limb in limbs], pa.int64())
    return _registered(engine, columns)


def _available(item: Intensity, measure: str) -> bool:
    return item.disposition != "unmapped" and (measure == "it_kwh" or item.measures[measure] is not None)


def _verdict(item: Intensity, name: str, factor_set: FactorSet) -> Any:
    if name == "uncertainty_groups":
        return item.uncertainty_groups(factor_set)
    value = getattr(item, name)
    return value.quantize(_PUE_PLACES) if name == "pue" and value is not None else value


def _registered(engine: Engine, columns: Mapping[str, tuple[list[Any], pa.DataType]]) -> ir.Table:
    """The columns as an engine table.

    By way of CSV: pyarrow imports pandas (0.7 CPU seconds) before it builds an array from Python objects,
    but not to read text.
    """
    lists = [name for name, (_, kind) in columns.items() if kind == TEXTS]
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(map(_text, values) for values, _ in columns.values()), strict=True))
    types = {name: pa.string() if name in lists else kind for name, (_, kind) in columns.items()}
    options = pyarrow.csv.ConvertOptions(
        column_types=types,
        null_values=[_NULL],
        strings_can_be_null=True,
        true_values=["True"],
        false_values=["False"],
    )
    data = pyarrow.csv.read_csv(
        io.BytesIO(buffer.getvalue().encode()),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=options,
    )
    table = engine.register("intensities", data)
    return table.mutate(**{name: table[name].split(_LIST_SEPARATOR).filter(lambda text: text != "") for name in lists})


def _text(value: Any) -> str:
    match value:
        case None:
            return _NULL
        case tuple():
            return _LIST_SEPARATOR.join(value)
        case Decimal():
            return f"{value:f}"
        case _:
            return str(value)
