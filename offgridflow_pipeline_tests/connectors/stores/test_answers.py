"""The table of what stores' refusals mean: every row is complete, reachable and makes a whole message."""

from __future__ import annotations

import csv
from importlib import resources

import pytest

from offgridflow_pipeline.connectors.errors import AccessDeniedError, DeliveryError
from offgridflow_pipeline.connectors.stores.answers import Answer, Place, refusal

PLACE = Place("s3://bucket/a.csv", "bucket", "the role r", "a.csv", "account")


def _rows() -> list[dict[str, str]]:
    file = resources.files("offgridflow_pipeline.connectors.stores") / "data/store_answers.csv"
    return list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))


def test_every_row_has_a_source_and_answers_one_question() -> None:
    rows = _rows()
    keys = [(row["provider"], row["operation"], row["code"]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert all(row["source"] for row in rows)
    assert {row["error"] for row in rows} == {"denied", "expired", "refused", "changed", "unavailable"}


@pytest.mark.parametrize("row", _rows(), ids=lambda row: f"{row['provider']}-{row['operation']}-{row['code']}")
def test_every_row_makes_a_message_that_names_the_object_and_the_cure(row: dict[str, str]) -> None:
    permission = row["operation"] if "." in row["operation"] or ":" in row["operation"] else ""
    operation = "get" if permission or row["operation"] in ("*", "stated") else row["operation"]
    permission = "a:Right" if row["operation"] == "stated" else permission
    text = str(refusal(row["provider"], Answer(operation, (row["code"],), "said", permission, "arn:x"), PLACE))
    assert text.startswith(PLACE.uri)
    assert "{" not in text
    if row["error"] in ("denied", "expired", "refused"):
        assert f"({row['code']})" in text
        assert row["cure"].partition("{")[0] in text


def test_the_own_code_of_a_provider_tells_more_than_the_status() -> None:
    answer = Answer("list", ("AuthorizationFailure", "403"), "")
    assert "refuses this network" in str(refusal("azure", answer, PLACE))
    assert "may not list" in str(refusal("azure", Answer("list", ("SomethingNew", "403"), ""), PLACE))


def test_an_answer_nobody_knows_keeps_its_code_and_its_text_in_short() -> None:
    error = refusal("aws", Answer("get", ("Odd", "418"), "x " * 1000), PLACE)
    assert type(error) is DeliveryError
    assert not isinstance(error, AccessDeniedError)
    assert "Odd (x x" in str(error)
    assert len(str(error)) < 450
