"""Generates the demonstration: bills of three fictional companies in the layouts their providers deliver.

`generate` writes the bills and the control totals that the pipeline must arrive at. The newest delivery of a month
is the bill; earlier ones (month to date, before a restated day) stay beside it.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from offgridflow_pipeline.demo.alder import SLUG as ALDER
from offgridflow_pipeline.demo.alder import alder
from offgridflow_pipeline.demo.brightwater import SLUG as BRIGHTWATER
from offgridflow_pipeline.demo.brightwater import brightwater
from offgridflow_pipeline.demo.cedarvane import SLUG as CEDARVANE
from offgridflow_pipeline.demo.cedarvane import cedarvane
from offgridflow_pipeline.demo.tenants import DemoTenant
from offgridflow_pipeline.months import shifted

SEED = 7
LAST_MONTH = date(2026, 10, 1)
MAXIMUM_MONTHS = 36
_CONTROLS_FILE = "control-totals.json"


class DemoBillsError(ValueError):
    """The bills cannot be generated with these arguments or into this folder."""


@dataclass(frozen=True, slots=True)
class DemoBills:
    """Everything that was generated; months are YYYY-MM, oldest first."""

    root: Path
    controls_file: Path
    months: tuple[str, ...]
    tenants: tuple[DemoTenant, ...]


def generate(out_dir: Path, *, months: int = 3, seed: int = SEED) -> DemoBills:
    """Write `months` months of bills ending with October 2026; equal arguments give equal bytes.

    Raises:
        DemoBillsError: `months` is out of range, or the folder holds something that is not a demonstration.
    """
    if not 1 <= months <= MAXIMUM_MONTHS:
        raise DemoBillsError(f"months is {months}; use 1 to {MAXIMUM_MONTHS}.")
    _clear(out_dir)
    names = _months(months)
    tenants = tuple(make(out_dir, names, seed) for make in (alder, brightwater, cedarvane))
    controls = out_dir / _CONTROLS_FILE
    totals = {t.slug: {feed.id: [asdict(c) for c in feed.controls] for feed in t.feeds} for t in tenants}
    controls.write_text(json.dumps(totals, indent=2, default=str) + "\n", encoding="utf-8")
    return DemoBills(out_dir, controls, names, tenants)


def _months(count: int) -> tuple[str, ...]:
    return tuple(shifted(f"{LAST_MONTH:%Y-%m}", -n) for n in reversed(range(count)))


def _clear(out_dir: Path) -> None:
    """Remove the demonstration of an earlier call, and nothing else."""
    out_dir.mkdir(parents=True, exist_ok=True)
    controls = out_dir / _CONTROLS_FILE
    if not controls.is_file():
        if any(out_dir.iterdir()):
            raise DemoBillsError(f"{out_dir} is not empty and was not written by the demo; name a new folder.")
        return
    for slug in json.loads(controls.read_text(encoding="utf-8")):
        if slug in (ALDER, BRIGHTWATER, CEDARVANE):
            shutil.rmtree(out_dir / slug, ignore_errors=True)
