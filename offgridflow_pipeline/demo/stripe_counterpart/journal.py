"""What happened in a world, as a file: a world is deterministic, so doing it all again makes the same world.

Without it a counterpart that is started again would have forgotten its customers, while the database still names them.
A line per deed, as JSON; no card numbers, only the names of test cards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from offgridflow_pipeline.demo.stripe_counterpart.books import AccountSettings
from offgridflow_pipeline.demo.stripe_counterpart.clock import WorldClock
from offgridflow_pipeline.demo.stripe_counterpart.deliveries import system_time
from offgridflow_pipeline.demo.stripe_counterpart.errors import ApiError
from offgridflow_pipeline.demo.stripe_counterpart.world import StripeWorld


class JournalError(ValueError):
    """The file is no journal; the message names file and line."""


class Journal:
    """The journal of one world, written as things happen."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def world(
        self, stock: Callable[[StripeWorld], object], *, start: datetime, seed: int, settings: AccountSettings
    ) -> StripeWorld:
        """The world of the journal with all that happened in it; a new one from `start` where there is no journal.

        Its clock stands where the last deed left it. `stock`: what the world has before anything happens.

        Raises:
            JournalError: the file is no journal.
        """
        entries = self._entries()
        if entries:
            start, seed = datetime.fromisoformat(entries[0]["start"]), int(entries[0]["seed"])
        world = StripeWorld(WorldClock(start), seed=seed, settings=settings)
        stock(world)
        if entries:
            for entry in entries[1:]:
                _repeat(world, entry)
        else:
            self._write({"start": world.clock.now().isoformat(), "seed": seed, "machine": _machine_time()})
        world.on_deed = lambda deed, arguments: self._write(
            {"at": world.clock.now().isoformat(), "machine": _machine_time(), "deed": deed, "arguments": arguments}
        )
        return world

    def time_since(self) -> timedelta:
        """How long ago, by the machine's clock, the last entry was written; 0 without any."""
        entries = self._entries()
        if not entries:
            return timedelta(0)
        return max(timedelta(0), system_time() - datetime.fromisoformat(entries[-1]["machine"]))

    def _entries(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        found = []
        for number, line in enumerate(self._path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                found.append(json.loads(line))
            except ValueError as error:
                raise JournalError(f"{self._path}, line {number}: not JSON. Remove the file to begin anew.") from error
        return found

    def _write(self, entry: dict[str, Any]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def _repeat(world: StripeWorld, entry: dict[str, Any]) -> None:
    world.clock.advance_to(datetime.fromisoformat(entry["at"]))
    arguments: Sequence[Any] = entry["arguments"]
    deeds: dict[str, Callable[..., object]] = {
        "answer": world.answer,
        "call": lambda method, path, form: world.call(method, path, **form),
        "complete_checkout": world.complete_checkout,
        "use_card": world.use_card,
        "pay_invoice": world.pay_invoice,
        "dispute": world.dispute,
        "advance": lambda seconds: world.advance(timedelta(seconds=seconds)),
    }
    with suppress(ApiError):  # it was refused the first time, too
        deeds[entry["deed"]](*arguments)


def _machine_time() -> str:
    return system_time().isoformat()
