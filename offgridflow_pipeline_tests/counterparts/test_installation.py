"""Installing counterparts: what is there already is left alone, and what there is not is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "install_from_lock.sh"


def _install(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OFFGRIDFLOW_COUNTERPARTS_DIR": str(folder), "PYTHON": "/nowhere/python"}
    return subprocess.run(["sh", SCRIPT, name], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["bqemulator", "localstripe"])
def test_an_installation_of_the_same_lock_file_is_left_alone_and_another_is_replaced(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    home.mkdir()
    kept = home / "kept"
    kept.touch()
    shutil.copy(SCRIPT.parent / f"{name}.lock", home / "installed.lock")
    found = _install(name, tmp_path)
    assert (found.returncode, found.stdout) == (0, f"{home}\n")
    assert kept.exists()
    (home / "installed.lock").write_text("another")
    assert _install(name, tmp_path).returncode != 0  # it begins anew, and there is no Python here
    assert not kept.exists()


def test_a_server_without_a_lock_file_is_refused_and_nothing_is_removed(tmp_path: Path) -> None:
    kept = tmp_path / "another" / "kept"
    kept.parent.mkdir()
    kept.touch()
    refused = _install("another", tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "no another.lock" in refused.stderr
    assert kept.exists()
