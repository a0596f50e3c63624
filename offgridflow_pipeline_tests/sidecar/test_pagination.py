"""Cursors: what is written is read, and nothing else is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offgridflow_pipeline.sidecar.answering import pagination
from offgridflow_pipeline.sidecar.entrance.problems import Problem

SORT_KEY = st.none() | st.integers(-(2**40), 2**40) | st.text() | st.dates() | st.datetimes() | st.uuids()


@dataclass
class Services:
    pepper: bytes = b"pepper"


@dataclass
class Caller:
    tenant_id: UUID
    user_id: UUID | None


def bound(
    route: str = "runs", tenant: int = 1, user: int | None = None, pepper: bytes = b"pepper", **filters: Any
) -> pagination.Cursors:
    services: Any = Services(pepper)
    caller: Any = Caller(UUID(int=tenant), None if user is None else UUID(int=user))
    return pagination.cursors(services, caller, route, filters)


@given(st.lists(SORT_KEY, max_size=5))
def test_sort_keys_come_back_as_they_were_written(keys: list[Any]) -> None:
    found = bound().read(bound().write(keys))
    assert found == tuple(keys)
    assert [type(key) for key in found] == [type(key) for key in keys]


@pytest.mark.parametrize(
    "other",
    [
        bound(tenant=2),
        bound(user=7),
        bound(route="reports"),
        bound(status="failed"),
        bound(pepper=b"another"),
    ],
)
def test_a_cursor_of_another_tenant_person_list_or_question_is_refused(other: pagination.Cursors) -> None:
    with pytest.raises(Problem) as refusal:
        bound().read(other.write(["a", 1]))
    assert (refusal.value.status, refusal.value.code) == (400, "bad_cursor")


@given(st.integers(0, 200), st.characters(codec="utf-8"))
def test_a_cursor_with_any_character_changed_is_refused(place: int, letter: str) -> None:
    text = bound().write(["2026-10-01", 5, None])
    place %= len(text)
    altered = text[:place] + letter + text[place + 1 :]
    if altered != text:
        with pytest.raises(Problem):
            bound().read(altered)


@given(st.text())
def test_no_text_from_outside_is_taken_for_a_cursor(text: str) -> None:
    with pytest.raises(Problem):
        bound().read(text)


@given(st.integers(0, 30), st.integers(1, 7))
def test_pages_put_together_are_the_list(length: int, limit: int) -> None:
    rows = list(range(length))
    cursors, seen, cursor = bound(), [], None
    while True:
        after = cursors.read(cursor)
        behind = [row for row in rows if after is None or row > after[0]]
        page, cursor = pagination.page(behind[: limit + 1], limit, cursors, key=lambda row: (row,))
        assert len(page) <= limit
        seen += page
        if cursor is None:
            break
    assert seen == rows
