"""`offgridflow estimate`: one's own bill to energy and emissions, without server, database or Dagster.

Arguments, progress and the summary; the work is in `estimation`.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from offgridflow_pipeline.connectors.feeds import FEEDS, FeedName

if TYPE_CHECKING:
    from offgridflow_pipeline.cli.bills import Bill
    from offgridflow_pipeline.cli.estimation import Estimate, Stage
    from offgridflow_pipeline.factors.register import FactorSet
    from offgridflow_pipeline.lake.engine import Engine

SUFFIXES = (".csv", ".parquet")
GROUPS = ("day", "account", "region", "service")
PROGRESS_SECONDS = 0.2
_FORMATS = "; ".join(f"{name} = {FEEDS[name].meaning}" for name in get_args(FeedName)) + "."


def estimate(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Files, folders or s3:// prefixes.")],
    feed: Annotated[FeedName, typer.Option("--format", help=_FORMATS)],
    out: Annotated[Path, typer.Option(help="Result: a .csv or .parquet file; replaced when the estimate is complete.")],
    group: Annotated[str, typer.Option(help="'line', or any of day,account,region,service.")] = ",".join(GROUPS),
    method: Annotated[str, typer.Option(help="Calculation method.")] = "ofg-1",
    as_of: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Use only factors published by this day; default today."),
    ] = None,
    memory_mb: Annotated[
        int,
        typer.Option(min=128, help="Memory of the engine in MiB; beyond it works on disk. The process needs 250 more."),
    ] = 320,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Estimate energy and emissions of a cloud bill.

    Rows and costs of the result tie to the bill. Decimals are exact; unmapped rows have no figure and are
    counted in the summary.
    """
    names = _group_names(group)
    if out.suffix not in SUFFIXES:
        raise typer.BadParameter(f"{out} must end in .csv or .parquet.", param_hint="--out")
    if not out.parent.is_dir():
        raise typer.BadParameter(f"the folder {out.parent} does not exist; create it.", param_hint="--out")
    if any(Path(uri).exists() and out.exists() and out.samefile(uri) for uri in inputs):
        raise typer.BadParameter("the result would replace the bill; name another file.", param_hint="--out")
    try:
        day = as_of.date() if as_of else datetime.now().date()  # noqa: DTZ005  the person's own day
        with _without_collector():
            summary = _run(inputs, feed, names, out, method, day, memory_mb)
    except _refusals() as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(json.dumps(summary, indent=2, default=str) if as_json else _as_text(summary))


def _group_names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == ["line"]:
        return names
    unknown = [name for name in names if name not in GROUPS]
    if unknown or len(set(names)) != len(names):
        raise typer.BadParameter(
            f"{text!r}: use 'line' alone, or any of {','.join(GROUPS)} once each.", param_hint="--group"
        )
    return names


def _refusals() -> tuple[type[Exception], ...]:
    """Errors that a person can act on; anything else is a defect and keeps its traceback."""
    from offgridflow_pipeline.cli.estimation import EstimateError
    from offgridflow_pipeline.cli.spooling import UnseparableKeyError
    from offgridflow_pipeline.connectors.errors import BillingObjectError, DeliveryError
    from offgridflow_pipeline.emissions.calculate import CalculationError
    from offgridflow_pipeline.lake.engine import EngineError
    from offgridflow_pipeline.settings import SettingsError

    return (
        BillingObjectError, DeliveryError, CalculationError, EngineError, EstimateError, SettingsError,
        UnseparableKeyError, OSError,
    )  # fmt: skip


def _run(
    inputs: list[str], feed: FeedName, group: list[str], out: Path, method: str, as_of: date, memory_mb: int
) -> dict[str, Any]:
    from offgridflow_pipeline.cli.bills import collect
    from offgridflow_pipeline.cli.estimation import estimate as estimated
    from offgridflow_pipeline.connectors.reading.extracts import ReadLimits
    from offgridflow_pipeline.factors.register import load_factor_set
    from offgridflow_pipeline.lake.engine import Engine
    from offgridflow_pipeline.settings import load_settings

    if not gc.get_freeze_count():
        # What was imported stays: it need not be walked when the process ends. DuckDB is imported later, since it
        # complains of what it finds alive then.
        gc.freeze()
    settings = load_settings()
    factor_set = load_factor_set()
    with (
        tempfile.TemporaryDirectory(prefix="ogf-estimate-") as folder,
        Engine(memory_mb, settings.engine_threads) as engine,
        _progress(engine) as stage,
    ):
        bill = collect(inputs, feed, Path(folder))
        result = estimated(
            engine, bill, factor_set, feed=feed, group=group, out=out, method=method, as_of=as_of, stage=stage,
            limits=ReadLimits(settings.maximum_object_bytes, settings.maximum_compression_ratio),
        )  # fmt: skip
        return _summary(bill, result, factor_set, out, method, as_of)


@contextmanager
def _without_collector() -> Iterator[None]:
    """No garbage collection: it walks the many small objects of the expressions again and again and finds nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def _progress(engine: Engine) -> Iterator[Stage]:
    """A progress bar on a terminal, fed by the engine's own progress; silence elsewhere."""
    connection = engine.connection.con
    connection.execute("SET enable_external_file_cache = false")
    if not sys.stderr.isatty():
        connection.execute("SET enable_progress_bar = false")
        yield lambda _name: nullcontext()
        return
    from threading import Event, Thread

    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    connection.execute("SET enable_progress_bar = true; SET enable_progress_bar_print = false")
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:

        @contextmanager
        def stage(name: str) -> Iterator[None]:
            task = bar.add_task(name, total=100)
            done = Event()

            def poll() -> None:
                while not done.wait(PROGRESS_SECONDS):
                    percent = connection.query_progress()
                    bar.update(task, completed=max(percent, 0))

            thread = Thread(target=poll, daemon=True)
            thread.start()
            try:
                yield
            finally:
                done.set()
                thread.join()
            bar.update(task, completed=100)

        yield stage


def _summary(
    bill: Bill, result: Estimate, factor_set: FactorSet, out: Path, method: str, as_of: date
) -> dict[str, Any]:
    """Everything the command tells, decimals as text."""
    return {
        "inputs": [{"source": item.source, "sha256": item.sha256} for item in bill.objects],
        "notices": list(bill.notices),
        "rows": result.rows,
        "first_day": result.first_day and result.first_day.isoformat(),
        "last_day": result.last_day and result.last_day.isoformat(),
        "coverage": [
            {
                "disposition": c.disposition,
                "currency": c.currency,
                "rows": c.rows,
                "billed_cost": _plain(c.billed_cost),
            }
            for c in result.coverage
        ],
        "totals": {name: None if value is None else _plain(value) for name, value in result.totals.items()},
        "method": method,
        "as_of": as_of.isoformat(),
        "factor_set": {"name": factor_set.name, "semver": factor_set.semver, "sha": factor_set.sha},
        "output": {"path": str(out), "rows": result.written_rows},
    }


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _as_text(summary: dict[str, Any]) -> str:
    from offgridflow_pipeline.lake.schemas import MEASURES

    lines = [f"Notice: {notice}" for notice in summary["notices"]]
    lines.append(f"{summary['rows']:,} rows from {summary['first_day']} to {summary['last_day']}")
    lines.append("")
    lines.append(f"{'':14}{'rows':>12} {'%':>6}  {'billed cost':>20}")
    for row in summary["coverage"]:
        share = 100 * row["rows"] / summary["rows"] if summary["rows"] else 0
        cost = f"{Decimal(row['billed_cost']):,.2f} {row['currency']}"
        lines.append(f"{row['disposition']:14}{row['rows']:>12,} {share:>6.1f}  {cost:>20}")
    lines.append("")
    shown = {
        "kwh": "electricity",
        "co2e_lbm_kg": "use, location-based",
        "co2e_mbm_kg": "use, market-based",
        "embodied_kg": "embodied in hardware",
        "upstream_energy_kg": "upstream of electricity",
    }
    for name, label in shown.items():
        value = summary["totals"][name]
        figure = "not available" if value is None else f"{Decimal(value):,.3f} {MEASURES[name][0]}"
        lines.append(f"{label:26}{figure:>27}")
    factors = summary["factor_set"]
    lines.append("")
    lines.append(
        f"Method {summary['method']}, factors {factors['name']} {factors['semver']} as known on {summary['as_of']}"
    )
    lines.append(f"{summary['output']['rows']:,} rows written to {summary['output']['path']}")
    return "\n".join(lines)
