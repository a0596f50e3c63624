"""`offgridflow`: the command line. Commands import what they need when they run, so that `--help` is quick."""

from __future__ import annotations

import typer

from offgridflow_pipeline.cli import audit, billing, connections, db, factors, key, period, tenant, user
from offgridflow_pipeline.cli.demo import demo
from offgridflow_pipeline.cli.dev import dev
from offgridflow_pipeline.cli.estimate import estimate
from offgridflow_pipeline.cli.serve import serve

app = typer.Typer(
    name="offgridflow",
    help="Cloud bills in, greenhouse-gas reports an auditor can trace out.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.command()(estimate)
app.command()(demo)
app.command()(dev)
app.command()(serve)
app.add_typer(tenant.app, name="tenant")
app.add_typer(user.app, name="user")
app.add_typer(connections.app, name="connections")
app.add_typer(factors.app, name="factors")
app.add_typer(period.period, name="period")
app.add_typer(period.restatement, name="restatement")
app.add_typer(key.app, name="key")
app.add_typer(billing.app, name="billing")
app.add_typer(audit.app, name="audit")
app.add_typer(db.app, name="db")
