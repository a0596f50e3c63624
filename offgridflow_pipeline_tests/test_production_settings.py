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
BAD: list[tuple[str, list[str | None]]] = [
    ("database_url", [None]),
    ("application_password", [DEVELOPMENT_SECRET, "", "short"]),
    ("api_password", [DEVELOPMENT_SECRET, "", "short"]),
    ("session_pepper", [DEVELOPMENT_SECRET, "", "short"]),
    ("signing_keys", [DEVELOPMENT_SECRET, "", KEY, "s1:" + KEY[:-4], "S1:" + KEY, f"s1:{KEY},s2"]),
    ("secret_keys", [DEVELOPMENT_SECRET, "", KEY, "k1:hush", f"k1:{KEY};k2:{KEY}"]),
    ("public_url", ["http://carbon.example.com", ""]),
    ("lake_uri", [""]),
]


#: Set where people subscribe; each is refused in its own way.
BILLED: dict[str, Any] = {
    "stripe_secret_key": "sk_live_0123456789abcdef",
    "stripe_webhook_secret": "whsec_0123456789abcdef",
}
STRIPE_VARIABLES: list[str] = ["STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "OFFGRIDFLOW_STRIPE_API_URL"]


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


def test_a_tenant_pays_stripe_itself_with_real_money_and_we_hear_of_it() -> None:
    assert production(**BILLED).refusals() == []


@pytest.mark.parametrize(
    ("name", "value", "variable"),
    [
        ("stripe_webhook_secret", "", "STRIPE_WEBHOOK_SECRET"),
        ("stripe_secret_key", "sk_test_0123456789abcdef", "STRIPE_SECRET_KEY"),
        ("stripe_secret_key", "rk_test_0123456789abcdef", "STRIPE_SECRET_KEY"),
        ("stripe_api_url", "http://127.0.0.1:4243", "OFFGRIDFLOW_STRIPE_API_URL"),
    ],
)
def test_production_refuses_what_lets_people_in_without_paying(name: str, value: str, variable: str) -> None:
    [refusal] = production(**{**BILLED, name: value}).refusals()
    assert refusal.startswith(variable)
    assert not (value and value in refusal)


def test_the_counterpart_is_refused_in_production_even_before_a_key_is_set() -> None:
    [refusal] = production(stripe_api_url="https://api.stripe.com.evil.example").refusals()
    assert refusal.startswith("OFFGRIDFLOW_STRIPE_API_URL")


def test_a_price_is_that_of_one_plan() -> None:
    prices: dict[str, Any] = {"stripe_price_basic": "price_1", "stripe_price_pro": "price_2"}
    assert Settings(_env_file=None, **prices).stripe_price_pro == "price_2"
    with pytest.raises(ValueError, match="name one price") as refused:
        Settings(_env_file=None, **{**prices, "stripe_price_enterprise": "price_1"})
    assert "price_1" not in str(refused.value)


def test_stripes_own_names_of_the_settings_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    stated = {
        "STRIPE_SECRET_KEY": "sk_test_1", "STRIPE_WEBHOOK_SECRET": "whsec_2", "STRIPE_WEBHOOK_SECRET_PREVIOUS": "whsec_1",
        "STRIPE_PRICE_FREE": "price_f", "STRIPE_PRICE_BASIC": "price_b", "STRIPE_PRICE_PRO": "price_p",
        "STRIPE_PRICE_ENTERPRISE": "price_e",
    }  # fmt: skip
    for name, text in stated.items():
        monkeypatch.setenv(name, text)
    settings = Settings(_env_file=None)
    for name, text in stated.items():
        value = getattr(settings, name.lower())
        assert (value if isinstance(value, str) else value.get_secret_value()) == text


def test_everything_that_is_missing_is_told_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (*(variable(name) for name, _ in BAD), "OFFGRIDFLOW_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in STRIPE_VARIABLES:
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
    assert sorted(named) == sorted([*(variable(name) for name, _ in BAD), "OFFGRIDFLOW_REDIS_URL", *STRIPE_VARIABLES])


def test_every_setting_that_the_guide_names_exists() -> None:
    known = {f"OFFGRIDFLOW_{name.upper()}" for name in Settings.model_fields} | {
        *(name.upper() for name in Settings.model_fields if name.startswith("stripe_")),
        "DATABASE_URL",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OFFGRIDFLOW_DAGSTER_DATABASE_URL",
    }
    named = set(re.findall(r"\b(?:OFFGRIDFLOW_[A-Z_]+[A-Z]|DATABASE_URL|(?:OTEL|STRIPE)_[A-Z_]+[A-Z])\b", GUIDE))
    assert named - known == set()
