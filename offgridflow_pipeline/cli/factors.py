"""`offgridflow factors`: check the shipped factor set and look up its rows.

The register itself lives in `offgridflow_pipeline.factors`; nothing is computed here.
"""

from __future__ import annotations

import json
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from offgridflow_pipeline.factors.register import Factor, FactorSet

app = typer.Typer(help="Check and show the factor register.", no_args_is_help=True)

_DAY = ["%Y-%m-%d"]


@app.command()
def verify() -> None:
    """Recompute every hash of the shipped set and check its rows; exit code 1 when anything is wrong."""
    from offgridflow_pipeline.factors.register import load_factor_set, verify_factor_set

    problems = verify_factor_set()
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        typer.echo(f"{len(problems)} problems: the factor set must not be used.", err=True)
        raise typer.Exit(1)
    factor_set = load_factor_set()
    rows = sum(len(factor_set.of_kind(kind)) for kind in factor_set.kinds)
    typer.echo(f"{factor_set.name} {factor_set.semver} is sound: {rows} rows, {len(factor_set.sources)} sources.")
    typer.echo(f"set_sha {factor_set.sha}")


@app.command()
def show(
    key: Annotated[str, typer.Argument(help="Factor key, for example grid.location/US/SRVC, or its start.")],
    usage_date: Annotated[
        datetime | None, typer.Option(formats=_DAY, help="Mark the vintage that serves this day.")
    ] = None,
    as_of: Annotated[
        datetime | None, typer.Option(formats=_DAY, help="Knowledge date for --usage-date; today by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per vintage.")] = False,
) -> None:
    """Show every vintage of a key with its citation; the start of a key lists the keys below it."""
    from offgridflow_pipeline.factors.register import load_factor_set

    factor_set = load_factor_set()
    factors = factor_set.get(key)
    if not factors:
        _list_keys(factor_set, key)
        return
    chosen = None
    if usage_date is not None:
        known = as_of.date() if as_of else date.today()  # noqa: DTZ011  knowledge dates are calendar days
        technical = not factors[0].kind.startswith("grid.") or factors[0].kind == "grid.loss_fraction"
        chosen = factor_set.one(key, usage_date.date(), known, technical=technical)
    for factor in factors:
        content = _content(factor_set, factor) | ({"serves": factor == chosen} if usage_date else {})
        if as_json:
            typer.echo(json.dumps(content, ensure_ascii=False))
            continue
        for name, text in content.items():
            typer.echo(f"{name:15} {text}")
        typer.echo("")


def _content(factor_set: FactorSet, factor: Factor) -> dict[str, object]:
    source = factor_set.source(factor)
    return {
        "key": factor.factor_key,
        "value": None if factor.value is None else format(factor.value, "f"),
        "null_reason": factor.null_reason,
        "unit": factor.unit,
        "valid": f"{factor.valid_from} to {factor.valid_to or 'further notice'}",
        "known_from": factor.known_from.isoformat(),
        "boundary": factor.boundary,
        "gwp_basis": factor.gwp_basis,
        "gsd": format(factor.gsd, "f"),
        "quality": dict(factor.quality),
        "attributes": {name: _plain(content) for name, content in factor.attributes.items()},
        "source": source.citation,
        "locator": factor.source_locator,
        "licence": source.licence,
        "redistribution": source.redistribution,
        "evidence_grade": source.evidence_grade,
        "factor_uid": factor.factor_uid,
    }


def _plain(content: object) -> object:
    if isinstance(content, dict):
        return {name: _plain(part) for name, part in content.items()}
    if isinstance(content, list):
        return [_plain(part) for part in content]
    return content if isinstance(content, str | bool) else str(content)


def _list_keys(factor_set: FactorSet, start: str) -> None:
    """Keys below a start; exit code 1 with a hint when there are none."""
    kind = start.partition("/")[0]
    kinds = [name for name in factor_set.kinds if name == kind or ("/" not in start and name.startswith(start))]
    keys = sorted({f.factor_key for name in kinds for f in factor_set.of_kind(name) if f.factor_key.startswith(start)})
    if not keys:
        typer.echo(f"No factor key starts with {start!r}. Kinds: {', '.join(factor_set.kinds)}.", err=True)
        raise typer.Exit(1)
    for key in keys:
        typer.echo(key)
