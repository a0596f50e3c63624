"""Lists of the GCP export (labels, tags, credits) as JSON text, however the file spells them; empty is null.

BigQuery delivers lists of records; tools that flatten it write JSON or Python's own spelling of lists and
dictionaries (single quotes, None), as the koku sample does. What labels and credits mean is decided in `usage`.
"""

from __future__ import annotations

from dataclasses import replace

from offgridflow_pipeline.connectors.reading.refusals import refusal
from offgridflow_pipeline.connectors.reading.relation import LocalObject, Relation, quoted

_LISTS = ("credits", "labels", "project_labels", "system_labels", "tags")
#: Tokens of a Python literal: a string in either quote, or anything between strings.
_TOKENS = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^'"]+"""
#: Amounts of a JSON list of credits. Inside a JSON text a quote is escaped, so that no name can look like a member.
CREDIT_AMOUNT = r'(?i)"amount"\s*:\s*"?(-?[0-9][-+0-9.e]*)'
_DECIMAL = "DECIMAL(38, 18)"


def with_json_lists(relation: Relation) -> Relation:
    """The relation with its list columns as JSON text."""
    lists = {name: _json(relation.columns[name]) for name in _LISTS if name in relation.columns}
    return replace(relation, columns={**relation.columns, **lists})


def checked_credits(item: LocalObject, relation: Relation) -> str:
    """SQL of the credits; a row whose credits do not each state an amount is refused: money would be lost."""
    value = relation.columns["credits"]
    amounts = f"regexp_extract_all({value}, {quoted(CREDIT_AMOUNT)}, 1)"
    stated = f"list_filter({amounts}, lambda amount: try_cast(amount AS {_DECIMAL}) IS NOT NULL)"
    listed = f"CASE WHEN json_valid({value}) THEN json_array_length({value}) END"
    wrong = refusal(item, relation.headers["credits"], value, "is not a list of credits with an amount each")
    return f"CASE WHEN {value} IS NULL THEN NULL WHEN {listed} = len({stated}) THEN {value} ELSE {wrong} END"


def _json(value: str) -> str:
    python = f"starts_with({value}, '[{{''')"
    return f"CASE WHEN {value} = '[]' THEN NULL WHEN {python} THEN {_from_python(value)} ELSE {value} END"


def _from_python(value: str) -> str:
    """JSON of a Python literal: strings in double quotes, None, True and False as JSON names them."""
    inner = r"""replace(replace(token[2:-2], '\''', ''''), '"', '\"')"""
    words = "replace(replace(replace(token, 'None', 'null'), 'True', 'true'), 'False', 'false')"
    spelled = (
        f"CASE WHEN starts_with(token, '''') THEN '\"' || {inner} || '\"' "
        f"WHEN starts_with(token, '\"') THEN token ELSE {words} END"
    )
    tokens = f"regexp_extract_all({value}, {quoted(_TOKENS)})"
    return f"array_to_string(list_transform({tokens}, lambda token: {spelled}), '')"
