"""The register's checks: the shipped set passes, and each kind of damage is named."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offgridflow_pipeline.factors.canonical import canonical_row, factor_uid, plain_decimal, set_sha
from offgridflow_pipeline.factors.register import DATA, verify_factor_set


@pytest.fixture
def damaged(tmp_path: Path) -> Callable[[str, str, str], list[str]]:
    """Copies the set, replaces one text in one file, returns the problems."""
    folder = tmp_path / "data"
    shutil.copytree(DATA, folder)

    def damage(file: str, old: str, new: str) -> list[str]:
        path = folder / file
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), "utf-8")
        return verify_factor_set(folder)

    return damage


def test_the_shipped_set_is_sound() -> None:
    assert verify_factor_set() == []


def test_the_data_stay_below_six_megabytes() -> None:
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 6_000_000


def test_one_changed_digit_changes_the_row_hash_and_needs_a_new_version(
    damaged: Callable[[str, str, str], list[str]],
) -> None:
    problems = damaged("grid.location.csv", "0.270488923633", "0.270488923634")
    assert problems == ["grid.location/US/SRVC valid from 2023-01-01: factor_uid does not match the row"]


def version() -> str:
    return str(json.loads((DATA / "set.json").read_text("utf-8"))["semver"])


def test_a_row_with_a_repaired_hash_still_needs_a_version_bump(
    damaged: Callable[[str, str, str], list[str]],
) -> None:
    with (DATA / "spend.csv").open(encoding="utf-8", newline="") as file:
        row = next(csv.DictReader(file))
    problems = damaged("spend.csv", row["factor_uid"], factor_uid(row | {"value": "0.094"}))
    assert any("set_sha" in p and "bump semver" in p for p in problems)
    assert any(p.startswith(f"releases.csv: version {version()} was released as") for p in problems)


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("grid.location.csv", "0.270488923633", "2.70488923633", "is above 1.6"),
        ("pue.csv", ",1.15,", ",-1.15,", "negative value -1.15"),
        ("grid.residual.csv", "no_residual_mix", "", "a value or a null_reason must stand"),
        (
            "grid.location.csv",
            "us-egrid-2023-rev2",
            "hearsay",
            "source 'hearsay' is not in factor_source.csv",
        ),
        (
            "grid.location.csv",
            ",2025-06-12,day,2025-06-12,",
            ",2025-06-12,day,2025-01-01,",
            "before it was published",
        ),
        ("instance.type.csv", '""host"":""m5.24xlarge""', '""host"":""m5.25xlarge""', "which the set lacks"),
        ("set.json", '"semver": "', '"semver": "9', "was released as []"),
        ("factor_source.csv", "source_id,publisher", "source,publisher", "cannot be read as a factor set"),
    ],
)
def test_damage_is_named(
    damaged: Callable[[str, str, str], list[str]], file: str, old: str, new: str, expected: str
) -> None:
    problems = damaged(file, old, new)
    assert any(expected in problem for problem in problems)


def test_a_missing_set_is_one_problem(tmp_path: Path) -> None:
    assert len(verify_factor_set(tmp_path)) == 1


def test_a_copied_vintage_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(DATA, folder)
    location = folder / "grid.location.csv"
    rows = location.read_text("utf-8").splitlines()
    old = [row for row in rows if ",owid-ember-2026-05," in row and ",2024,2024-01-01," in row]
    copies = [
        row.replace(",2024,2024-01-01,2024-12-31,", f",{year},{year}-01-01,{year}-12-31,")
        for year in (2026, 2027)
        for row in old
    ]
    location.write_text("\n".join([*rows, *copies]) + "\n", "utf-8")
    problems = verify_factor_set(folder)
    assert any("owid-ember-2026-05 2027" in problem and "stale copy" in problem for problem in problems)


def test_the_set_hash_depends_on_rows_name_and_version_but_not_on_their_order() -> None:
    header = json.loads((DATA / "set.json").read_text("utf-8"))
    uids = ["b" * 64, "a" * 64]
    assert set_sha("n", "1.0.0", uids) == set_sha("n", "1.0.0", reversed(uids))
    assert set_sha("n", "1.0.0", uids) != set_sha("n", "1.0.1", uids)
    assert len(header["set_sha"]) == 64


@given(st.decimals(allow_nan=False, allow_infinity=False, places=12, min_value=-(10**9), max_value=10**9))
def test_a_plain_decimal_is_the_same_number_however_it_was_written(number: Decimal) -> None:
    text = plain_decimal(number)
    assert Decimal(text) == number
    assert "E" not in text
    assert plain_decimal(number * Decimal("1.000")) == text


def test_the_canonical_row_ignores_when_it_was_ingested() -> None:
    with (DATA / "spend.csv").open(encoding="utf-8", newline="") as file:
        row = next(csv.DictReader(file))
    assert canonical_row(row) == canonical_row(row | {"ingested_at": "2030-01-01", "factor_uid": ""})
    assert canonical_row(row) == canonical_row(row | {"value": row["value"] + "000"})
    assert canonical_row(row) != canonical_row(row | {"value": "0.094"})
