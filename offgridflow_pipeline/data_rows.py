"""Rows of the data files that lie beside the code: rules and mappings as CSV, each row with its source.

What a row means is read by the module that asks for it. The factor register has a form, and a reader, of its own.
"""

from __future__ import annotations

import csv
from pathlib import Path


def data_rows(module: str, name: str) -> list[dict[str, str]]:
    """Rows of the file `name` in the folder `data` beside a module; `module` is the caller's ``__file__``."""
    with (Path(module).parent / "data" / name).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
