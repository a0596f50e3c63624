"""A source of bills: what it has for some days, and its bytes. Files and BigQuery look the same from here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from offgridflow_pipeline.connectors.deliveries import Delivery, Refused
    from offgridflow_pipeline.connectors.stores import StoredObject


class Source(Protocol):
    """One connection's source, opened with its access."""

    def survey(self, days: Sequence[date]) -> tuple[list[Delivery], list[Refused]]:
        """The newest delivery of everything the days touch, and the periods that cannot be used; one listing.

        Raises:
            DeliveryError: the source cannot be listed or holds no bill at all.
        """
        ...

    def fetch(self, item: StoredObject, target: Path) -> None:
        """Copy one object, as it was listed, to a local file.

        Raises:
            DeliveryError: the object changed or vanished since it was listed.
        """
        ...
