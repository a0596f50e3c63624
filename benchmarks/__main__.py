"""`python -m benchmarks`: `offgridflow estimate` on generated AWS bills, grouped by day, account, region, service.

Bars: issue 2 (8 CPU seconds and 600 MiB for 1,000,000 rows of legacy CUR; memory for ten times the rows at
most 1.3 times) and peers.md (25 times more groups cost at most 20 % more). ``--check`` fails over a bar.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from benchmarks.measure import Measurement, measure
from offgridflow_pipeline.demo.volume import VolumeBill, generate_bill

MILLION = 1_000_000
CPU_BAR_SECONDS = 8.0
MEMORY_BAR_MB = 600.0
MEMORY_RATIO_BAR = 1.3
GROUPS_RATIO_BAR = 1.2


@dataclass(frozen=True, slots=True)
class Case:
    """One bill: layout, accounts and days (they set the number of groups), and number of files of a million rows."""

    name: str
    kind: Literal["cur", "cur2"]
    accounts: int
    days: int
    files: int = 1


CASES = (
    Case("cur 1M, few groups", "cur", 1, 14),
    Case("cur 1M", "cur", 12, 31),
    Case("cur2 1M", "cur2", 12, 31),
)
LARGE = Case("cur 10M", "cur", 12, 31, files=10)


def main() -> int:
    """Measure, print the table, return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 when a bar is exceeded")
    parser.add_argument("--quick", action="store_true", help="leave out the 10,000,000 rows")
    parser.add_argument("--rows", type=int, default=MILLION, help="rows per file (bars apply to 1,000,000)")
    options = parser.parse_args()
    cases = CASES if options.quick else (*CASES, LARGE)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{'case':20}{'rows':>12}{'groups':>9}{'CPU s':>8}{'wall s':>8}{'peak MiB':>10}")
    results: dict[str, Measurement] = {}
    for case in cases:
        with TemporaryDirectory(prefix="ogf-bench-") as folder:
            results[case.name] = run(case, options.rows, Path(folder))
    found = exceeded(results)
    for line in found:
        print(f"OVER: {line}")
    return 1 if found and options.check else 0


def run(case: Case, rows: int, folder: Path) -> Measurement:
    """Generate the bill, estimate it, hold the cost against the generator's, print one line of the table."""
    suffix = "csv.gz" if case.kind == "cur" else "parquet"
    bills = [
        generate_bill(
            folder / f"bill-{number}.{suffix}", rows, seed=7 + number, feed=case.kind, accounts=case.accounts,
            days=case.days,
        )
        for number in range(case.files)
    ]  # fmt: skip
    out = folder / "estimate.parquet"
    arguments = ["estimate", *(str(bill.path) for bill in bills), "--format", case.kind, "--out", str(out), "--json"]
    measured = measure(arguments, folder)
    summary = json.loads(measured.output)
    prove(bills, summary)
    print(
        f"{case.name:20}{summary['rows']:>12,}{summary['output']['rows']:>9,}{measured.cpu_seconds:>8.2f}"
        f"{measured.wall_seconds:>8.2f}{measured.peak_mb:>10.0f}",
        flush=True,
    )
    return measured


def prove(bills: list[VolumeBill], summary: dict[str, Any]) -> None:
    """A fast wrong answer is no measurement: rows and cost must be the generator's."""
    cost = sum((Decimal(row["billed_cost"]) for row in summary["coverage"]), Decimal(0))
    expected = sum((bill.billed_cost for bill in bills), Decimal(0))
    if summary["rows"] != sum(bill.rows for bill in bills) or cost != expected:
        raise SystemExit(f"The estimate has {summary['rows']} rows and cost {cost}, the bill {expected}.")


def exceeded(results: dict[str, Measurement]) -> list[str]:
    """Every bar that a measurement is over."""
    found = []
    usual, few, large = results["cur 1M"], results["cur 1M, few groups"], results.get("cur 10M")
    for name in ("cur 1M", "cur2 1M"):
        if results[name].cpu_seconds > CPU_BAR_SECONDS:
            found.append(f"{name}: {results[name].cpu_seconds:.1f} CPU s, bar {CPU_BAR_SECONDS}")
        if results[name].peak_mb > MEMORY_BAR_MB:
            found.append(f"{name}: {results[name].peak_mb:.0f} MiB, bar {MEMORY_BAR_MB:.0f}")
    if usual.cpu_seconds > GROUPS_RATIO_BAR * few.cpu_seconds:
        found.append(f"groups: {usual.cpu_seconds / few.cpu_seconds:.2f} times the CPU, bar {GROUPS_RATIO_BAR}")
    if large and large.peak_mb > MEMORY_RATIO_BAR * usual.peak_mb:
        found.append(f"10M rows: {large.peak_mb / usual.peak_mb:.2f} times the memory, bar {MEMORY_RATIO_BAR}")
    return found


if __name__ == "__main__":
    sys.exit(main())
