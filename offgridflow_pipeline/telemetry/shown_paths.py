"""Paths as logs and traces show them: what opens something by itself does not leave the process."""

from __future__ import annotations

#: Below these a path is a credential: whoever reads it in a log could use it.
SEALED = ("/v1/downloads/",)


def shown(path: str) -> str:
    """The path, cut off where a credential begins."""
    return next((f"{sealed}..." for sealed in SEALED if path.startswith(sealed)), path)
