"""Every setting of OffGridFlow, typed, in one place.

Values come from the environment (prefix ``OFFGRIDFLOW_``) or a ``.env`` file in the current folder.
Production refuses to start while a required secret is missing or still has its development value;
the refusal names all of them at once. Nothing else reads ``os.environ`` for configuration.
"""

from __future__ import annotations

import re
from datetime import date
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from offgridflow_pipeline.stated_keys import StatedKeysError, stated_keys

DEVELOPMENT_SECRET = "development-only"  # noqa: S105  refused in production
MINIMUM_SECRET_LENGTH = 32
#: API keys that a tenant may have live at once: one for each program that people can keep an eye on.
LIVE_KEYS = 100
#: Secret and restricted keys of Stripe's test mode begin so.
_STRIPE_TEST_KEYS = ("sk_test_", "rk_test_")
#: A slug that another could go on; no slug holds two dashes in a row.
_OPEN_SLUG = re.compile(r"\{tenant\}(?!--|[^a-z0-9-])")


class SettingsError(ValueError):
    """The settings cannot be used; the message lists every reason and its cure."""


class Settings(BaseSettings):
    """All settings. Paths are relative to the folder the process was started in."""

    model_config = SettingsConfigDict(
        env_prefix="OFFGRIDFLOW_", env_file=".env", extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )

    environment: Literal["development", "test", "production"] = "development"
    data_dir: Path = Field(Path("var"), description="Home of the embedded PostgreSQL, lake and Dagster files.")
    lake_uri: str = Field("", description="Root of the Delta lake; empty = <data_dir>/lake.")
    lake_storage_options: dict[str, str] = Field(
        default_factory=dict, description="Options for an object-store lake, as deltalake names them."
    )
    database_url: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("OFFGRIDFLOW_DATABASE_URL", "DATABASE_URL"),
        description="PostgreSQL URL of an administrative role; empty = the embedded server.",
    )
    application_password: SecretStr = Field(
        SecretStr(DEVELOPMENT_SECRET), description="Password of the role the pipeline connects as."
    )
    api_password: SecretStr = Field(
        SecretStr(DEVELOPMENT_SECRET), description="Password of the role the sidecar connects as."
    )
    public_url: str = Field(
        "http://127.0.0.1:8000",
        description="Where people reach the sidecar: links in mail and cookies are made of it, never of a Host header.",
    )
    session_pepper: SecretStr = Field(
        SecretStr(DEVELOPMENT_SECRET), description="Key of the HMACs of session tokens, single-use tokens and cursors."
    )
    signing_keys: SecretStr = Field(
        SecretStr(DEVELOPMENT_SECRET),
        description="Ed25519 keys that sign exchange tokens and audit anchors, ID:BASE64 of the 32-byte seed, "
        "comma-separated; the first signs, the others still verify.",
    )
    audit_anchor_uri: str = Field(
        "",
        description="Folder that a copy of each audit anchor is written to, with object lock: s3://bucket/anchors; "
        "empty = the database alone keeps them.",
    )
    smtp_url: SecretStr = Field(
        SecretStr(""),
        description="smtp://user:password@host:587 (STARTTLS required), smtps://…:465; empty = mail stays in the "
        "outbox, and development writes it to the log.",
    )
    smtp_ca_bundle: Path | None = Field(
        None, description="Certificate authorities (PEM) of a mail server with a private certificate."
    )
    mail_from: str = Field("OffGridFlow <noreply@localhost>", description="Sender of mails.")
    rate_limit_store: Literal["memory", "postgresql", "redis"] = Field(
        "memory", description="Where rates are counted: memory = one process."
    )
    redis_url: SecretStr = Field(SecretStr(""), description="Redis of the rate limits: redis://…, rediss://….")
    trusted_proxies: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Networks whose X-Forwarded-For is believed, comma-separated CIDR; empty = none.",
    )
    maximum_live_keys: int = Field(
        LIVE_KEYS,
        ge=1,
        description="API keys that one tenant may have live at once; a key and its successor count once.",
    )
    maximum_upload_bytes: int = Field(25 * 2**20, description="Largest activity file that may be uploaded.")
    otlp_endpoint: str = Field(
        "",
        validation_alias=AliasChoices("OFFGRIDFLOW_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        description="OpenTelemetry collector, OTLP over HTTP: http://collector:4318; empty = nothing is exported.",
    )
    service_name: str = Field(
        "offgridflow-api", validation_alias=AliasChoices("OFFGRIDFLOW_SERVICE_NAME", "OTEL_SERVICE_NAME")
    )
    trace_sample_rate: float = Field(
        0.1,
        ge=0,
        le=1,
        validation_alias=AliasChoices("OFFGRIDFLOW_TRACE_SAMPLE_RATE", "OTEL_TRACE_SAMPLE_RATE"),
        description="Share of traces that is exported.",
    )
    metrics_host: str = Field("127.0.0.1", description="Address of the sidecar's /metrics; never a public one.")
    metrics_port: int = Field(9464, ge=0, le=65535, description="Port of the sidecar's /metrics; 0 = off.")
    availability_target: float = Field(
        0.999, gt=0, lt=1, description="Share of requests that must succeed: alerts on the error budget use it."
    )
    gate_origins: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Origins of the Dagster UI behind the proxy, comma-separated: https://dagster.example.com. A POST "
        "or WebSocket from another one is refused.",
    )
    log_format: Literal["text", "json", ""] = Field(
        "", description="Form of the sidecar's log lines; empty = json in production, text elsewhere."
    )
    engine_memory_mb: int = Field(512, ge=128, description="Memory limit of the embedded engine in MiB.")
    engine_threads: int = Field(2, ge=1, le=256)
    run_silent_seconds: float = Field(
        120,
        ge=4,
        le=3600,
        description="A run whose process has not been heard of for so long is taken for dead and ended; its process "
        "beats eight times as often.",
    )
    history_start: date = Field(date(2024, 1, 1), description="First day of the daily partitions.")
    secret_keys: SecretStr = Field(
        SecretStr(DEVELOPMENT_SECRET),
        description="Key-encryption keys of sealed secrets, ID:BASE64 of 32 bytes each, comma-separated; the first "
        "seals, the others still open. For secrets of connections and second factors of people.",
    )
    secret_env_prefix: str = Field(
        "OFFGRIDFLOW_SECRET_{tenant}__",
        min_length=1,
        description="Environment variables that a connection's secret may be, by prefix; {tenant} is the slug in "
        "capitals with _ for -.",
    )
    secret_files_dir: Path | None = Field(
        None, description="Secret files of connections lie in <this folder>/<tenant>/; empty = none may be read."
    )
    secret_manager_prefixes: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="References to secret managers that a connection may use, by prefix, comma-separated; {tenant} "
        "is the slug: aws-sm:offgridflow/{tenant}/. Empty = any, in production none.",
    )
    local_source_roots: Annotated[list[Path], NoDecode] = Field(
        default_factory=list,
        description="Folders that local bills may lie in, comma-separated; {tenant} is the slug. Empty = any, in "
        "production none.",
    )
    allowed_hosts: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Hosts that connections may name besides the clouds' own, comma-separated, with the port where "
        "it is not the usual one. Empty = any, in production none.",
    )
    https_ca_bundle: Path | None = Field(
        None, description="Certificate authorities (PEM) of https hosts with private certificates; empty = public ones."
    )
    maximum_object_bytes: int = Field(
        64 * 2**30, description="Largest uncompressed size of one billing object; larger is refused."
    )
    maximum_compression_ratio: int = Field(1000, description="Uncompressed / compressed size that is refused.")
    stripe_secret_key: SecretStr = Field(
        SecretStr(""),
        validation_alias=AliasChoices("OFFGRIDFLOW_STRIPE_SECRET_KEY", "STRIPE_SECRET_KEY"),
        description="Secret or restricted key of Stripe; empty = self-hosted: nobody subscribes, nothing is limited.",
    )
    stripe_webhook_secret: SecretStr = Field(
        SecretStr(""),
        validation_alias=AliasChoices("OFFGRIDFLOW_STRIPE_WEBHOOK_SECRET", "STRIPE_WEBHOOK_SECRET"),
        description="Signing secret of the webhook endpoint; empty = there is no webhook.",
    )
    stripe_webhook_secret_previous: SecretStr = Field(
        SecretStr(""),
        validation_alias=AliasChoices("OFFGRIDFLOW_STRIPE_WEBHOOK_SECRET_PREVIOUS", "STRIPE_WEBHOOK_SECRET_PREVIOUS"),
        description="The secret before, while it is rotated: both are accepted.",
    )
    stripe_price_free: str = Field(
        "", validation_alias=AliasChoices("OFFGRIDFLOW_STRIPE_PRICE_FREE", "STRIPE_PRICE_FREE")
    )
    stripe_price_basic: str = Field(
        "", validation_alias=AliasChoices("OFFGRIDFLOW_STRIPE_PRICE_BASIC", "STRIPE_PRICE_BASIC")
    )
    stripe_price_pro: str = Field("", validation_alias=AliasChoices("OFFGRIDFLOW_STRIPE_PRICE_PRO", "STRIPE_PRICE_PRO"))
    stripe_price_enterprise: str = Field(
        "", validation_alias=AliasChoices("OFFGRIDFLOW_STRIPE_PRICE_ENTERPRISE", "STRIPE_PRICE_ENTERPRISE")
    )
    stripe_trial_days: int = Field(14, ge=0, le=730, description="Days of a first subscription before it is paid.")
    stripe_api_url: str = Field(
        "", description="Where Stripe's API is; empty = Stripe itself. For the counterpart of demonstration and tests."
    )
    taxonomy_packages: Annotated[list[Path], NoDecode] = Field(default_factory=list)
    validation_timeout_seconds: int = 120

    @field_validator(
        "taxonomy_packages",
        "secret_manager_prefixes",
        "local_source_roots",
        "allowed_hosts",
        "trusted_proxies",
        "gate_origins",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("secret_manager_prefixes")
    @classmethod
    def _ends_the_slug(cls, value: list[str]) -> list[str]:
        if any(_OPEN_SLUG.search(prefix) for prefix in value):
            raise ValueError("write {tenant}/ or {tenant}--, else the tenant a is given the secrets of the tenant a-b")
        return value

    @model_validator(mode="after")
    def _price_names_one_plan(self) -> Self:
        names = ("stripe_price_free", "stripe_price_basic", "stripe_price_pro", "stripe_price_enterprise")
        prices = [price for name in names if (price := getattr(self, name))]
        if len(prices) != len(set(prices)):
            raise ValueError("two of STRIPE_PRICE_FREE, _BASIC, _PRO, _ENTERPRISE name one price: which plan is it?")
        return self

    @property
    def logs_json(self) -> bool:
        """Whether log lines are JSON: in text, a message with a line break could forge a line."""
        return self.log_format == "json" or (self.log_format == "" and self.environment == "production")

    @property
    def lake_root(self) -> str:
        """URI or absolute local path of the lake."""
        return self.lake_uri or str((self.data_dir / "lake").resolve())

    @property
    def postgres_dir(self) -> Path:
        """Data folder of the embedded PostgreSQL."""
        return (self.data_dir / "postgres").resolve()

    def refusals(self) -> list[str]:
        """Reasons why these settings must not run in production, each with its cure."""
        if self.environment != "production":
            return []
        found: list[str] = []
        if self.database_url is None:
            found.append("DATABASE_URL is missing: the embedded PostgreSQL is for development only.")
        for name in ("application_password", "api_password", "session_pepper"):
            secret = getattr(self, name).get_secret_value()
            if secret == DEVELOPMENT_SECRET or len(secret) < MINIMUM_SECRET_LENGTH:
                found.append(
                    f"OFFGRIDFLOW_{name.upper()} is missing or weak: "
                    f"set at least {MINIMUM_SECRET_LENGTH} random characters."
                )
        for name, cost in (("signing_keys", "nothing can be signed"), ("secret_keys", "no second factor can be kept")):
            if not _states_keys(name, getattr(self, name).get_secret_value()):
                found.append(
                    f"OFFGRIDFLOW_{name.upper()} is missing or malformed, {cost}: set ID:BASE64 of 32 random bytes "
                    "(`openssl rand -base64 32`), several by commas."
                )
        if not self.public_url.startswith("https://"):
            found.append("OFFGRIDFLOW_PUBLIC_URL is not https: people's passwords and sessions travel over it.")
        if self.rate_limit_store == "redis" and not self.redis_url.get_secret_value():
            found.append("OFFGRIDFLOW_REDIS_URL is missing: OFFGRIDFLOW_RATE_LIMIT_STORE is redis.")
        if self.stripe_secret_key.get_secret_value().startswith(_STRIPE_TEST_KEYS):
            found.append(
                "STRIPE_SECRET_KEY is a key of Stripe's test mode: nobody would really pay; take the live one."
            )
        if self.stripe_secret_key.get_secret_value() and not self.stripe_webhook_secret.get_secret_value():
            found.append("STRIPE_WEBHOOK_SECRET is missing: what Stripe says would never arrive.")
        if self.stripe_api_url:
            found.append("OFFGRIDFLOW_STRIPE_API_URL is set: in production, Stripe itself says who has paid.")
        if not self.lake_uri:
            found.append("OFFGRIDFLOW_LAKE_URI is missing: name the durable lake, for example s3://bucket/lake.")
        return found


def _states_keys(name: str, text: str) -> bool:
    try:
        return bool(stated_keys(name, text))
    except StatedKeysError:
        return False


@cache
def load_settings() -> Settings:
    """The process-wide settings.

    Raises:
        SettingsError: in production, listing every missing or default secret in one message.
    """
    settings = Settings()
    if refusals := settings.refusals():
        raise SettingsError("OffGridFlow refuses to start in production:\n- " + "\n- ".join(refusals))
    return settings
