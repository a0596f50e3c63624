"""Other processes that use an embedded server: they start it, say so, and leave or die when told."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys
from pathlib import Path
from offgridflow_pipeline.database.server import embedded
server = embedded.start(Path(sys.argv[1]), sys.argv[2] or None)
print(server.pid, flush=True)
sys.stdin.read()
"""


def environment_of_children() -> dict[str, str]:
    """This process's environment, with the checkout importable from any folder."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


class ServerUser:
    """A process that starts the server of a folder and uses it until told to leave."""

    def __init__(
        self,
        data: Path,
        mode: str = "",
        *,
        user: str | int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(data), mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            user=user,
            env={**environment_of_children(), **(environment or {})},
        )

    def started(self) -> int:
        """Wait until the server runs; returns its postmaster's pid."""
        line = self.process.stdout.readline()
        assert line.strip(), self.process.stderr.read()
        return int(line)

    def failed(self) -> str:
        """Wait until the process has failed; returns what it said."""
        _, said = self.process.communicate(timeout=60)
        assert self.process.returncode != 0
        return said

    def leave(self) -> None:
        """Let the process end normally."""
        self.process.communicate(timeout=60)
        assert self.process.returncode == 0

    def kill(self) -> None:
        """End the process without a chance to clean up."""
        self.process.kill()
        self.process.communicate(timeout=60)


@contextmanager
def server_user(data: Path, mode: str = "", **how: object) -> Iterator[ServerUser]:
    """A user of the folder's server that is gone at the end, whatever happens."""
    user = ServerUser(data, mode, **how)
    try:
        yield user
    finally:
        if user.process.poll() is None:
            user.kill()
