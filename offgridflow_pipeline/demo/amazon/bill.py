"""A whole AWS bill: metered rows, then the charges that follow from them."""

from __future__ import annotations

from offgridflow_pipeline.demo.amazon.charges import charges
from offgridflow_pipeline.demo.amazon.usage import AmazonDelivery, Month, Row, usage


def bill(delivery: AmazonDelivery, seed: int) -> list[Row]:
    """All rows of one delivery, in the columns of CUR 2.0."""
    month = Month(delivery, seed)
    return [*usage(month), *charges(month)]
