"""Files of carbon statements: which of a store's objects hold a statement, and their rows as dictionaries.

Comma-separated text (also gzipped), Parquet, and JSON lines. What the rows mean is for each source to say. Exports
with manifests (AWS Data Exports) count by their newest manifest only, so that no delivery is added to the one before.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa

from offgridflow_pipeline.connectors.errors import BillingObjectError, DeliveryError

if TYPE_CHECKING:
    from offgridflow_pipeline.connectors.stores import Store, StoredObject

_CSV = (".csv", ".csv.gz")
_PARQUET = (".parquet",)
#: What AWS Data Exports deliver, and what BigQuery exports a table as.
AWS_SUFFIXES = (*_CSV, *_PARQUET)
BIGQUERY_SUFFIXES = (*_CSV, *_PARQUET, ".json", ".json.gz", ".jsonl", ".ndjson")
_MANIFEST = re.compile(r"manifest\.json$", re.IGNORECASE)
#: The partition folders of the carbon export (billing-feeds.md 4.1), then perhaps one folder per delivery.
_PARTITION = re.compile(r"(?P<partition>.*/?model_version=[^/]+/usage_period=(?P<period>[^/]+))/(?P<rest>.+)$")
_MONTH = re.compile(r"\d{4}-\d{2}")
_AGAIN = "Deliver the file again"


def statement_objects(store: Store, uri: str, months: Sequence[str], suffixes: tuple[str, ...]) -> list[StoredObject]:
    """The objects that can hold the months: of every partition the newest delivery, and nothing else.

    Raises:
        DeliveryError: there is none at all, or a manifest cannot be used.
    """
    listed = store.list(uri)
    data = [item for item in listed if item.uri.lower().endswith(suffixes) and not _MANIFEST.search(item.uri)]
    if manifests := [item for item in listed if _MANIFEST.search(item.uri)]:
        data = _named_by(manifests, data, store)
    if not data:
        raise DeliveryError(
            f"{uri} holds no file of a statement ({', '.join(suffixes)}): check the uri, or wait for a delivery."
        )
    return [item for item in _newest(data) if _may_hold(item.uri, months)]


@contextmanager
def downloaded(store: Store, item: StoredObject) -> Iterator[Path]:
    """The object as a local file; gone when the context ends."""
    with tempfile.TemporaryDirectory(prefix="ogf-statement-") as folder:
        target = Path(folder) / item.uri.rsplit("/", 1)[-1]
        store.download(item, target)
        yield target


def rows(path: Path, source: str) -> Iterator[dict[str, Any]]:
    """The rows of a file; text and JSON numbers stay text, typed values of Parquet stay what they are.

    Raises:
        BillingObjectError: the file is not what its name says, or damaged.
    """
    name = path.name.lower()
    try:
        if name.endswith(_PARQUET):
            yield from _parquet_rows(path)
        elif name.endswith(_CSV):
            with _text(path) as text:
                yield from _csv_rows(text, source)
        else:
            with _text(path) as text:
                yield from _json_rows(text, source)
    except (gzip.BadGzipFile, zlib.error, EOFError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise BillingObjectError(source, f"the file is damaged ({type(error).__name__})", _AGAIN) from None


def _named_by(manifests: Sequence[StoredObject], data: Sequence[StoredObject], store: Store) -> list[StoredObject]:
    found: dict[str, StoredObject] = {}
    for manifest in manifests:
        for name in _data_files(manifest, store):
            key = re.sub(r"^s3://[^/]+/", "", name)
            matches = [item for item in data if item.uri == name or item.uri.endswith("/" + key)]
            if not matches:  # copied to another root: the partition still identifies it
                tail = key[key.find("model_version=") :] if "model_version=" in key else key.rsplit("/", 1)[-1]
                matches = [item for item in data if item.uri.endswith("/" + tail)]
            if len(matches) != 1:
                raise DeliveryError(
                    f"{manifest.uri} names {name}, found {len(matches)} times: "
                    "the delivery is incomplete, wait or deliver again."
                )
            found[matches[0].uri] = matches[0]
    return list(found.values())


def _data_files(manifest: StoredObject, store: Store) -> list[str]:
    try:
        content = json.loads(store.read_bytes(manifest))
        files = content["dataFiles"]
    except (ValueError, KeyError, TypeError):
        raise DeliveryError(f"{manifest.uri} is no manifest of a Data Export: it lists no dataFiles.") from None
    if not isinstance(files, list) or not all(isinstance(name, str) for name in files):
        raise DeliveryError(f"{manifest.uri}: dataFiles is no list of names: deliver the export again.")
    return files


def _newest(data: Sequence[StoredObject]) -> Iterator[StoredObject]:
    """Of each partition the objects of its last delivery folder: those begin with their time (billing-feeds.md 4.1)."""
    last: dict[str, str] = {}
    for item in data:
        if found := _PARTITION.match(item.uri):
            folder = found["rest"].rpartition("/")[0]
            last[found["partition"]] = max(last.get(found["partition"], ""), folder)
    for item in data:
        found = _PARTITION.match(item.uri)
        if found is None or found["rest"].rpartition("/")[0] == last[found["partition"]]:
            yield item


def _may_hold(uri: str, months: Sequence[str]) -> bool:
    found = _PARTITION.match(uri)
    period = _MONTH.search(found["period"]) if found else None
    return period is None or period[0] in months


@contextmanager
def _text(path: Path) -> Iterator[IO[str]]:
    if path.name.lower().endswith(".gz"):
        with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as unpacked:
            yield unpacked
    else:
        with path.open(encoding="utf-8-sig", newline="") as plain:
            yield plain


def _csv_rows(text: IO[str], source: str) -> Iterator[dict[str, Any]]:
    reader = csv.reader(text, strict=True)
    header = [name.strip() for name in next(reader, [])]
    for number, cells in enumerate(reader, start=1):
        if not cells:
            continue
        if len(cells) != len(header):
            raise BillingObjectError(
                source, f"the row has {len(cells)} cells, the header {len(header)}", _AGAIN, row=number
            )
        yield dict(zip(header, cells, strict=True))


def _json_rows(text: IO[str], source: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_float=str, parse_int=str)
        except ValueError:
            row = None
        if not isinstance(row, Mapping):
            raise BillingObjectError(source, "the line is no JSON object", "Write one object a line", row=number)
        yield dict(row)


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=8192):
            yield from batch.to_pylist()
