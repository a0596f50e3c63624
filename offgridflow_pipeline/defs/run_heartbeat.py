"""The heartbeat of a run: its process says in the database, again and again, that it lives.

The sensor `run_watchdog` ends runs that have fallen silent: after a power cut Dagster itself would show them at work
for ever. A beat has a connection of its own and outlives every outage of the database: it goes on trying.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.settings import Settings

#: Beats within the silence that a run may keep.
BEATS = 8
#: Tries per beat while the database is away.
TRIES = 4
#: The end of a run waits so long for a beat that is under way, in seconds.
LAST_BEAT = 1.0

log = logging.getLogger("offgridflow.runs")


class Heartbeat:
    """Beats in a thread of its own from `start` to `stop`. The first beat comes after one interval: a short run makes
    none. Rows stay when the run ends: the watchdog looks at those of runs at work only, and removes old ones."""

    def __init__(self, run_id: str, settings: Settings) -> None:
        self._run_id = run_id
        self._settings = settings
        self._interval = settings.run_silent_seconds / BEATS
        self._database: Database | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat_until_stopped, name="run-heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Beat no more; the process may end."""
        self._ended.set()
        self._thread.join(LAST_BEAT)

    def _beat_until_stopped(self) -> None:
        pause = self._interval
        while not self._ended.wait(pause):
            pause = self._interval if self._beats() else self._interval / TRIES
        if self._database is not None:
            self._database.close()

    def _beats(self) -> bool:
        try:
            if self._database is None:
                from offgridflow_pipeline.database.engine import open_database

                self._database = open_database(self._settings)
            self._database.signals.beat_run(self._run_id)
        except Exception:  # whatever it is, a run that works must not be taken for dead because its beat gave up
            log.warning("run %s: no heartbeat, trying again", self._run_id, exc_info=True)
            return False
        return True
