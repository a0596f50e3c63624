"""Local files as a store: only below their roots, complete or not at all, and never while they change."""

from __future__ import annotations

from pathlib import Path

import pytest

from offgridflow_pipeline.connectors.access import AwsAccess, AzureAccess, GcpAccess, HttpsAccess, LocalAccess
from offgridflow_pipeline.connectors.errors import AccessDeniedError, DeliveryError
from offgridflow_pipeline.connectors.stores import Store, open_store
from offgridflow_pipeline.connectors.stores.transfer import TransferLimits


def _store(*roots: Path, limits: TransferLimits | None = None) -> Store:
    return open_store("/any", LocalAccess(tuple(str(root) for root in roots)), limits)


def _write(path: Path, content: bytes = b"a,b\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_folder_lists_its_files_but_not_hidden_or_underscore_ones(tmp_path: Path) -> None:
    for name in ("b.csv", "a/c.csv", ".hidden.csv", "_SUCCESS"):
        _write(tmp_path / name)
    found = _store().list(str(tmp_path))
    assert [item.uri for item in found] == [str(tmp_path / "a/c.csv"), str(tmp_path / "b.csv")]
    assert [item.size_bytes for item in found] == [4, 4]


def test_a_file_is_copied_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = _write(tmp_path / "source" / "bill.csv", b"x" * 3_000_000)
    store = _store()
    (item,) = store.list(str(path))
    target = tmp_path / "target" / "copy"
    target.parent.mkdir()
    store.download(item, target)
    assert target.read_bytes() == store.read_bytes(item) == path.read_bytes()
    assert [p.name for p in target.parent.iterdir()] == ["copy"]


@pytest.mark.parametrize("change", ["longer", "cut", "gone"])
def test_a_file_that_changes_after_it_was_listed_is_refused(tmp_path: Path, change: str) -> None:
    path = _write(tmp_path / "bill.csv")
    store = _store()
    (item,) = store.list(str(path))
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(b"a,b\n1,2\n" if change == "longer" else b"a")
    for read in (store.read_bytes, lambda listed: store.download(listed, tmp_path / "copy")):
        with pytest.raises(DeliveryError, match=r"bill\.csv changed while it was read: run again"):
            read(item)
    assert not (tmp_path / "copy").exists()


def test_below_a_root_everything_may_be_read_and_outside_nothing(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "root-of-another"
    _write(root / "bill.csv")
    outside = _write(other / "bill.csv")
    store = _store(root)
    assert len(store.list(str(root))) == 1
    for place in (other, outside, root / ".." / "root-of-another", root / ".." / "root-of-another" / "bill.csv"):
        with pytest.raises(AccessDeniedError, match="lies outside the folders that local bills may lie in"):
            store.list(str(place))


def test_a_link_out_of_the_root_is_neither_listed_nor_read(tmp_path: Path) -> None:
    root = tmp_path / "root"
    _write(root / "bill.csv")
    secret = _write(tmp_path / "secret" / "keys.csv")
    (root / "file-link.csv").symlink_to(secret)
    (root / "folder-link").symlink_to(secret.parent)
    store = _store(root)
    assert [item.uri for item in store.list(str(root))] == [str(root / "bill.csv")]
    for place in (root / "file-link.csv", root / "folder-link"):
        with pytest.raises(AccessDeniedError):
            store.list(str(place))
    (item,) = _store().list(str(root / "file-link.csv"))
    for read in (store.read_bytes, lambda listed: store.download(listed, tmp_path / "copy")):
        with pytest.raises(AccessDeniedError):
            read(item)
    assert not (tmp_path / "copy").exists()


def test_a_large_file_is_no_manifest(tmp_path: Path) -> None:
    path = _write(tmp_path / "manifest.json", b"x" * 2000)
    store = _store(limits=TransferLimits(maximum_small_bytes=1000))
    (item,) = store.list(str(path))
    with pytest.raises(DeliveryError, match="has 2,000 bytes or more, at most 1,000 are read"):
        store.read_bytes(item)


@pytest.mark.parametrize(
    ("uri", "access"),
    [
        ("s3://bucket/a", LocalAccess()),
        ("/etc", AwsAccess()),
        ("gs://bucket/a", AwsAccess()),
        ("az://account/container", GcpAccess()),
        ("https://host/a", GcpAccess()),
        ("ftp://host/a", HttpsAccess()),
        ("file:///etc/passwd", LocalAccess()),
        ("s3://bucket/a", AzureAccess()),
    ],
)
def test_an_access_opens_only_its_own_kind_of_store(uri: str, access: object) -> None:
    with pytest.raises(DeliveryError, match=f"cannot be read with {type(access).__name__}"):
        open_store(uri, access)  # type: ignore[arg-type]
