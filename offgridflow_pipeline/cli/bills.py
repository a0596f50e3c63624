"""Which objects a person means by the INPUT arguments of a command: files, folders with deliveries, prefixes.

A folder or prefix is read as a connection is: manifests decide, only the newest delivery of a period counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offgridflow_pipeline.connectors.feeds import FeedName
    from offgridflow_pipeline.connectors.reading.extracts import LocalObject

CONNECTION = "estimate"


@dataclass(frozen=True, slots=True)
class Bill:
    """Billing objects on this machine; `notices` tell what was left out and why."""

    objects: tuple[LocalObject, ...]
    notices: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of all objects as delivered."""
        return sum(item.path.stat().st_size for item in self.objects)


def collect(inputs: Sequence[str], feed: FeedName, folder: Path) -> Bill:
    """The objects of the inputs, read as this process; local files stay in place, others are copied to `folder`.

    Raises:
        DeliveryError: an input does not exist, or a delivery is incomplete or changes while it is read.
    """
    from offgridflow_pipeline.connectors.access import ambient_access
    from offgridflow_pipeline.connectors.connections import Connection
    from offgridflow_pipeline.connectors.deliveries.listing import EVERY_PERIOD, deliveries
    from offgridflow_pipeline.connectors.reading.extracts import LocalObject
    from offgridflow_pipeline.connectors.stores import open_store

    objects: dict[str, LocalObject] = {}
    notices: list[str] = []
    for uri in inputs:
        connection = Connection(id=CONNECTION, kind=feed, uri=uri)
        store = open_store(uri, ambient_access(connection.provider, uri))
        for delivery in deliveries(store, connection, EVERY_PERIOD):
            for stored in delivery.objects:
                path = Path(stored.uri)
                if "://" in stored.uri:
                    path = folder / f"{len(objects) + len(notices)}-{path.name}"
                    store.download(stored, path)
                with path.open("rb") as stream:
                    sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
                if sha256 in objects:
                    notices.append(f"{stored.uri} has the same bytes as {objects[sha256].source}: counted once.")
                    continue
                objects[sha256] = LocalObject(path, stored.uri, sha256, delivery.version)
    return Bill(tuple(objects.values()), tuple(notices))
