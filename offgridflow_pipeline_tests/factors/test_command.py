"""The command `offgridflow factors`."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from offgridflow_pipeline.cli.factors import app
from offgridflow_pipeline.factors.register import load_factor_set

RUNNER = CliRunner()


def test_verify_says_that_the_set_is_sound_and_names_its_hash() -> None:
    result = RUNNER.invoke(app, ["verify"])
    assert result.exit_code == 0
    assert f"ofg-2026.11 {load_factor_set().semver} is sound" in result.output
    assert "set_sha" in result.output


def test_show_cites_every_vintage_and_marks_the_one_that_serves() -> None:
    result = RUNNER.invoke(
        app, ["show", "grid.location/GB", "--usage-date", "2025-03-10", "--as-of", "2025-03-01", "--json"]
    )
    vintages = [json.loads(line) for line in result.output.splitlines()]
    assert result.exit_code == 0
    assert [v["value"] for v in vintages if v["serves"]] == ["0.20705"]
    assert all(v["source"] and v["locator"] and v["licence"] for v in vintages)


def test_show_prints_a_readable_sheet_and_lists_the_keys_below_a_start() -> None:
    assert "SERC Virginia/Carolina" in RUNNER.invoke(app, ["show", "grid.location/US/SRVC"]).output
    assert "replication/aws/ebs" in RUNNER.invoke(app, ["show", "replication"]).output.splitlines()


def test_show_of_an_unknown_key_fails_with_the_kinds() -> None:
    result = RUNNER.invoke(app, ["show", "grid.location/ATLANTIS"])
    assert result.exit_code == 1
    assert "Kinds: coefficient" in result.output
