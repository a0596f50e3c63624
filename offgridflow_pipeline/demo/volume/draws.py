"""What the large bills of all feeds share: keys that rows are drawn from, and values that rows draw.

A key holds the columns that do not vary inside it, the price of a unit, a typical amount and how often it occurs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

CHUNK_ROWS = 100_000
POOL = 32_768
FIRST_HOUR = np.datetime64("2026-10-01T00", "h")
TEAMS = ("checkout", "search", "platform", "analytics", "web", None)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of a bill and what they cost, in whole cost units; JSON texts need quotes in a csv."""

    table: pa.Table
    cost: int
    has_json: bool = False


@dataclass(frozen=True, slots=True)
class Keys:
    """The usage keys of a bill: fixed columns, and rate, size, weight and largest amount of each."""

    table: pa.Table
    rates: Any
    sizes: Any
    weights: Any
    limits: Any

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.table.num_rows)


@dataclass(frozen=True, slots=True)
class Drawn:
    """Rows that were drawn: the key of each with its fixed columns, amount, and cost in whole cost units."""

    key: Any
    table: pa.Table
    amounts: Any
    costs: Any

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.table.num_rows)


def draw(keys: Keys, rows: int, generator: np.random.Generator, cost_units: int) -> Iterator[Drawn]:
    """Rows of the keys, a hundred thousand at a time."""
    shares = keys.weights / keys.weights.sum()
    for start in range(0, rows, CHUNK_ROWS):
        count = min(CHUNK_ROWS, rows - start)
        key = generator.choice(keys.count, count, p=shares)
        drawn = np.exp(generator.normal(0.0, 0.8, count)) * keys.sizes[key]
        amounts = np.round(np.minimum(drawn, keys.limits[key]), 8)
        costs = np.rint(amounts * keys.rates[key] * cost_units).astype(np.int64)
        yield Drawn(key, keys.table.take(pa.array(key)), amounts, costs)


def texts(numbers: Any) -> pa.Array:
    """Numbers as texts, the shortest that are exactly them."""
    return pc.cast(pa.array(numbers), pa.string())


def chosen(values: pa.Array, generator: np.random.Generator, count: int) -> pa.Array:
    """As many of the values as asked for, at random."""
    return values.take(pa.array(generator.integers(0, len(values), count)))


def hexadecimal(generator: np.random.Generator, digits: int) -> pa.Array:
    """A pool of names of hexadecimal digits."""
    return pa.array([f"{number:0{digits}x}"[-digits:] for number in generator.integers(0, 2**63, POOL)])


def made(columns: Sequence[str], drawn: Drawn, values: dict[str, Any]) -> pa.Table:
    """A table of text columns: those made for the rows, else those of their keys, else empty."""
    nothing = pa.nulls(drawn.count, pa.string())
    known = set(drawn.table.column_names)
    return pa.table({name: values.get(name, drawn.table[name] if name in known else nothing) for name in columns})
