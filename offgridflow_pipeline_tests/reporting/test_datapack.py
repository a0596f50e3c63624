"""The data pack: same rows in CSV and Parquet, sums equal to the facts, every column explained."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from decimal import Decimal

import pyarrow.parquet as pq
import pytest

from offgridflow_pipeline.factors.register import load_factor_set
from offgridflow_pipeline.lake.engine import Engine
from offgridflow_pipeline.lake.schemas import table
from offgridflow_pipeline.reporting import datapack
from offgridflow_pipeline.reporting.fact import fact_set
from offgridflow_pipeline.reporting.facts import report_facts
from offgridflow_pipeline.reporting.profile import ReportProfile
from offgridflow_pipeline_tests.inventory.ledgers import Ledger, line, realistic
from offgridflow_pipeline_tests.reporting.conftest import inventory_of

PROFILE = ReportProfile("acme", "Acme", run_id="run-1", factor_set_name="ofg-2026.11")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(256, 2) as opened:
        yield opened


@pytest.fixture(scope="module")
def cited() -> list[str]:
    """Factors of the shipped set: one that may be reprinted and one that may not."""
    factors = load_factor_set()
    found = {}
    for kind in ("grid.location", "coefficient", "cpu.power", "host.power", "grid.residual", "pue"):
        for factor in factors.of_kind(kind):
            found.setdefault(factors.source(factor).masks_values, factor.factor_uid)
    return list(found.values())


@pytest.fixture(scope="module")
def ledger(cited) -> Ledger:
    rows = [row | {"factor_ids": cited[:1], "coefficient_ids": cited[1:]} for row in realistic().lines]
    return Ledger(rows)


def pack_of(engine: Engine, ledger: Ledger, facts, out) -> dict[str, bytes]:
    tables = {
        "emission_lines": engine.register("lines", ledger.emission_lines()),
        "scope_totals": engine.register("totals", ledger.scope_totals()),
    }
    datapack.build_datapack(engine, facts, tables, load_factor_set(), PROFILE, out)
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def pack(engine, ledger, tmp_path_factory) -> dict[str, bytes]:
    facts = report_facts(inventory_of(ledger), PROFILE)
    return pack_of(engine, ledger, facts, tmp_path_factory.mktemp("pack") / "pack.zip")


def rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


@pytest.mark.parametrize("name", ["report_facts", "scope_totals", "emission_lines"])
def test_csv_and_parquet_have_the_same_rows_in_key_order(pack, name):
    parquet = pq.read_table(io.BytesIO(pack[f"{name}.parquet"]))
    assert parquet.schema == table(name).arrow_schema
    text = rows(pack[f"{name}.csv"])
    assert len(text) == parquet.num_rows
    key = "fact_id" if name == "report_facts" else "tenant_id"
    assert [row[key] for row in text] == parquet.column(key).to_pylist()


def test_the_ledger_in_the_pack_adds_up_to_the_report(pack):
    lines = rows(pack["emission_lines.csv"])
    kilograms = sum(
        (
            Decimal(row[name])
            for row in lines
            for name in ("co2e_lbm_kg", "embodied_kg", "upstream_energy_kg")
            if row[name]
        ),
        Decimal(0),
    )
    stated = fact_set(pq.read_table(io.BytesIO(pack["report_facts.parquet"])))
    assert Decimal(stated.one("total_location").exact) == kilograms / 1000
    usd = sum(Decimal(row["billed_cost"]) for row in lines if row["BillingCurrency"] == "USD")
    assert Decimal(stated.one("billed_cost", currency="USD").exact) == usd


def test_lists_are_joined_by_blanks_in_csv(pack):
    lines = rows(pack["emission_lines.csv"])
    parquet = pq.read_table(io.BytesIO(pack["emission_lines.parquet"]), columns=["factor_ids"])
    assert [row["factor_ids"] for row in lines] == [" ".join(ids or []) for ids in parquet["factor_ids"].to_pylist()]


def test_every_cited_factor_is_listed_and_values_under_terms_are_empty(pack, cited):
    factors = load_factor_set()
    listed = {row["factor_uid"]: row for row in rows(pack["factors.csv"])}
    assert set(listed) == set(cited)
    for uid, row in listed.items():
        masked = factors.source(factors.by_uid(uid)).masks_values
        assert (row["value"] == "") == (masked or factors.by_uid(uid).value is None)
        assert row["title"]
        assert row["licence"]


def test_the_dictionary_explains_every_column_of_every_table(pack):
    explained = {(row["table"], row["column"]) for row in rows(pack["data_dictionary.csv"]) if row["meaning"]}
    for name in ("report_facts", "scope_totals", "emission_lines"):
        assert {(name, column) for column in table(name).column_names} <= explained


def test_two_packs_are_byte_identical(engine, ledger, tmp_path):
    facts = report_facts(inventory_of(ledger), PROFILE)
    shuffled = Ledger(ledger.lines[::-1])
    pack_of(engine, ledger, facts, tmp_path / "one.zip")
    pack_of(engine, shuffled, facts, tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_row_groups_do_not_depend_on_how_the_rows_arrive(monkeypatch):
    monkeypatch.setattr(datapack, "ROW_GROUP", 4)
    whole = Ledger([line(n) for n in range(10)]).emission_lines()
    for size in (1, 3, 7, 10):
        sizes = [group.num_rows for group in datapack._groups(whole.to_batches(max_chunksize=size))]
        assert sizes == [4, 4, 2]


def test_an_empty_month_has_headers_in_every_file(engine, tmp_path):
    facts = report_facts(inventory_of(Ledger()), PROFILE)
    pack = pack_of(engine, Ledger(), facts, tmp_path / "pack.zip")
    assert rows(pack["emission_lines.csv"]) == []
    assert pack["emission_lines.csv"].count(b"line_id") == 1
    assert rows(pack["factors.csv"]) == []
