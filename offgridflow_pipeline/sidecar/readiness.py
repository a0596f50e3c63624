"""What a sidecar needs before it may be sent requests. Names of what is missing; reasons go to the log alone."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from offgridflow_pipeline.database.engine import DatabaseError
from offgridflow_pipeline.database.server.migrations import MigrationError
from offgridflow_pipeline.lake import storage

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.settings import Settings

log = logging.getLogger("offgridflow.sidecar")

#: The route is open to everybody: what it found is told again for so long.
KEPT_SECONDS = 1.0


class Readiness:
    """Whether database, schema and artefact store are there."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._lock = threading.Lock()
        self._found: list[str] = []
        self._looked_at = float("-inf")

    def missing(self) -> list[str]:
        """What is missing, by name; empty when the process can serve."""
        with self._lock:
            if time.monotonic() - self._looked_at > KEPT_SECONDS:
                self._found = [*self._database_faults(), *self._store_faults()]
                self._looked_at = time.monotonic()
            return self._found

    def _database_faults(self) -> list[str]:
        try:
            self._database.require_ready()
        except MigrationError as error:
            log.warning("readiness: %s", error)
            return ["the database schema does not fit this release"]
        except (DatabaseError, SQLAlchemyError) as error:
            log.warning("readiness: %s", error)
            return ["the database is out of reach"]
        return []

    def _store_faults(self) -> list[str]:
        root = storage.normal_root(self._settings.lake_root)
        try:
            filesystem, place = storage.filesystem(root, self._settings.lake_storage_options)
            is_there = filesystem.get_file_info(place).type.name != "NotFound"
        except OSError as error:
            log.warning("readiness: %s", error)
            return ["the artefact store is out of reach"]
        # An object store has no folder before the first object, a laptop none before the first run; a server has.
        if is_there or not storage.is_local(root) or self._settings.environment != "production":
            return []
        log.warning("readiness: %s is no folder: is it mounted?", root)
        return ["the artefact store is out of reach"]
