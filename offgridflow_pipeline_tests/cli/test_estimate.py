from __future__ import annotations

import csv
import gzip
import json
import shutil
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from offgridflow_pipeline.cli import app
from offgridflow_pipeline.demo.generator import DemoBills, generate
from offgridflow_pipeline.demo.volume import VolumeBill, generate_bill

SHARED = Path(__file__).resolve().parents[3] / "shared"
AMAZON_SAMPLE = SHARED / "billing" / "aws" / "focus_converters_sample-anonymous-aws-export.csv"
FOCUS_SAMPLE = SHARED / "billing" / "focus" / "generated" / "focus_1_2_cost_and_usage_azure.csv.gz"
MEASURES = ("kwh", "co2e_lbm_kg", "co2e_mbm_kg", "embodied_kg", "upstream_energy_kg")

runner = CliRunner()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoBills:
    return generate(tmp_path_factory.mktemp("estimate") / "bills", months=1)


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> VolumeBill:
    return generate_bill(tmp_path_factory.mktemp("volume") / "bill.csv.gz", 3_000, feed="cur")


def estimate(out: Path, feed: str, *inputs: Path | str, more: tuple[str, ...] = ()) -> dict[str, Any]:
    arguments = ["estimate", *map(str, inputs), "--format", feed, "--out", str(out), "--json", *more]
    result = runner.invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(out: Path, feed: str, *inputs: Path | str, more: tuple[str, ...] = ()) -> str:
    result = runner.invoke(app, ["estimate", *map(str, inputs), "--format", feed, "--out", str(out), *more])
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    return result.stderr


def cost(summary: dict[str, Any]) -> Decimal:
    return sum((Decimal(row["billed_cost"]) for row in summary["coverage"]), Decimal(0))


def written(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def column_sum(rows: list[dict[str, str]], name: str) -> Decimal:
    return sum((Decimal(row[name]) for row in rows if row[name]), Decimal(0))


@pytest.mark.parametrize(("tenant", "feed"), [(0, "cur2"), (1, "focus")])
def test_rows_and_cost_of_the_demo_bills_are_the_control_totals(
    demo: DemoBills, tmp_path: Path, tenant: int, feed: str
) -> None:
    bill = demo.tenants[tenant].feeds[0]
    (control,) = bill.controls
    summary = estimate(tmp_path / "out.csv", feed, bill.uri)
    assert (summary["rows"], cost(summary)) == (control.rows, control.billed_cost)
    assert {row["disposition"] for row in summary["coverage"]} == {"mapped", "proxied", "no_emission", "unmapped"}
    assert {row["currency"] for row in summary["coverage"]} == {control.currency}
    assert (summary["first_day"], summary["last_day"]) == ("2026-10-01", "2026-10-31")
    assert all(Decimal(summary["totals"][name]) > 0 for name in MEASURES)


def test_the_file_adds_up_to_the_summary_to_the_last_digit(bill: VolumeBill, tmp_path: Path) -> None:
    summary = estimate(tmp_path / "out.csv", "cur", bill.path)
    rows = written(tmp_path / "out.csv")
    assert cost(summary) == bill.billed_cost == column_sum(rows, "billed_cost")
    assert column_sum(rows, "line_count") == summary["rows"] == bill.rows
    for name in MEASURES:
        assert column_sum(rows, name) == Decimal(summary["totals"][name])
    for name in ("mapped", "proxied", "no_emission", "unmapped"):
        stated = sum(row["rows"] for row in summary["coverage"] if row["disposition"] == name)
        assert column_sum(rows, f"{name}_lines") == stated


def test_any_grouping_gives_the_same_totals_and_line_is_the_finest(bill: VolumeBill, tmp_path: Path) -> None:
    groupings = ("", "day", "account,region", "service,day", "line")
    found = {
        g: estimate(tmp_path / f"{n}.parquet", "cur", bill.path, more=("--group", g)) for n, g in enumerate(groupings)
    }
    assert all(summary["totals"] == found[""]["totals"] for summary in found.values())
    assert all(summary["coverage"] == found[""]["coverage"] for summary in found.values())
    assert found[""]["output"]["rows"] == 1
    assert found["line"]["output"]["rows"] == bill.rows


def test_a_month_is_the_sum_of_its_rows_in_any_order_and_chunking(bill: VolumeBill, tmp_path: Path) -> None:
    with gzip.open(bill.path, "rt", encoding="utf-8") as stream:
        header, *lines = stream.readlines()
    parts = []
    for number in range(3):
        part = tmp_path / f"part-{number}.csv"
        part.write_text(header + "".join(reversed(lines[number::3])), encoding="utf-8")
        parts.append(part)
    whole = estimate(tmp_path / "whole.csv", "cur", bill.path)
    pieces = estimate(tmp_path / "pieces.csv", "cur", *parts)
    assert pieces["totals"] == whole["totals"]
    assert pieces["coverage"] == whole["coverage"]
    assert (tmp_path / "pieces.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_legacy_and_cur_2_0_of_the_same_bill_agree(bill: VolumeBill, tmp_path: Path) -> None:
    parquet = generate_bill(tmp_path / "bill.parquet", bill.rows, feed="cur2")
    legacy = estimate(tmp_path / "legacy.csv", "cur", bill.path)
    modern = estimate(tmp_path / "modern.csv", "cur2", parquet.path)
    assert modern["totals"] == legacy["totals"]
    assert (tmp_path / "modern.csv").read_bytes() == (tmp_path / "legacy.csv").read_bytes()


def test_ledger_lines_hold_verdict_figures_and_their_sources(bill: VolumeBill, tmp_path: Path) -> None:
    estimate(tmp_path / "lines.parquet", "cur", bill.path, more=("--group", "line"))
    rows = pq.read_table(tmp_path / "lines.parquet").to_pylist()
    assert len({row["line_id"] for row in rows}) == bill.rows
    assert all(row["disposition"] in ("mapped", "proxied", "no_emission", "unmapped") for row in rows)
    assert all(row["reason"] for row in rows if row["disposition"] in ("no_emission", "unmapped"))
    assert all(row["factor_ids"] for row in rows if row["co2e_lbm_kg"])
    assert all(row["kwh"] is None for row in rows if row["disposition"] == "unmapped")


def test_ledger_lines_as_csv_join_lists_by_semicolons(bill: VolumeBill, tmp_path: Path) -> None:
    estimate(tmp_path / "lines.csv", "cur", bill.path, more=("--group", "line"))
    rows = written(tmp_path / "lines.csv")
    assert len(rows) == bill.rows
    assert any(";" in row["coefficient_ids"] for row in rows)
    assert not any(row["coefficient_ids"].startswith("[") for row in rows)


def test_the_same_object_twice_counts_once_with_a_notice(bill: VolumeBill, tmp_path: Path) -> None:
    copy = shutil.copy(bill.path, tmp_path / "copy.csv.gz")
    summary = estimate(tmp_path / "out.csv", "cur", bill.path, copy)
    assert summary["rows"] == bill.rows
    assert "counted once" in summary["notices"][0]


@pytest.mark.skipif(not AMAZON_SAMPLE.exists(), reason="the shared folder with real bills is not beside the checkout")
def test_the_real_anonymised_bill_ties_to_an_independent_count(tmp_path: Path) -> None:
    rows = written(AMAZON_SAMPLE)
    summary = estimate(tmp_path / "out.csv", "cur", AMAZON_SAMPLE)
    assert summary["rows"] == len(rows) == 1281
    assert cost(summary) == sum(Decimal(row["lineItem/UnblendedCost"]) for row in rows)


@pytest.mark.skipif(not FOCUS_SAMPLE.exists(), reason="the shared folder with FOCUS files is not beside the checkout")
def test_a_focus_file_ties_per_currency_to_an_independent_count(tmp_path: Path) -> None:
    with gzip.open(FOCUS_SAMPLE, "rt", encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    expected: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        expected[row["BillingCurrency"]] += Decimal(row["BilledCost"])
    summary = estimate(tmp_path / "out.csv", "focus", FOCUS_SAMPLE)
    found: dict[str, Decimal] = defaultdict(Decimal)
    for entry in summary["coverage"]:
        found[entry["currency"]] += Decimal(entry["billed_cost"])
    assert (summary["rows"], found) == (len(rows), expected)


def test_a_cut_off_bill_is_refused_and_an_older_result_stays(bill: VolumeBill, tmp_path: Path) -> None:
    damaged = tmp_path / "cut.csv.gz"
    damaged.write_bytes(bill.path.read_bytes()[:-5000])
    out = tmp_path / "out.csv"
    out.write_text("older result")
    message = refused(out, "cur", damaged)
    assert "cut.csv.gz" in message
    assert out.read_text() == "older result"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.csv.gz", "out.csv"]


def test_a_bill_of_another_format_names_the_missing_column(demo: DemoBills, tmp_path: Path) -> None:
    message = refused(tmp_path / "out.csv", "focus", *demo.tenants[0].feeds[0].uri.rglob("*-00001.snappy.parquet"))
    assert "parquet" in message
    assert "column" in message.lower()
    assert not (tmp_path / "out.csv").exists()


def test_a_bill_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "nowhere.csv" in refused(tmp_path / "out.csv", "cur", tmp_path / "nowhere.csv")


def test_an_unknown_method_is_refused_by_name(bill: VolumeBill, tmp_path: Path) -> None:
    assert "ofg-9" in refused(tmp_path / "out.csv", "cur", bill.path, more=("--method", "ofg-9"))


@pytest.mark.parametrize(
    ("more", "word"),
    [(("--group", "day,planet"), "planet"), (("--group", "day,day"), "once"), (("--group", "line,day"), "line")],
)
def test_a_wrong_grouping_is_a_usage_error(bill: VolumeBill, tmp_path: Path, more: tuple[str, str], word: str) -> None:
    result = runner.invoke(
        app, ["estimate", str(bill.path), "--format", "cur", "--out", str(tmp_path / "o.csv"), *more]
    )
    assert result.exit_code == 2
    assert word in result.stderr


def test_the_result_may_not_replace_the_bill_or_have_another_suffix(bill: VolumeBill, tmp_path: Path) -> None:
    mine = tmp_path / "bill.csv"
    mine.write_text("bill")
    assert runner.invoke(app, ["estimate", str(mine), "--format", "cur", "--out", str(mine)]).exit_code == 2
    assert mine.read_text() == "bill"
    out = tmp_path / "out.xlsx"
    assert runner.invoke(app, ["estimate", str(bill.path), "--format", "cur", "--out", str(out)]).exit_code == 2


def test_the_summary_for_people_names_coverage_and_both_bases(bill: VolumeBill, tmp_path: Path) -> None:
    arguments = ["estimate", str(bill.path), "--format", "cur", "--out", str(tmp_path / "out.csv")]
    text = runner.invoke(app, arguments, catch_exceptions=False).stdout
    for word in ("mapped", "proxied", "no_emission", "unmapped", "location-based", "market-based", "embodied", "USD"):
        assert word in text


def test_an_earlier_knowledge_date_can_only_use_factors_known_then(bill: VolumeBill, tmp_path: Path) -> None:
    today = estimate(tmp_path / "today.csv", "cur", bill.path, more=("--as-of", "2026-11-23"))
    earlier = estimate(tmp_path / "earlier.csv", "cur", bill.path, more=("--as-of", "2024-12-31"))
    assert earlier["totals"]["co2e_lbm_kg"] != today["totals"]["co2e_lbm_kg"]


def test_parquet_results_keep_exact_types(bill: VolumeBill, tmp_path: Path) -> None:
    estimate(tmp_path / "out.parquet", "cur", bill.path)
    schema = pq.read_schema(tmp_path / "out.parquet")
    assert {str(schema.field(n).type) for n in ("line_count", "mapped_lines", "unmapped_lines")} == {"int64"}
    assert {str(schema.field(n).type) for n in MEASURES} == {"decimal128(38, 12)"}
    assert {str(schema.field(n).type) for n in ("billed_cost", "unmapped_cost")} == {"decimal128(38, 18)"}
