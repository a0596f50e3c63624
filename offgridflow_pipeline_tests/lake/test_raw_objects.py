"""Raw objects: stored once under their hash, verified when read, nowhere half-written."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from offgridflow_pipeline.lake.objects import RawObjectError, RawObjects

CONTENT = b"a bill\n" * 1000
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> RawObjects:
    return RawObjects(str(tmp_path / "lake"))


@pytest.fixture
def bill(tmp_path: Path) -> Path:
    path = tmp_path / "bill.csv"
    path.write_bytes(CONTENT)
    return path


def test_an_object_lies_under_the_hash_of_its_bytes(store: RawObjects, bill: Path, tmp_path: Path) -> None:
    kept = store.put("acme", bill)
    assert (kept.sha256, kept.size_bytes) == (SHA, len(CONTENT))
    assert kept.uri == str(tmp_path / "lake" / "acme" / "raw" / "sha256" / SHA[:2] / SHA)
    assert Path(kept.uri).read_bytes() == CONTENT


def test_storing_the_same_bytes_again_changes_nothing(store: RawObjects, bill: Path) -> None:
    first = store.put("acme", bill)
    written = Path(first.uri).stat().st_mtime_ns
    assert store.put("acme", bill) == first
    assert Path(first.uri).stat().st_mtime_ns == written
    assert [p.name for p in Path(first.uri).parent.iterdir()] == [SHA]


def test_a_half_written_object_is_mended_by_storing_it_again(store: RawObjects, bill: Path) -> None:
    kept = store.put("acme", bill)
    Path(kept.uri).write_bytes(CONTENT[:100])
    store.put("acme", bill)
    assert Path(kept.uri).read_bytes() == CONTENT


def test_a_damaged_object_of_the_right_size_is_mended_too(store: RawObjects, bill: Path) -> None:
    kept = store.put("acme", bill)
    Path(kept.uri).write_bytes(CONTENT.replace(b"bill", b"bi11", 1))
    store.put("acme", bill)
    assert Path(kept.uri).read_bytes() == CONTENT


def test_a_file_that_grows_while_it_is_stored_is_refused(
    store: RawObjects, bill: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def grow(*_: object) -> bool:  # asked after the hash was taken, before the bytes are copied
        bill.write_bytes(CONTENT + b"one more row\n")
        return False

    monkeypatch.setattr(RawObjects, "_holds", grow)
    with pytest.raises(RawObjectError, match="changed while it was stored: wait until it is complete"):
        store.put("acme", bill)
    assert not [path for path in (tmp_path / "lake").rglob("*") if path.is_file()]


def test_reading_gives_a_local_file_of_the_wanted_name(store: RawObjects, bill: Path) -> None:
    store.put("acme", bill)
    with store.local_path("acme", SHA, "bill.csv") as path:
        assert path.name == "bill.csv"
        assert path.read_bytes() == CONTENT
    assert not path.exists()


def test_changed_bytes_are_never_handed_out(store: RawObjects, bill: Path) -> None:
    kept = store.put("acme", bill)
    Path(kept.uri).write_bytes(CONTENT.replace(b"bill", b"bi11", 1))
    with (
        pytest.raises(RawObjectError, match="was changed after it was stored: restore it"),
        store.local_path("acme", SHA),
    ):
        pass


def test_a_missing_object_is_named(store: RawObjects) -> None:
    with pytest.raises(RawObjectError, match=f"{SHA} of acme is missing"), store.local_path("acme", SHA):
        pass


def test_another_tenant_does_not_see_the_object(store: RawObjects, bill: Path) -> None:
    store.put("acme", bill)
    with pytest.raises(RawObjectError, match="of beta is missing"), store.local_path("beta", SHA):
        pass


@pytest.mark.parametrize(("tenant", "sha"), [("../acme", SHA), ("acme", "../" * 20), ("acme", SHA.upper())])
def test_names_that_could_leave_the_tenants_folder_are_refused(store: RawObjects, tenant: str, sha: str) -> None:
    with pytest.raises(RawObjectError, match="Not a tenant slug and SHA-256"), store.local_path(tenant, sha):
        pass
