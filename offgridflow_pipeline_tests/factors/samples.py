"""The shared factor figures, read independently of the register; skips where the folder is absent."""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared" / "factors"
KNOWN_TODAY = date(2026, 11, 22)
MIDSUMMER_2024 = date(2024, 6, 15)


def shared_rows(name: str) -> list[dict[str, str]]:
    """Rows of one shared CSV file, as text."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not on this machine")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
