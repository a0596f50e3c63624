from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("ibis", "duckdb", "pandas", "pyarrow", "deltalake", "sqlalchemy", "dagster", "boto3", "pydantic", "lxml")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_help_names_every_command() -> None:
    result = python("import sys; sys.argv = ['offgridflow', '--help']; from offgridflow_pipeline.cli import app; app()")
    assert result.returncode == 0, result.stderr
    for command in ("estimate", "demo", "dev", "db", "tenant", "connections", "period", "restatement", "factors"):
        assert f" {command} " in result.stdout


def test_the_command_line_starts_without_heavy_libraries() -> None:
    result = python(f"import sys; import offgridflow_pipeline.cli; print([m for m in {HEAVY} if m in sys.modules])")
    assert result.stdout.strip() == "[]", result.stderr


@pytest.mark.parametrize(
    "command",
    [
        "estimate",
        "demo",
        "dev",
        "db migrate",
        "tenant add",
        "connections add",
        "period close",
        "restatement list",
        "factors show",
    ],
)
def test_every_command_explains_itself(command: str) -> None:
    from typer.testing import CliRunner

    from offgridflow_pipeline.cli import app

    result = CliRunner().invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.stdout
