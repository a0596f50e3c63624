"""What secrets look like: to refuse them where they do not belong, and to black them out of messages.

The shapes are rows of ``data/secret_shapes.csv``. Where the secret itself is known, `redacted` does not guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from pydantic import SecretStr

from offgridflow_pipeline.data_rows import data_rows

BLACKED_OUT = "[secret]"
_WORD = re.compile(r"[^\s\"'<>(),;]+")


def secret_shape(text: str) -> str | None:
    """Name of the secret that the text holds or is; None when it looks harmless."""
    for name, pattern in _anywhere():
        if pattern.search(text):
            return name
    return next((name for name, pattern in _whole() if pattern.fullmatch(text)), None)


def redacted(text: str, secrets: Iterable[SecretStr] = ()) -> str:
    """The text without the given secrets and without anything that has the shape of one."""
    known = (secret.get_secret_value() for secret in secrets)
    for value in sorted({value for value in known if value}, key=len, reverse=True):
        text = text.replace(value, BLACKED_OUT)
    for _, pattern in _anywhere():
        text = pattern.sub(BLACKED_OUT, text)
    for _, pattern in _whole():
        text = _WORD.sub(
            lambda word, shape=pattern: BLACKED_OUT if shape.fullmatch(word[0]) else word[0],  # type: ignore[misc]
            text,
        )
    return text


def _anywhere() -> list[tuple[str, re.Pattern[str]]]:
    return _shapes()["anywhere"]


def _whole() -> list[tuple[str, re.Pattern[str]]]:
    return _shapes()["whole"]


@cache
def _shapes() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    found: dict[str, list[tuple[str, re.Pattern[str]]]] = {"anywhere": [], "whole": []}
    for row in data_rows(__file__, "secret_shapes.csv"):
        found[row["where"]].append((row["name"], re.compile(row["pattern"])))
    return found
