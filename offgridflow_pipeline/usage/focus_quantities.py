"""Consumed quantity of a FOCUS row in real units, and whether a marketplace seller stands behind the row.

Microsoft counts blocks in ConsumedQuantity for some meters and real units for others; the price tells which
(billing-feeds.md section 5.5, measured on real rows).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ibis

from offgridflow_pipeline.usage.expressions import DECIMAL, any_of, decimal

if TYPE_CHECKING:
    import ibis.expr.types as ir

#: List cost and price x quantity agree within rounding of the published prices.
_TOLERANCE = 1e-6
_POWERS_OF_TEN = tuple(10**n for n in range(1, 10))
_TIME_WORDS = ("hour", "day", "minute", "second", "month", "year")


def with_consumption(rows: ir.Table) -> ir.Table:
    """Add `_consumed` (DECIMAL(38,18)), `_unit`, `_in_blocks` and `_marketplace`."""
    measured = rows.ConsumedQuantity.notnull()
    quantity = rows.mutate(
        _stated=decimal(ibis.ifelse(measured, rows.ConsumedQuantity, rows.PricingQuantity)),
        _unit=ibis.ifelse(measured, ibis.coalesce(rows.ConsumedUnit, rows.PricingUnit), rows.PricingUnit),
        _marketplace=_marketplace(rows),
        _block=_block_size(rows),
    )
    judged = quantity.mutate(_in_blocks=any_of((rows._provider == "azure") & (quantity._block > 1) & _blocks(quantity)))
    return judged.mutate(
        _consumed=ibis.ifelse(judged._in_blocks, (judged._stated * judged._block).cast(DECIMAL), judged._stated)
    )


def _block_size(rows: ir.Table) -> ir.Value:
    """Units per price block: stated, else the ratio of the two quantities when it is a power of ten."""
    stated = rows.x_PricingBlockSize.try_cast("float64").round().cast("int64")
    ratio = rows.ConsumedQuantity.try_cast("float64") / rows.PricingQuantity.try_cast("float64")
    guessed = ibis.cases(
        *(((ratio / power - 1).abs() < _TOLERANCE, ibis.literal(power, type="int64")) for power in _POWERS_OF_TEN),
        else_=ibis.literal(1, type="int64"),
    )
    return ibis.ifelse(rows._provider == "azure", ibis.coalesce(stated, guessed), ibis.literal(1, type="int64"))


def _blocks(rows: ir.Table) -> ir.Value:
    """Whether the consumed quantity counts blocks: the price decides, else the kind of unit."""
    cost = rows.ListCost.try_cast("float64")
    price = rows.ListUnitPrice.try_cast("float64")

    def explains(quantity: ir.Value) -> ir.Value:
        gap = (cost - price * quantity.try_cast("float64")).abs()
        return (gap <= cost.abs() * _TOLERANCE).fill_null(False)

    priced = (price != 0) & (cost != 0)
    of_time = any_of(*(rows._unit.lower().contains(word) for word in _TIME_WORDS))
    return ibis.cases(
        (priced.fill_null(False) & explains(rows.PricingQuantity), False),
        (priced.fill_null(False) & explains(rows.ConsumedQuantity), True),
        else_=~of_time,
    )


def _marketplace(rows: ir.Table) -> ir.Value:
    """Whether the publisher is another company than the provider ("Microsoft" publishes for "Microsoft Azure")."""
    publisher, seller = rows.PublisherName.lower(), rows.ServiceProviderName.lower()
    same = publisher.startswith(seller) | seller.startswith(publisher)
    amazon = (rows._provider == "aws") & (publisher.startswith("aws") | publisher.startswith("amazon"))
    return any_of(publisher.notnull() & seller.notnull() & ~same & ~amazon)
