"""Who may what: the app's answers equal the checked-in table, and the table keeps the laws of access."""

from __future__ import annotations

import csv
from collections.abc import Iterator

import pytest

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.identity.permissions import ROLES, Permission, key_permissions, permissions_of
from offgridflow_pipeline_tests.sidecar.access_matrix import CALLERS, TABLE, Asker, asked_routes, rows
from offgridflow_pipeline_tests.sidecar.world import World

PERMISSIONS = {str(permission) for permission in Permission}


@pytest.fixture(scope="module")
def world(database: Database, api_database: Database, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(database, api_database, tmp_path_factory.mktemp("world"))


def stated() -> list[dict[str, str]]:
    with TABLE.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_the_app_answers_every_route_role_and_id_as_the_table_says(world: World) -> None:
    assert list(rows(world)) == stated()


def test_no_route_forgets_to_say_what_it_asks_for(world: World) -> None:
    unsaid = [f"{a.method} {a.route.path}" for a in asked_routes(world.app) if not a.access]
    assert unsaid == []


def _rows_of_permissions() -> Iterator[tuple[dict[str, str], Permission]]:
    for row in stated():
        if row["access"] in PERMISSIONS:
            yield row, Permission(row["access"])


def test_in_the_table_nobody_without_the_permission_gets_further_than_403() -> None:
    checked = 0
    for row, permission in _rows_of_permissions():
        for role in ROLES:
            if permission not in permissions_of(role):
                assert row[role] == "403", (row, role)
                checked += 1
        if permission not in key_permissions():
            assert row["api_key"] == "403", row
    assert checked > 100


def test_in_the_table_whoever_holds_the_permission_is_not_turned_away_from_their_own() -> None:
    for row, permission in _rows_of_permissions():
        if row["path"].endswith("/cancel"):
            continue  # asks for the permission of the job's own type besides
        for role in ROLES:
            if permission in permissions_of(role):
                assert row[role] not in ("401", "403"), (row, role)


def test_in_the_table_nothing_but_public_routes_answers_without_a_credential() -> None:
    for row in stated():
        if row["access"] != "public":
            assert row["anonymous"] in ("401", "303"), row


def test_in_the_table_what_is_foreign_is_answered_as_what_does_not_exist() -> None:
    kinds: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
    for row in stated():
        kinds.setdefault((row["method"], row["path"]), {})[row["ids"]] = row
    for of_route in kinds.values():
        if "foreign" in of_route:
            for caller in CALLERS:
                assert of_route["foreign"][caller] == of_route["unknown"][caller], (of_route["foreign"], caller)


def test_a_foreign_id_and_an_unknown_one_get_the_same_answer_to_the_byte(world: World) -> None:
    asker = Asker(world)
    for asked in asked_routes(world.app):
        if asked.names_things and asked.method in ("GET", "HEAD"):
            for caller in ("owner", "auditor", "api_key"):
                assert asker.ask(asked, caller, "foreign") == asker.ask(asked, caller, "unknown"), asked.route.path
