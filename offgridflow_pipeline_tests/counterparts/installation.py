"""Where counterparts lie that pip cannot install, and what a test does without them: it skips, but fails in CI."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

_REPOSITORY = Path(__file__).resolve().parents[2]


def counterparts_folder() -> Path:
    """The folder that the install scripts beside this file fill."""
    return Path(os.environ.get("OFFGRIDFLOW_COUNTERPARTS_DIR") or _REPOSITORY / ".counterparts")


def without(counterpart: str, script: str) -> NoReturn:
    """Skip the tests that need a counterpart which is not installed; in CI fail them."""
    reason = f"{counterpart} is not installed in {counterparts_folder()}: run {Path(__file__).parent / script}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def without_debian(program: str, package: str) -> NoReturn:
    """Skip the tests that need a program of Debian; fail them where CI has installed it."""
    reason = f"{program} is not installed: apt-get install {package}"
    if os.environ.get("OFFGRIDFLOW_DEBIAN_TOOLS") == "installed":
        pytest.fail(reason)
    pytest.skip(reason)
