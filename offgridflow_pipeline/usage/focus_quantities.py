"""Consumed quantity of a FOCUS row in real units, and whether a marketplace seller stands behind the row.

Microsoft counts blocks in ConsumedQuantity for some meters and real units for others; kind of unit and price tell
which (billing-feeds.md section 5.5, measured on real rows).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ibis

from offgridflow_pipeline.usage.azure_rules import block_size, counts_blocks, in_units, unit_number, unit_rule_of
from offgridflow_pipeline.usage.expressions import any_of, decimal

if TYPE_CHECKING:
    import ibis.expr.types as ir

#: List cost and price x quantity agree within rounding of the published prices.
_TOLERANCE = 1e-6
_POWERS_OF_TEN = tuple(10**n for n in range(1, 10))


def with_consumption(rows: ir.Table) -> ir.Table:
    """Add `_consumed` (DECIMAL(38,18)), `_unit`, `_azure_rule` (null for others), `_in_blocks` and `_marketplace`.

    Azure's rows are measured in the unit of their price (``10K``), which says more than their consumed unit
    (``Units``); section 5.3.
    """
    measured = rows.ConsumedQuantity.notnull()
    azure = rows._provider == "azure"
    unit = ibis.ifelse(measured, ibis.coalesce(rows.ConsumedUnit, rows.PricingUnit), rows.PricingUnit)
    priced_in = ibis.ifelse(azure, ibis.coalesce(rows.x_PricingUnitDescription, unit), ibis.null("string"))
    named = rows.mutate(
        _stated=decimal(ibis.ifelse(measured, rows.ConsumedQuantity, rows.PricingQuantity)),
        _unit=ibis.coalesce(priced_in, unit),
        _measure=unit_number(priced_in),
        _marketplace=_marketplace(rows),
    )
    quantity = named.mutate(_azure_rule=unit_rule_of(named._measure), _block=_block_size(named))
    judged = quantity.mutate(_in_blocks=any_of((quantity._block > 1) & _blocks(quantity)))
    return judged.mutate(_consumed=in_units(judged._stated, judged._in_blocks, judged._block))


def _block_size(rows: ir.Table) -> ir.Value:
    """Units per price block: stated, else of the unit, else the ratio of the quantities when it is a power of ten."""
    listed = rows.x_PricingBlockSize.try_cast("float64").round().cast("int64")
    stated = ibis.coalesce(listed, block_size(rows._measure).nullif(1))
    ratio = rows.ConsumedQuantity.try_cast("float64") / rows.PricingQuantity.try_cast("float64")
    guessed = ibis.cases(
        *(((ratio / power - 1).abs() < _TOLERANCE, ibis.literal(power, type="int64")) for power in _POWERS_OF_TEN),
        else_=ibis.literal(1, type="int64"),
    )
    return ibis.ifelse(rows._provider == "azure", ibis.coalesce(stated, guessed), ibis.literal(1, type="int64"))


def _blocks(rows: ir.Table) -> ir.Value:
    """Whether the quantity counts blocks.

    Never for time and data: their price holds for both readings, and a block of ``100 Hours`` multiplied would
    make days of more than 24 hours. Else the price decides, and without one the kind of unit.
    """
    cost = rows.ListCost.try_cast("float64")
    price = rows.ListUnitPrice.try_cast("float64")
    gap = (cost - price * rows.PricingQuantity.try_cast("float64")).abs()
    exact = (price != 0) & (cost != 0) & (gap <= cost.abs() * _TOLERANCE) & rows.ConsumedQuantity.notnull()
    return counts_blocks(rows._measure, rows._unit) & ~exact.fill_null(False)


def _marketplace(rows: ir.Table) -> ir.Value:
    """Whether the publisher is another company than the provider ("Microsoft" publishes for "Microsoft Azure")."""
    publisher, seller = rows.PublisherName.lower(), rows.ServiceProviderName.lower()
    same = publisher.startswith(seller) | seller.startswith(publisher)
    amazon = (rows._provider == "aws") & (publisher.startswith("aws") | publisher.startswith("amazon"))
    return any_of(publisher.notnull() & seller.notnull() & ~same & ~amazon)
