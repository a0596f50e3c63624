"""Citations of the shipped factor set: complete, and silent where terms forbid a reprint."""

from __future__ import annotations

import pytest

from offgridflow_pipeline.factors.register import FactorSetError, load_factor_set
from offgridflow_pipeline.inventory.citations import citations


def test_a_citation_names_source_and_locator_and_masks_values_under_terms():
    factors = load_factor_set()
    cite = citations(factors)
    masked = set()
    for kind in ("grid.location", "grid.residual", "coefficient"):
        for factor in factors.of_kind(kind)[:40]:
            found = cite(factor.factor_uid)
            assert found["factor_key"] == factor.factor_key
            assert found["title"]
            assert found["locator"]
            under_terms = factors.source(factor).masks_values
            assert (found["value"] is None) == (under_terms or factor.value is None)
            masked.add(under_terms)
    assert masked == {True, False}


def test_an_unknown_factor_is_refused():
    with pytest.raises(FactorSetError):
        citations(load_factor_set())("no-such-factor")
