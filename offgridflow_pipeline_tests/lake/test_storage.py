"""Where a lake may lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from offgridflow_pipeline.lake.storage import LakeLocationError, normal_root
from offgridflow_pipeline.lake.tables import Lake
from offgridflow_pipeline_tests.lake.totals import DATASET, TENANT


def test_a_relative_folder_stays_the_same_lake_when_the_process_changes_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lake = Lake("var/lake")
    monkeypatch.chdir("/")
    assert lake.uri(TENANT, DATASET) == f"{tmp_path.resolve()}/var/lake/{TENANT}/{DATASET}"


@pytest.mark.parametrize(
    ("root", "normal"),
    [
        ("file:///srv/ogf%20lake/", "/srv/ogf lake"),
        ("/srv/lake//", "/srv/lake"),
        ("s3://bucket/lake/", "s3://bucket/lake"),
    ],
)
def test_the_same_place_has_one_spelling(root: str, normal: str) -> None:
    assert normal_root(root) == normal


def test_a_folder_that_deltalake_would_misread_is_refused() -> None:
    with pytest.raises(LakeLocationError, match="percent sign in its path: choose another folder"):
        Lake("/srv/100%20green")
