"""Lists of key-value records (labels, tags, system labels of GCP; tags of any FOCUS file) as maps and single values.

The records are JSON text made by the connectors. Regular expressions read them without parsing the list once per
column; inside JSON text a quote is escaped, so that no value can look like a member.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import ibis

if TYPE_CHECKING:
    import ibis.expr.types as ir

_TEXT = r'"((?:[^"\\]|\\.)*)"'
_RECORD = r'(?i)\{\s*"key"\s*:\s*' + _TEXT + r'\s*,\s*"value"\s*:\s*("(?:[^"\\]|\\.)*"|null)'
_PLAIN = _RECORD + r"\s*\}"
_TAG = _RECORD + r'\s*,\s*"(?:x_)?inherited"\s*:\s*[a-z"]*\s*,\s*"(?:x_)?namespace"\s*:\s*' + _TEXT + r"\s*\}"


def label(labels: ir.Value, key: str) -> ir.Value:
    """Value of one key; null when the list has no such key or its value is empty."""
    pattern = rf'(?i)"key"\s*:\s*"{re.escape(key)}"\s*,\s*"value"\s*:\s*{_TEXT}'
    return labels.re_extract(pattern, 1).nullif("")


def members(labels: ir.Value, prefix: str = "") -> ir.Value:
    """Members of a JSON object made of the records, without its braces; null when there are none."""
    return labels.re_replace(_PLAIN, rf'"{prefix}\1":\2').re_replace(r"^\s*\[\s*|\s*\]\s*$", "").nullif("")


def tag_members(tags: ir.Value) -> ir.Value:
    """As `members` of GCP tags: ``tag:<namespace>:<key>``."""
    return members(tags.re_replace(_TAG, r'"tag:\3:\1":\2'))


def as_object(*parts: ir.Value) -> ir.Value:
    """A JSON object of all the members; null when there are none."""
    joined = ibis.literal(",").join([part.fill_null("") for part in parts])
    text = joined.re_replace(r"^,+|,+$", "").re_replace(r",,+", ",")
    return ibis.ifelse(text == "", ibis.null("string"), ibis.literal("{") + text + "}")


def tags_object(tags: ir.Value) -> ir.Value:
    """Tags of a FOCUS file as a JSON object: as they are, or from a list of key-value records (section 7)."""
    return ibis.ifelse(tags.startswith("["), as_object(members(tags)), tags)
