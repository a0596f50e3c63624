"""`python -m benchmarks`: speed and memory on generated bills of every feed, a million rows each.

`estimate`: grouped by day, account, region, service. `extract`: extract table and usage lines of a whole month, as
the assets write them. Bars: issue 2 (legacy CUR: 8 CPU seconds and 600 MiB for a million rows; ten times the rows
in at most 1.3 times the memory), peers.md (25 times more groups cost at most 20 % more), issue 3 (extracting and
normalising ten million rows in at most 1,536 MiB). ``--check`` fails over a bar.

Cases of one file run several times. Whatever else a machine does only adds CPU seconds (two threads of one core slow
each other down), so the least is what the work takes; the most is printed beside it. Memory is the largest seen.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from benchmarks.measure import OFFGRIDFLOW, Measurement, measure
from offgridflow_pipeline.connectors.feeds import FeedName
from offgridflow_pipeline.demo.volume import VolumeBill, generate_bill

MILLION = 1_000_000
CPU_BAR_SECONDS = 8.0
MEMORY_BAR_MB = 600.0
MEMORY_RATIO_BAR = 1.3
GROUPS_RATIO_BAR = 1.2
EXTRACT_MEMORY_BAR_MB = 1536.0
FIRST_DAY = "2026-10-01"


@dataclass(frozen=True, slots=True)
class Case:
    """One bill: feed, file type, accounts and days (they set the number of groups), files of a million rows."""

    name: str
    feed: FeedName
    suffix: Literal["csv.gz", "parquet"]
    accounts: int = 12
    days: int = 31
    files: int = 1
    work: Literal["estimate", "extract"] = "estimate"


FEW, USUAL, LARGE, EXTRACT = "cur, few groups", "cur", "cur, 10 files", "cur extract, 10 files"
CASES = (
    Case(FEW, "cur", "csv.gz", accounts=1, days=14),
    Case(USUAL, "cur", "csv.gz"),
    Case("cur2", "cur2", "parquet"),
    Case("azure_amortized", "azure_amortized", "csv.gz"),
    Case("azure_actual", "azure_actual", "csv.gz"),
    Case("gcp_detailed", "gcp_detailed", "parquet"),
    Case("gcp_standard", "gcp_standard", "parquet"),
    Case("gcp_focus", "gcp_focus", "parquet"),
    Case("focus", "focus", "csv.gz"),
    Case("focus parquet", "focus", "parquet"),
    Case("cur extract", "cur", "csv.gz", work="extract"),
)
LARGE_CASES = (
    Case(LARGE, "cur", "csv.gz", files=10),
    Case(EXTRACT, "cur", "csv.gz", files=10, work="extract"),
)


def main() -> int:
    """Measure, print the table, return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 when a bar is exceeded")
    parser.add_argument("--quick", action="store_true", help="leave out the 10,000,000 rows")
    parser.add_argument("--only", help="cases whose name begins with this")
    parser.add_argument("--runs", type=int, default=3, help="runs of a case of one file; the least CPU time counts")
    parser.add_argument("--rows", type=int, default=MILLION, help="rows per file (bars apply to 1,000,000)")
    options = parser.parse_args()
    cases = CASES if options.quick else (*CASES, *LARGE_CASES)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{'case':24}{'rows':>12}{'groups':>9}{'CPU s':>8}{'most':>7}{'wall s':>8}{'rows/CPU s':>12}{'peak MiB':>10}")
    results: dict[str, Measurement] = {}
    for case in cases:
        if case.name.startswith(options.only or ""):
            with TemporaryDirectory(prefix="ogf-bench-") as folder:
                results[case.name] = run(case, options.rows, options.runs, Path(folder))
    found = exceeded(results)
    for line in found:
        print(f"OVER: {line}")
    return 1 if found and options.check else 0


def run(case: Case, rows: int, runs: int, folder: Path) -> Measurement:
    """Generate the bill, work on it, hold rows and cost against the generator's, print one line of the table."""
    (folder / "bills").mkdir()
    bills = [
        generate_bill(
            folder / "bills" / f"bill-{number}.{case.suffix}", rows, seed=7 + number, feed=case.feed,
            accounts=case.accounts, days=case.days,
        )
        for number in range(case.files)
    ]  # fmt: skip
    measured = [_proven(case, bills, folder) for _ in range(runs if case.files == 1 else 1)]
    least = min(measured, key=lambda one: one.cpu_seconds)
    most = max(one.cpu_seconds for one in measured)
    peak = max(one.peak_mb for one in measured)
    found, groups = _found(case, least)
    print(
        f"{case.name:24}{found[0]:>12,}{groups:>9}{least.cpu_seconds:>8.2f}{most:>7.2f}{least.wall_seconds:>8.2f}"
        f"{found[0] / least.cpu_seconds:>12,.0f}{peak:>10.0f}",
        flush=True,
    )
    return replace(least, peak_mb=peak)


def _proven(case: Case, bills: list[VolumeBill], folder: Path) -> Measurement:
    measured = measure(_command(case, bills, folder), folder)
    prove(bills, *_found(case, measured)[0])
    return measured


def _found(case: Case, measured: Measurement) -> tuple[tuple[int, Decimal], str]:
    """Rows and cost, and the number of groups as it is printed."""
    summary = json.loads(measured.output)
    return _estimated(summary) if case.work == "estimate" else _extracted(summary)


def _command(case: Case, bills: list[VolumeBill], folder: Path) -> list[str]:
    if case.work == "extract":
        places = (str(folder / "bills"), str(folder / "lake"))
        return [sys.executable, "-m", "benchmarks.extraction", case.feed, *places, FIRST_DAY, str(case.days)]
    out = str(folder / "estimate.parquet")
    return [
        *OFFGRIDFLOW, "estimate", *(str(bill.path) for bill in bills), "--format", case.feed, "--out", out, "--json",
    ]  # fmt: skip


def _estimated(summary: dict[str, Any]) -> tuple[tuple[int, Decimal], str]:
    cost = sum((Decimal(row["billed_cost"]) for row in summary["coverage"]), Decimal(0))
    return (summary["rows"], cost), f"{summary['output']['rows']:,}"


def _extracted(summary: dict[str, Any]) -> tuple[tuple[int, Decimal], str]:
    return (summary["rows"], Decimal(summary["cost"])), ""


def prove(bills: list[VolumeBill], rows: int, cost: Decimal) -> None:
    """A fast wrong answer is no measurement: rows and cost must be the generator's."""
    expected = sum((bill.billed_cost for bill in bills), Decimal(0))
    if rows != sum(bill.rows for bill in bills) or cost != expected:
        raise SystemExit(f"The result has {rows} rows and cost {cost}, the bill {expected}.")


def exceeded(results: dict[str, Measurement]) -> list[str]:
    """Every bar that a measurement is over."""
    found = []
    for name in (USUAL, "cur2"):
        if name in results and results[name].cpu_seconds > CPU_BAR_SECONDS:
            found.append(f"{name}: {results[name].cpu_seconds:.1f} CPU s, bar {CPU_BAR_SECONDS}")
        if name in results and results[name].peak_mb > MEMORY_BAR_MB:
            found.append(f"{name}: {results[name].peak_mb:.0f} MiB, bar {MEMORY_BAR_MB:.0f}")
    usual, few, large, extract = (results.get(name) for name in (USUAL, FEW, LARGE, EXTRACT))
    if usual and few and usual.cpu_seconds > GROUPS_RATIO_BAR * few.cpu_seconds:
        found.append(f"groups: {usual.cpu_seconds / few.cpu_seconds:.2f} times the CPU, bar {GROUPS_RATIO_BAR}")
    if usual and large and large.peak_mb > MEMORY_RATIO_BAR * usual.peak_mb:
        found.append(f"10M rows: {large.peak_mb / usual.peak_mb:.2f} times the memory, bar {MEMORY_RATIO_BAR}")
    if extract and extract.peak_mb > EXTRACT_MEMORY_BAR_MB:
        found.append(f"extract of 10M rows: {extract.peak_mb:.0f} MiB, bar {EXTRACT_MEMORY_BAR_MB:.0f}")
    return found


if __name__ == "__main__":
    sys.exit(main())
