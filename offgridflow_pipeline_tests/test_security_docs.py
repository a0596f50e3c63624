"""docs/security/asvs.md leaves out nothing of levels 1 and 2, and what it names exists: code, tests, counts."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from offgridflow_pipeline.sidecar.entrance.middleware import SECURITY_HEADERS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security" / "asvs.md").read_text(encoding="utf-8")
PACKAGE, TESTS = ROOT / "offgridflow_pipeline", ROOT / "offgridflow_pipeline_tests"
#: Levels of the requirements of each section of ASVS 5.0.0, in order. V10 (OAuth) and V17 (WebRTC) do not apply.
LEVELS = {
    "1.1": "22", "1.2": "1111122223", "1.3": "112222222223", "1.4": "222", "1.5": "123",
    "2.1": "122", "2.2": "112", "2.3": "12223", "2.4": "23",
    "3.1": "3", "3.2": "113", "3.3": "12223", "3.4": "11222233", "3.5": "11122333", "3.6": "3", "3.7": "22333",
    "4.1": "12233", "4.2": "23333", "4.3": "22", "4.4": "1222",
    "5.1": "2", "5.2": "112333", "5.3": "113", "5.4": "222",
    "6.1": "122", "6.2": "111111112222", "6.3": "11223333", "6.4": "112233", "6.5": "22222333", "6.6": "2223",
    "6.7": "33", "6.8": "2222",
    "7.1": "222", "7.2": "1111", "7.3": "22", "7.4": "11222", "7.5": "223", "7.6": "22",
    "8.1": "1233", "8.2": "1123", "8.3": "133", "8.4": "23", "9.1": "111", "9.2": "1222",
    "11.1": "2233", "11.2": "22233", "11.3": "11233", "11.4": "1222", "11.5": "23", "11.6": "23", "11.7": "33",
    "12.1": "12233", "12.2": "11", "12.3": "22223",
    "13.1": "2333", "13.2": "222223", "13.3": "2233", "13.4": "1222233",
    "14.1": "22", "14.2": "12223333", "14.3": "122",
    "15.1": "12233", "15.2": "12233", "15.3": "1222222", "15.4": "3333",
    "16.1": "2", "16.2": "22222", "16.3": "2222", "16.4": "222", "16.5": "2223",
}  # fmt: skip
LEVEL_OF = {f"V{section}.{n}": level for section, levels in LEVELS.items() for n, level in enumerate(levels, start=1)}
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\| V\d.*$", PAGE, re.MULTILINE)]
NOT_APPLICABLE = [
    f"V{found}"
    for line in re.findall(r"^Not applicable: (.*)$", PAGE, re.MULTILINE)
    for found in re.findall(r"\b\d+\.\d+\.\d+\b", line)
]
STATES = ("Partly", "Gap", "Operator")


def state(row: list[str]) -> str:
    return next((name for name in STATES if row[3].startswith(f"**{name}**")), "met")


def test_nothing_of_levels_1_and_2_is_left_out_and_nothing_is_told_twice() -> None:
    told = [row[0] for row in ROWS] + NOT_APPLICABLE
    assert {name: times for name, times in Counter(told).items() if times > 1} == {}
    assert set(told) <= set(LEVEL_OF)
    assert {name for name, level in LEVEL_OF.items() if level != "3"} - set(told) == set()


def test_the_counts_at_the_top_are_those_of_the_rows() -> None:
    stated = re.search(
        r"^\| met \| partly \| gap \| operator \|\n.*\n\| (\d+) \| (\d+) \| (\d+) \| (\d+) \|", PAGE, re.M
    )
    assert stated is not None
    counted = Counter(map(state, ROWS))
    assert [int(number) for number in stated.groups()] == [counted[name] for name in ("met", *STATES)]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_what_a_row_names_exists(row: list[str]) -> None:
    name, _, code, proof = row
    paths = re.findall(r"`([^`]+)`", code)
    tests = re.findall(r"`(?:([\w/]+\.py)::)?(test_\w+)`", proof)
    assert paths, name
    assert [path for path in paths if not is_there(path)] == []
    anywhere = {test for _, test in known_tests()}
    assert [test for file, test in tests if (file, test) not in known_tests() and (file or test not in anywhere)] == []
    if state(row) == "met":
        assert tests, f"{name} is called met: name the test that shows it."
    elif state(row) != "Operator":
        assert proof.partition("**:")[2].strip(), f"{name}: say what is missing."


def test_the_policy_of_every_answer_starts_from_nothing() -> None:
    directives = [part.strip() for part in SECURITY_HEADERS["Content-Security-Policy"].split(";")]
    assert {"default-src 'none'", "base-uri 'none'", "frame-ancestors 'none'", "style-src 'self'"} <= set(directives)
    assert not [part for part in directives if "unsafe" in part or "*" in part or part.startswith("script-src")]
    assert SECURITY_HEADERS["Cross-Origin-Resource-Policy"] == SECURITY_HEADERS["Cross-Origin-Opener-Policy"]
    assert SECURITY_HEADERS["Cross-Origin-Opener-Policy"] == "same-origin"


def test_no_answer_lets_another_origin_read_it() -> None:
    sources = list((PACKAGE / "sidecar").rglob("*.py"))
    assert len(sources) > 50
    pattern = re.compile(r"access-control-allow|CORSMiddleware", re.IGNORECASE)
    assert [path.name for path in sources if pattern.search(path.read_text(encoding="utf-8"))] == []


def is_there(reference: str) -> bool:
    place, _, name = reference.partition("#")
    path = next((base / place for base in (PACKAGE, ROOT) if (base / place).is_file()), None)
    return path is not None and (not name or name in names_in(path))


@cache
def names_in(path: Path) -> frozenset[str]:
    """Functions, classes and constants at the top of a module."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return frozenset(found)


@cache
def known_tests() -> frozenset[tuple[str, str]]:
    """(file below the tests, function) of every test."""
    return frozenset(
        (path.relative_to(TESTS).as_posix(), name)
        for path in TESTS.rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    )
