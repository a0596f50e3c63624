"""Which FOCUS file a header belongs to: the dataset and the version, told by columns (billing-feeds.md section 7).

Only Cost and Usage is a bill; FOCUS has other datasets, and people mix them up. Versions differ in names that
`header` binds alike, so the version is for messages.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from offgridflow_pipeline.data_rows import data_rows


def other_dataset(names: Iterable[str]) -> str | None:
    """Name of the FOCUS dataset that is no bill, if the header is one's."""
    delivered = {name.lower() for name in names}
    return next((row["dataset"] for row in _rows("focus_datasets.csv") if row["column"].lower() in delivered), None)


def focus_version(names: Iterable[str]) -> str:
    """Version of a Cost and Usage file, by the newest column that marks one."""
    delivered = {name.lower() for name in names}
    return next(
        row["version"]
        for row in _rows("focus_versions.csv")
        if (not row["column"] or row["column"].lower() in delivered)
        and (not row["without"] or row["without"].lower() not in delivered)
    )


@cache
def _rows(name: str) -> list[dict[str, str]]:
    return data_rows(__file__, name)
