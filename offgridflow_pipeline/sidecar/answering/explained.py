"""The explanation of a ledger line, and a factor, as the API shows them: models, and how they are filled."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from offgridflow_pipeline.decimal_text import exact_text
from offgridflow_pipeline.emissions.rules import rules_of
from offgridflow_pipeline.inventory.explanation import Step, UsedFactor, arithmetic, used_factors

if TYPE_CHECKING:
    from offgridflow_pipeline.factors.register import Factor, FactorSet

Exact = Annotated[str, Field(description="Exact decimal.")]


class FactorRow(TypedDict):
    """One row of the factor register."""

    factor_uid: str
    factor_key: str
    kind: str
    value: Annotated[str | None, Field(description="Exact decimal in `unit`; null when masked or without a value.")]
    is_masked: Annotated[bool, Field(description="The licence of the source forbids passing the value on.")]
    null_reason: str | None
    unit: str
    gwp_basis: str | None
    boundary: str
    method: str
    geography_kind: str
    geography: str
    data_year: int | None
    valid_from: date
    valid_to: date | None
    published_at: date
    known_from: date
    spread_gsd: Annotated[str, Field(description="Geometric standard deviation.")]
    attributes: Annotated[dict[str, Any] | None, Field(description="Further figures; null when masked.")]
    publisher: str
    title: str
    edition: str
    citation: str
    locator: str
    licence: str
    redistribution: str
    attribution: str
    evidence_grade: str


class LineFactor(TypedDict):
    """A factor that the line used; `factor` is null when this release's set does not hold it."""

    factor_uid: str
    factor: FactorRow | None


class ArithmeticStep(TypedDict):
    """quantity x intensity, rounded half-even to 12 decimals; `agrees`: it is what the ledger holds."""

    measure: str
    meaning: str
    unit: str
    quantity: Exact
    intensity: Exact
    product: Exact
    ledger: Annotated[str | None, Field(description="As the ledger holds it; null = not available, see statuses.")]
    agrees: bool


class RuleApplied(TypedDict):
    """The classification rule that matched; outcome and source are null when this release has no such rule."""

    rule_id: str
    outcome: str | None
    model: str | None
    source: str | None
    proxy_rule: str | None


class MethodApplied(TypedDict):
    """What the line was computed with."""

    method_id: str
    factor_set_sha: str
    is_installed_set: Annotated[bool, Field(description="Whether this release holds that factor set.")]
    as_of: date
    code_version: str
    run_id: str


class SourceObject(TypedDict):
    """The billing object that the row stands in, and the row's number (first data row = 1)."""

    sha256: str
    row: int
    connection_id: str | None
    feed: str | None
    uri: str | None
    etag: str | None
    size_bytes: int | None
    row_count: int | None
    version: str | None
    retrieved_at: datetime | None


class Explanation(TypedDict):
    """From a line's figures back to what was billed."""

    line_id: str
    usage_date: date
    disposition: str
    reason: str | None
    ledger: Annotated[dict[str, Any], Field(description="The ledger line: every column, decimals as text.")]
    usage: Annotated[dict[str, Any] | None, Field(description="The usage line (FOCUS columns); null when it is gone.")]
    rule: RuleApplied
    method: MethodApplied
    arithmetic: list[ArithmeticStep]
    factors: list[LineFactor]
    coefficients: list[LineFactor]
    source: SourceObject


def explanation(
    factor_set: FactorSet, line: Mapping[str, Any], usage: Mapping[str, Any] | None, source: Mapping[str, Any] | None
) -> Explanation:
    """The explanation of a ledger line with its usage line and source object, where they are known."""
    return {
        "line_id": line["line_id"],
        "usage_date": line["usage_date"],
        "disposition": line["disposition"],
        "reason": line["reason"],
        "ledger": _plain(line),
        "usage": None if usage is None else _plain(usage),
        "rule": _rule(line),
        "method": {
            "method_id": line["method_id"],
            "factor_set_sha": line["factor_set_sha"],
            "is_installed_set": line["factor_set_sha"] == factor_set.sha,
            "as_of": line["as_of"],
            "code_version": line["code_version"],
            "run_id": line["run_id"],
        },
        "arithmetic": [_step(step) for step in arithmetic(line)],
        "factors": [_used(factor_set, used) for used in used_factors(factor_set, line["factor_ids"])],
        "coefficients": [_used(factor_set, used) for used in used_factors(factor_set, line["coefficient_ids"])],
        "source": _source(line, source or {}),
    }


def factor_row(factor_set: FactorSet, factor: Factor) -> FactorRow:
    """A factor with its source; what the licence forbids to pass on is masked."""
    source = factor_set.source(factor)
    masked = source.masks_values
    return {
        "factor_uid": factor.factor_uid,
        "factor_key": factor.factor_key,
        "kind": factor.kind,
        "value": None if masked or factor.value is None else exact_text(factor.value),
        "is_masked": masked,
        "null_reason": factor.null_reason,
        "unit": factor.unit,
        "gwp_basis": factor.gwp_basis,
        "boundary": factor.boundary,
        "method": factor.method,
        "geography_kind": factor.geography_kind,
        "geography": factor.geography,
        "data_year": factor.data_year,
        "valid_from": factor.valid_from,
        "valid_to": factor.valid_to,
        "published_at": factor.published_at,
        "known_from": factor.known_from,
        "spread_gsd": exact_text(factor.gsd),
        "attributes": None if masked else _plain(factor.attributes),
        "publisher": source.publisher,
        "title": source.title,
        "edition": source.edition,
        "citation": source.citation,
        "locator": factor.source_locator,
        "licence": source.licence,
        "redistribution": source.redistribution,
        "attribution": source.attribution,
        "evidence_grade": source.evidence_grade,
    }


def _rule(line: Mapping[str, Any]) -> RuleApplied:
    rules = rules_of(line["x_Provider"] or "")
    rule = next((rule for rule in rules if rule.rule_id == line["rule_id"]), None)
    return {
        "rule_id": line["rule_id"],
        "outcome": rule.outcome if rule else None,
        "model": rule.model if rule else None,
        "source": rule.source if rule else None,
        "proxy_rule": line["proxy_rule"],
    }


def _step(step: Step) -> ArithmeticStep:
    return {
        "measure": step.measure,
        "meaning": step.meaning,
        "unit": step.unit,
        "quantity": exact_text(step.quantity),
        "intensity": exact_text(step.intensity),
        "product": exact_text(step.product),
        "ledger": None if step.ledger is None else exact_text(step.ledger),
        "agrees": step.agrees,
    }


def _used(factor_set: FactorSet, used: UsedFactor) -> LineFactor:
    return {
        "factor_uid": used.factor_uid,
        "factor": None if used.factor is None else factor_row(factor_set, used.factor),
    }


def _source(line: Mapping[str, Any], found: Mapping[str, Any]) -> SourceObject:
    return {
        "sha256": line["source_object_sha256"],
        "row": line["row_no"],
        "connection_id": found.get("connection_id"),
        "feed": found.get("feed"),
        "uri": found.get("uri"),
        "etag": found.get("etag"),
        "size_bytes": found.get("size_bytes"),
        "row_count": found.get("row_count"),
        "version": found.get("version"),
        "retrieved_at": found.get("retrieved_at"),
    }


def _plain(content: Any) -> Any:
    """The same content with decimals as exact text, at any depth."""
    match content:
        case Decimal():
            return exact_text(content)
        case Mapping():
            return {str(name): _plain(value) for name, value in content.items()}
        case list() | tuple():
            return [_plain(value) for value in content]
        case _:
            return content
