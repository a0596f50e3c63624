"""The feeds we read: provider, header dialect, extract table, and rank as feed of record (billing-feeds.md 1).

One usage feed of record per billing account and month: other feeds of that account reconcile it and are never
united with it. The lower rank is preferred.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Dialect = Literal["cur", "azure", "gcp", "focus"]
FeedName = Literal[
    "cur", "cur2", "azure_actual", "azure_amortized", "gcp_standard", "gcp_detailed", "gcp_focus", "focus"
]


@dataclass(frozen=True, slots=True)
class Feed:
    """A billing feed. `name` stands in connections and in the column `feed`; `provider` is empty for any."""

    name: FeedName
    provider: str
    dialect: Dialect
    rank: int
    meaning: str


FEEDS: dict[str, Feed] = {
    feed.name: feed
    for feed in (
        Feed("focus", "", "focus", 1, "FOCUS 1.0 to 1.4 of any provider"),
        Feed("cur2", "aws", "cur", 1, "AWS CUR 2.0 (Data Exports)"),
        Feed("cur", "aws", "cur", 2, "AWS legacy cost and usage report"),
        Feed("azure_amortized", "azure", "azure", 2, "Azure cost export, amortized"),
        Feed("azure_actual", "azure", "azure", 3, "Azure cost export, actual"),
        Feed("gcp_detailed", "gcp", "gcp", 1, "GCP detailed usage cost export"),
        Feed("gcp_standard", "gcp", "gcp", 2, "GCP standard usage cost export"),
        Feed("gcp_focus", "gcp", "focus", 3, "GCP FOCUS export in BigQuery"),
    )
}

#: Header dialect -> lake table of its rows as delivered.
EXTRACT_TABLES: dict[Dialect, str] = {
    "cur": "aws_billing_extract",
    "azure": "azure_billing_extract",
    "gcp": "gcp_billing_extract",
    "focus": "focus_billing_extract",
}


def feeds_of(table: str) -> tuple[Feed, ...]:
    """Feeds whose rows the extract table holds."""
    return tuple(feed for feed in FEEDS.values() if EXTRACT_TABLES[feed.dialect] == table)
