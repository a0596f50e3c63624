"""Which usage has no figure, by what the bill calls it: the work list of whoever extends the rules.

Reads ledger lines and the usage lines they were made from; decides nothing. Unmapped usage is never guessed
(carbon-method.md section 3), so this list and its cost are the gap of the inventory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ibis

if TYPE_CHECKING:
    import ibis.expr.types as ir

_KEY = "x_UsageKey"
_TEXTS = ("x_UsageType", "x_SkuMeterCategory", "x_SkuMeterSubcategory", "SkuMeter", "x_KeyDescription")


def unmapped_usage(ledger: ir.Table, lines: ir.Table) -> ir.Table:
    """Unmapped usage, the most expensive first.

    Args:
        ledger: ledger lines; needs the columns ``x_Provider, ServiceName, x_UsageKey, norm_unit, disposition,
            reason, rule_id, BillingCurrency, billed_cost``.
        lines: the usage lines of the same days; needs ``x_UsageKey, x_SourceUnit`` and the texts of a usage key.

    Returns:
        one row per provider, service, usage, unit, reason and currency: ``provider, service, usage`` (usage type,
        else meter with its categories, else description), ``unit`` (canonical, null when none fits),
        ``source_unit`` (as billed), ``reason, rule_id, rows``, and ``cost`` in ``currency``.
    """
    missing = ledger.filter(ledger.disposition == "unmapped")
    grouped = missing.group_by(
        provider=missing.x_Provider,
        service=missing.ServiceName,
        unit=missing.norm_unit,
        reason=missing.reason,
        rule_id=missing.rule_id,
        currency=missing.BillingCurrency,
        _key=missing[_KEY].fill_null(""),
    ).aggregate(rows=missing.count(), cost=missing.billed_cost.sum())
    described = _described(lines)
    joined = grouped.left_join(described, grouped._key == described._text_key)
    named = joined.group_by(
        "provider", "service", "usage", "unit", "source_unit", "reason", "rule_id", "currency"
    ).aggregate(rows=joined["rows"].sum(), cost=joined.cost.sum().cast("decimal(38, 18)"))
    return named.order_by(named.cost.desc(), named.provider, named.service, named.usage, named.reason)


def _described(lines: ir.Table) -> ir.Table:
    """One row per usage key with its name."""
    texts = {name: lines[name].arbitrary() for name in (*_TEXTS, "x_SourceUnit")}
    keys = lines.group_by(_text_key=lines[_KEY].fill_null("")).aggregate(**texts)
    meter = ibis.array([keys.x_SkuMeterCategory, keys.x_SkuMeterSubcategory, keys.SkuMeter])
    meter_text = meter.filter(lambda part: part.notnull() & (part != "")).join(" / ").nullif("")
    return keys.select(
        "_text_key",
        usage=ibis.coalesce(keys.x_UsageType.nullif(""), keys.x_KeyDescription.nullif(""), meter_text),
        source_unit=keys.x_SourceUnit,
    )
