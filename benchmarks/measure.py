"""CPU seconds, wall seconds and peak memory of one command as a child process (the kernel's own accounting)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

OFFGRIDFLOW = (sys.executable, "-c", "from offgridflow_pipeline.cli import app; app()")


class MeasurementError(RuntimeError):
    """The measured command failed; the message holds what it wrote."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """User + system CPU seconds, wall seconds, peak resident MiB of the process, and what it printed."""

    cpu_seconds: float
    wall_seconds: float
    peak_mb: float
    output: str


def measure(command: Sequence[str], folder: Path) -> Measurement:
    """Run the command with `folder` as working directory.

    Raises:
        MeasurementError: the command ended with an error.
    """
    root = Path(__file__).resolve().parents[1]
    environment = os.environ | {"PYTHONPATH": str(root), "OFFGRIDFLOW_DATA_DIR": str(folder)}
    stdout, stderr = folder / "stdout.txt", folder / "stderr.txt"
    started = time.monotonic()
    with stdout.open("wb") as out, stderr.open("wb") as err:
        child = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=err)
        _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise MeasurementError(f"{' '.join(command)}: {stderr.read_text(encoding='utf-8')[-2000:]}")
    # ru_maxrss is KiB on Linux, bytes on macOS.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return Measurement(
        usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / unit, stdout.read_text(encoding="utf-8")
    )
