"""A source of bills: what it has for some days, and its bytes. Files and BigQuery look the same from here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from offgridflow_pipeline.connectors.access import Access, GcpAccess
from offgridflow_pipeline.connectors.deliveries.listing import Delivery, Refused, survey
from offgridflow_pipeline.connectors.errors import DeliveryError
from offgridflow_pipeline.connectors.stores import Store, StoredObject, open_store

if TYPE_CHECKING:
    from offgridflow_pipeline.connectors.connections import Connection
    from offgridflow_pipeline.connectors.stores.transfer import TransferLimits

_BIGQUERY = "bigquery://"


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


class FileSource:
    """Bills that lie as files in a store."""

    def __init__(self, connection: Connection, store: Store) -> None:
        self._connection = connection
        self._store = store

    def survey(self, days: Sequence[date]) -> tuple[list[Delivery], list[Refused]]:
        """See `Source.survey`."""
        return survey(self._store, self._connection, days)

    def fetch(self, item: StoredObject, target: Path) -> None:
        """See `Source.fetch`."""
        self._store.download(item, target)


def open_source(connection: Connection, access: Access, limits: TransferLimits | None = None) -> Source:
    """The connection's source, opened with its access; `limits` bound what is read of a file.

    Raises:
        DeliveryError: the access is one for another kind of source.
    """
    if not connection.uri.startswith(_BIGQUERY):
        return FileSource(connection, open_store(connection.uri, access, limits))
    if not isinstance(access, GcpAccess):
        raise DeliveryError(f"{connection.uri} is a table of BigQuery: it needs access to Google Cloud.")
    from offgridflow_pipeline.connectors.bigquery.source import BigQuerySource

    return BigQuerySource(connection, access)
