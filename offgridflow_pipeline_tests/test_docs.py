"""README and docs: commands, options, settings, links, addresses and names that they tell of are there."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from offgridflow_pipeline.cli import app
from offgridflow_pipeline.settings import Settings

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = PAGES[0].read_text(encoding="utf-8")
#: Variables of other programs, of tests, and a prefix whose rest is the tenant's.
OTHER_VARIABLES = {"OFFGRIDFLOW_DAGSTER_DATABASE_URL", "OFFGRIDFLOW_SECRET"}
every_page = pytest.mark.parametrize("page", PAGES, ids=[path.relative_to(ROOT).as_posix() for path in PAGES])


@every_page
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


@every_page
def test_every_command_and_option_is_there(page: Path) -> None:
    wrong = [problem for words in commands(page.read_text(encoding="utf-8")) for problem in unknown_in(words)]
    assert wrong == []


@every_page
def test_every_setting_is_there(page: Path) -> None:
    known = {f"OFFGRIDFLOW_{name.upper()}" for name in Settings.model_fields} | OTHER_VARIABLES
    named = set(re.findall(r"\bOFFGRIDFLOW_[A-Z_]*[A-Z]", page.read_text(encoding="utf-8")))
    assert named - known == set()


def test_every_address_in_the_api_guide_is_one_of_the_contract() -> None:
    guide = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    paths = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))["paths"]
    patterns = [re.compile(re.sub(r"\{\w+\}", "[^/]+", path)) for path in paths]
    named = set(re.findall(r"(?:\$API|(?<=[\s`\"])/v1)(/[a-z/_{}-]+)", guide)) - {"/openapi.json", "/openapi"}
    assert len(named) > 5
    assert [name for name in named if not any(pattern.fullmatch(f"/v1{name}") for pattern in patterns)] == []


def test_readme_names_every_sensor_and_schedule() -> None:
    tree = ast.parse((ROOT / "offgridflow_pipeline" / "definitions.py").read_text(encoding="utf-8"))
    wired = [
        element.id
        for call in ast.walk(tree)
        if isinstance(call, ast.keyword) and call.arg in {"sensors", "schedules"} and isinstance(call.value, ast.List)
        for element in call.value.elts
        if isinstance(element, ast.Name)
    ]
    assert len(wired) > 5
    assert [name for name in wired if f"`{name}`" not in README] == []


def test_readme_names_every_room() -> None:
    house = README.partition("## The house")[2].partition("\n## ")[0]
    rooms = [path.parent.name for path in (ROOT / "offgridflow_pipeline").glob("*/__init__.py")]
    assert len(rooms) > 10
    assert [room for room in rooms if not re.search(rf"[`/]{room}`", house)] == []


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = [path.relative_to(ROOT / "docs") for path in PAGES[1:] if path.name != "README.md"]
    assert [
        page.as_posix() for page in pages if f"]({page})" not in index and f"]({page.parts[0]}/)" not in index
    ] == []


def commands(text: str) -> Iterator[list[str]]:
    """The words after `offgridflow` in code: blocks, with their lines joined, and spans."""
    blocks = re.findall(r"```(?:sh)?\n(.*?)```", text, re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()] + spans
    for line in lines:
        for found in re.findall(r"(?:^|[\s/(])offgridflow ([^`)#|]+)", line):
            yield shlex.split(found.replace("…", "").replace("'", ""))


def unknown_in(words: list[str]) -> list[str]:
    """What of a command line the program does not know."""
    command: Any = typer.main.get_command(app)
    place = ["offgridflow"]
    rest = list(words)
    while rest and hasattr(command, "commands") and not rest[0].startswith("-"):
        place.append(rest.pop(0))
        if place[-1] not in command.commands:
            return [f"{' '.join(place)}: no such command"]
        command = command.commands[place[-1]]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    options = [word.partition("=")[0] for word in rest if word.startswith("--")]
    return [f"{' '.join(place)}: no option {option}" for option in options if option not in known | {"--help"}]
