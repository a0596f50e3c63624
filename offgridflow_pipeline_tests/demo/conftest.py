"""One generated demonstration of three months for all tests of this room; they only read it."""

from __future__ import annotations

import pytest

from offgridflow_pipeline.demo.generator import DemoBills, generate


@pytest.fixture(scope="session")
def bills(tmp_path_factory: pytest.TempPathFactory) -> DemoBills:
    return generate(tmp_path_factory.mktemp("demo") / "bills")
