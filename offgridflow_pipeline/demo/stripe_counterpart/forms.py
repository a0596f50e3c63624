"""Request parameters as Stripe reads them: `items[0][price]=price_1` becomes nested dictionaries and lists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl

Form = Mapping[str, Any]

_PART = re.compile(r"\[([^\]]*)\]")


def parsed(encoded: str) -> dict[str, Any]:
    """Parameters of a form body or a query."""
    return nested(parse_qsl(encoded, keep_blank_values=True))


def nested(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Names with brackets as a tree; numbered and empty brackets are lists."""
    tree: dict[str, Any] = {}
    for name, value in pairs:
        head, *_ = name.split("[", 1)
        place, keys = tree, [head, *_PART.findall(name)]
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        last = keys[-1]
        place[last or str(len(place))] = value
    return {key: _listed(value) for key, value in tree.items()}


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {key: _listed(part) for key, part in value.items()}
    if inner and all(key.isdecimal() for key in inner):
        return [inner[key] for key in sorted(inner, key=int)]
    return inner


def flag(value: Any) -> bool:
    """A truth value as the form writes it."""
    return str(value).lower() == "true"


def words(form: Form, name: str) -> list[str]:
    """A list of texts; a single text counts as a list of one."""
    value = form.get(name) or []
    return [str(part) for part in value] if isinstance(value, list) else [str(value)]
