"""Production refuses to start with anything missing that people's safety rests on, and docs/production.md names it."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest

from offgridflow_pipeline.identity.envelope import KeyRing
from offgridflow_pipeline.identity.signing import SigningRing
from offgridflow_pipeline.settings import DEVELOPMENT_SECRET, Settings, SettingsError, load_settings

GUIDE = (Path(__file__).parents[1] / "docs" / "production.md").read_text(encoding="utf-8")
KEY = base64.b64encode(bytes(range(32))).decode()
SECRET = "long-enough-and-random-0123456789"
WHOLE: dict[str, Any] = {
    "database_url": "postgresql://db.internal/ogf",
    "application_password": SECRET,
    "api_password": SECRET[::-1],
    "session_pepper": SECRET.swapcase(),
    "signing_keys": f"s1:{KEY}",
    "secret_keys": f"k2:{KEY}, k1:{KEY}",
    "public_url": "https://carbon.example.com",
    "lake_uri": "s3://bucket/lake",
}
#: A setting without which production does not start, and values that are as bad as none.
BAD = [
    ("database_url", [None]),
    ("application_password", [DEVELOPMENT_SECRET, "", "short"]),
    ("api_password", [DEVELOPMENT_SECRET, "", "short"]),
    ("session_pepper", [DEVELOPMENT_SECRET, "", "short"]),
    ("signing_keys", [DEVELOPMENT_SECRET, "", KEY, "s1:" + KEY[:-4], "S1:" + KEY, f"s1:{KEY},s2"]),
    ("secret_keys", [DEVELOPMENT_SECRET, "", KEY, "k1:hush", f"k1:{KEY};k2:{KEY}"]),
    ("public_url", ["http://carbon.example.com", ""]),
    ("lake_uri", [""]),
]


def production(**values: Any) -> Settings:
    return Settings(_env_file=None, environment="production", **{**WHOLE, **values})


def variable(name: str) -> str:
    return "DATABASE_URL" if name == "database_url" else f"OFFGRIDFLOW_{name.upper()}"


def test_production_starts_with_everything_set() -> None:
    settings = production()
    assert settings.refusals() == []
    assert KeyRing.of(settings).current == "k2"
    assert SigningRing.of(settings).current == "s1"


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD for value in values])
def test_production_refuses_each_omission_by_name_with_its_cure(name: str, value: str | None) -> None:
    [refusal] = production(**{name: value}).refusals()
    assert refusal.startswith(variable(name))
    assert ":" in refusal
    assert not (value and len(value) > 5 and value in refusal and value != DEVELOPMENT_SECRET)


def test_a_rate_limit_store_in_redis_needs_its_address() -> None:
    [refusal] = production(rate_limit_store="redis").refusals()
    assert "OFFGRIDFLOW_REDIS_URL" in refusal
    assert production(rate_limit_store="redis", redis_url="rediss://cache.internal").refusals() == []


def test_everything_that_is_missing_is_told_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (*(variable(name) for name, _ in BAD), "OFFGRIDFLOW_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OFFGRIDFLOW_ENVIRONMENT", "production")
    with pytest.raises(SettingsError) as refused:
        load_settings.__wrapped__()
    _, *lines = str(refused.value).splitlines()
    assert sorted(re.findall(r"[A-Z][A-Z_]+", line)[0] for line in lines) == sorted(variable(name) for name, _ in BAD)


def test_outside_of_production_nothing_is_refused() -> None:
    assert Settings(_env_file=None, environment="development").refusals() == []


def test_the_guide_names_exactly_what_is_refused() -> None:
    section = GUIDE.partition("## Refused when missing")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `([A-Z_]+)`", section, re.MULTILINE)
    assert sorted(named) == sorted([*(variable(name) for name, _ in BAD), "OFFGRIDFLOW_REDIS_URL"])


def test_every_setting_that_the_guide_names_exists() -> None:
    known = {f"OFFGRIDFLOW_{name.upper()}" for name in Settings.model_fields} | {
        "DATABASE_URL",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OFFGRIDFLOW_DAGSTER_DATABASE_URL",
    }
    named = set(re.findall(r"\b(?:OFFGRIDFLOW_[A-Z_]+[A-Z]|DATABASE_URL|OTEL_[A-Z_]+)\b", GUIDE))
    assert named - known == set()
