"""Checks of a factor set against itself: hashes, citations, magnitudes, time (factors/README.md section 9).

Reads the CSV files as text and recomputes everything; nothing here is used when factors are selected.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path

from offgridflow_pipeline.factors.canonical import COLUMNS, factor_uid, set_sha

Row = dict[str, str]

#: No grid emits more per kWh; a higher figure is a unit error.
GRID_CEILING = Decimal("1.6")
#: A vintage of which this share of values equals the one before is taken for a copied table.
STALE_SHARE = Decimal("0.8")
STALE_MINIMUM = 10
QUALITY = ("completeness", "geography", "reliability", "technology", "time")
CLOSED = {
    "boundary": {
        "direct", "consumption", "lifecycle", "wtt", "td", "wtt_td", "cradle_to_gate", "cradle_to_sale",
        "technical",
    },
    "method": {"location", "residual", "supplier", "provider_claim", "activity", "spend", "technical"},
    "published_precision": {"day", "month", "year"},
    "ch4_origin": {"", "fossil_fugitive", "combustion", "biogenic"},
    "gwp_basis": {"", "AR4-100", "AR5-100", "AR6-100", "AR6-20", "co2_only", "unstated"},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Set:
    header: dict[str, object]
    rows: dict[str, list[Row]]
    sources: dict[str, Row]
    releases: list[Row]


def problems(folder: Path) -> list[str]:
    """Every problem of the set in `folder`, as sentences naming file or key; empty when it is sound."""
    try:
        found = _read(folder)
    except (OSError, ValueError, KeyError) as error:
        return [f"{folder}: cannot be read as a factor set ({error})"]
    checks = (
        _header,
        _columns,
        _hashes,
        _duplicates,
        _values,
        _times,
        _citations,
        _references,
        _stale_copies,
    )
    return [text for check in checks for text in check(found)]


def _read(folder: Path) -> _Set:
    header = json.loads((folder / "set.json").read_text("utf-8"))
    return _Set(
        header=header,
        rows={kind: _csv(folder / f"{kind}.csv") for kind in header["kinds"]},
        sources={row["source_id"]: row for row in _csv(folder / "factor_source.csv")},
        releases=_csv(folder / "releases.csv"),
    )


def _csv(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return [dict(row) for row in csv.DictReader(file)]


def _all(found: _Set) -> Iterator[Row]:
    for rows in found.rows.values():
        yield from rows


def _header(found: _Set) -> Iterable[str]:
    header = found.header
    counted = {kind: len(rows) for kind, rows in found.rows.items()}
    if header["rows"] != counted:
        yield f"set.json: row counts {header['rows']} differ from the files' {counted}"
    uids = [row["factor_uid"] for row in _all(found)]
    computed = set_sha(str(header["name"]), str(header["semver"]), uids)
    if computed != header["set_sha"]:
        yield f"set.json: set_sha {header['set_sha']}, the rows give {computed}; bump semver and release it"
    released = [row["set_sha"] for row in found.releases if row["semver"] == header["semver"]]
    if released != [computed]:
        yield f"releases.csv: version {header['semver']} was released as {released}, the rows give {computed}"


def _columns(found: _Set) -> Iterable[str]:
    for kind, rows in found.rows.items():
        for row in rows:
            if tuple(row) != COLUMNS:
                yield f"{kind}.csv: columns differ from the register's"
                break
            if row["kind"] != kind or not row["factor_key"].startswith(f"{kind}/"):
                yield f"{kind}.csv: row {row['factor_key']} belongs to kind {row['kind']}"


def _hashes(found: _Set) -> Iterable[str]:
    for row in _all(found):
        if row["factor_uid"] != factor_uid(row):
            yield f"{row['factor_key']} valid from {row['valid_from']}: factor_uid does not match the row"


def _duplicates(found: _Set) -> Iterable[str]:
    for uid, count in Counter(row["factor_uid"] for row in _all(found)).items():
        if count > 1:
            yield f"factor_uid {uid} occurs {count} times"
    vintages = Counter((row["factor_key"], row["valid_from"], row["known_from"]) for row in _all(found))
    for (key, valid_from, known_from), count in vintages.items():
        if count > 1:
            yield f"{key}: {count} rows valid from {valid_from}, known from {known_from}: ambiguous"


def _values(found: _Set) -> Iterable[str]:
    for row in _all(found):
        key = row["factor_key"]
        if bool(row["value"]) == bool(row["null_reason"]):
            yield f"{key}: a value or a null_reason must stand, not both and not neither"
        if row["value"] and Decimal(row["value"]) < 0:
            yield f"{key}: negative value {row['value']}"
        if row["unit"] == "kgCO2e/kWh" and row["value"] and Decimal(row["value"]) > GRID_CEILING:
            yield f"{key}: {row['value']} kgCO2e/kWh is above {GRID_CEILING}"
        if Decimal(row["gsd"]) < 1:
            yield f"{key}: gsd {row['gsd']} is below 1"
        quality = json.loads(row["quality"])
        if tuple(sorted(quality)) != QUALITY or not set(quality.values()) <= {1, 2, 3, 4, 5}:
            yield f"{key}: quality must rate {', '.join(QUALITY)} from 1 to 5"
        for column, allowed in CLOSED.items():
            if row[column] not in allowed:
                yield f"{key}: {column} {row[column]!r} is not one of {sorted(allowed)}"


def _times(found: _Set) -> Iterable[str]:
    for row in _all(found):
        key = row["factor_key"]
        start, known, published = (date.fromisoformat(row[n]) for n in ("valid_from", "known_from", "published_at"))
        if row["valid_to"] and date.fromisoformat(row["valid_to"]) < start:
            yield f"{key}: valid_to {row['valid_to']} is before valid_from {start}"
        if known < published:
            yield f"{key}: known from {known}, before it was published on {published}"
        if known > date.fromisoformat(row["ingested_at"][:10]):
            yield f"{key}: known from {known}, after it was ingested on {row['ingested_at']}"
        if row["kind"].startswith("grid.") and not row["valid_to"]:
            yield f"{key}: an emission factor needs valid_to, its age is counted from there"


def _citations(found: _Set) -> Iterable[str]:
    for row in _all(found):
        if row["source_id"] not in found.sources:
            yield f"{row['factor_key']}: source {row['source_id']!r} is not in factor_source.csv"
        if not row["source_locator"]:
            yield f"{row['factor_key']}: no source_locator (table, page, cell or row)"
    cited = {row["source_id"] for row in _all(found)}
    for source_id, source in found.sources.items():
        if source_id not in cited:
            yield f"factor_source.csv: {source_id} is cited by no row"
        if not source["citation"] or not source["licence"] or not source["evidence_grade"]:
            yield f"factor_source.csv: {source_id} lacks citation, licence or evidence grade"
        if source["redistribution"] == "attribution" and not source["attribution"]:
            yield f"factor_source.csv: {source_id} must be attributed but has no sentence"


def _references(found: _Set) -> Iterable[str]:
    """Rows that name other rows: hosts, embodied hosts, processor families, accelerators, regions."""
    keys = {row["factor_key"] for row in _all(found)}
    for row in _all(found):
        content = json.loads(row["attributes"] or "{}")
        provider = row["factor_key"].split("/")[1]
        wanted = [f"cpu.power/{name}" for name in content.get("cpu_families", ())]
        wanted += [f"region/{provider}/{name}" for name in content.get("members", ())]
        if row["kind"] == "cpu.family":
            wanted.append(f"cpu.power/{content['family']}")
        if "host" in content:
            wanted += [
                f"host.power/{provider}/{content['host']}",
                f"host.embodied/{provider}/{content['host']}",
            ]
        if "host_embodied" in content:
            wanted.append(f"host.embodied/{provider}/{content['host_embodied']}")
        if content.get("gpu_model"):
            wanted.append(f"gpu.power/{content['gpu_model']}")
        if "grid_key" in content:
            wanted.append(content["grid_key"])
        yield from (f"{row['factor_key']}: refers to {key}, which the set lacks" for key in wanted if key not in keys)
        if "pattern" in content:
            try:
                re.compile(content["pattern"])
            except re.error as error:
                yield f"{row['factor_key']}: pattern {content['pattern']!r} does not compile ({error})"


def _stale_copies(found: _Set) -> Iterable[str]:
    """A new vintage whose values mostly equal the old one's is a copy under a new year (README trap 9)."""
    years: dict[tuple[str, int], dict[str, str]] = defaultdict(dict)
    for kind in ("grid.location", "grid.residual"):
        for row in found.rows.get(kind, ()):
            if row["data_year"] and row["value"]:
                years[row["source_id"], int(row["data_year"])][row["factor_key"]] = row["value"]
    for (source_id, year), values in sorted(years.items()):
        before = years.get((source_id, year - 1), {})
        common = values.keys() & before.keys()
        equal = sum(values[key] == before[key] for key in common)
        if len(common) >= STALE_MINIMUM and equal >= STALE_SHARE * len(common):
            yield f"{source_id} {year}: {equal} of {len(common)} values equal {year - 1}'s; a stale copy?"
