"""Every factor and coefficient that a ledger cites, with its source and the terms it may be reprinted under."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from offgridflow_pipeline.factors.register import FactorSet
    from offgridflow_pipeline.lake.engine import Engine

FACTOR_COLUMNS = (
    "factor_uid", "factor_key", "value", "unit", "boundary", "gwp_basis", "valid_from", "valid_to", "known_from",
    "publisher", "title", "edition", "locator", "licence", "attribution",
)  # fmt: skip


def cited_factors(engine: Engine, ledger: ir.Table, factor_set: FactorSet) -> list[dict[str, Any]]:
    """Rows of `FACTOR_COLUMNS`, by key; the value is empty where its terms do not allow redistribution."""
    cited: set[str] = set()
    for column in ("factor_ids", "coefficient_ids"):
        found = engine.to_arrow(ledger.select(uid=ledger[column].unnest()).distinct())
        cited |= {uid for uid in found["uid"].to_pylist() if uid}
    rows = [_factor(factor_set, uid) for uid in cited]
    rows.sort(key=lambda row: (row["factor_key"], row["factor_uid"]))
    return rows


def _factor(factor_set: FactorSet, factor_uid: str) -> dict[str, Any]:
    factor = factor_set.by_uid(factor_uid)
    source = factor_set.source(factor)
    return {
        "factor_uid": factor_uid,
        "factor_key": factor.factor_key,
        "value": "" if source.masks_values or factor.value is None else format(factor.value, "f"),
        "unit": factor.unit,
        "boundary": factor.boundary,
        "gwp_basis": factor.gwp_basis,
        "valid_from": factor.valid_from,
        "valid_to": factor.valid_to or "",
        "known_from": factor.known_from,
        "publisher": source.publisher,
        "title": source.title,
        "edition": source.edition,
        "locator": factor.source_locator,
        "licence": source.licence,
        "attribution": source.attribution,
    }
