"""`offgridflow audit`: export chains, check them, anchor them. Prints and exits only; the work is in `identity`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from offgridflow_pipeline.cli.db import database_command

if TYPE_CHECKING:
    from offgridflow_pipeline.identity.audit_export import PrintedAnchor, Verdict, Verified
    from offgridflow_pipeline.identity.signing import PublicKeys

app = typer.Typer(no_args_is_help=True, help="Audit log: export, verify, anchor.")

Kept = Annotated[str | None, typer.Option("--anchors", help="Folder or URI of the anchors in write-once storage.")]
Keys = Annotated[
    Path | None, typer.Option("--keys", help="JSON Web Key Set (/.well-known/jwks.json); else the settings' keys.")
]
Root = Annotated[
    str | None, typer.Option("--root", help="Merkle root that a report prints: an anchor of the chain must have it.")
]
EventHash = Annotated[
    str | None,
    typer.Option("--event-hash", help="Hash of the event that the report prints beside the root; goes with --root."),
]


@app.command()
def export(
    tenant: Annotated[str, typer.Argument(help="Slug of the tenant; `platform` is the platform's own chain.")],
    out: Annotated[Path, typer.Option(help="File to write (JSON Lines).")],
) -> None:
    """Write a tenant's chain and its anchors to a file, and note that in the chain."""
    from offgridflow_pipeline.identity.audit import Action, record
    from offgridflow_pipeline.identity.audit_export import export_lines

    with database_command(ready=True) as database:
        record(database, tenant, Action.AUDIT_EXPORTED, actor="system", details={"by": "command line"})
        with out.open("wb") as file:
            file.writelines(export_lines(database, tenant))
    typer.echo(f"Wrote {out}; check it with `offgridflow audit verify {out}`.")


@app.command()
def verify(
    file: Annotated[Path | None, typer.Argument(help="Export to check; needs no database.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Check the chain of this tenant in the database.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Check every chain in the database.")] = False,
    keys: Keys = None,
    kept: Kept = None,
    root: Root = None,
    event_hash: EventHash = None,
) -> None:
    """Exit 1 and name tenant and event unless every event is as it was written and every anchor holds."""
    if sum((file is not None, tenant is not None, everything)) != 1:
        raise typer.BadParameter("give one of FILE, --tenant SLUG and --all.")
    if kept == "":
        raise typer.BadParameter("--anchors is empty: name the folder or bucket, or leave the option out.")
    printed = _printed(root, event_hash, everything=everything)
    verdicts = _of_file(file, keys, kept, printed) if file is not None else _of_database(tenant, keys, kept, printed)
    for verdict in verdicts:
        if verdict.verified is None:
            typer.echo(f"WRONG  {verdict.fault}", err=True)
        else:
            typer.echo(f"right  {_told(verdict.verified)}{', with the anchor of the report' if printed else ''}")
    if any(verdict.fault for verdict in verdicts):
        raise typer.Exit(1)


@app.command()
def anchor() -> None:
    """Sign the heads of all chains as the schedule does daily; a second time of a day changes nothing."""
    from offgridflow_pipeline.identity import anchors
    from offgridflow_pipeline.identity.signing import SigningKeyError, SigningRing
    from offgridflow_pipeline.settings import load_settings

    with database_command(ready=True) as database:
        settings = load_settings()
        try:
            made = anchors.make(database, SigningRing.of(settings))
            if settings.audit_anchor_uri:
                place = anchors.keep(made.anchor, settings.audit_anchor_uri, settings.lake_storage_options)
                typer.echo(f"Kept at {place}.")
        except (SigningKeyError, anchors.AnchorError) as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(1) from error
    typer.echo(
        f"{'Made' if made.new else 'There already:'} the anchor of {made.anchor.anchor_date}, root "
        f"{anchors.body_of(made.anchor)['root']}, signed by {made.anchor.key_id}."
    )


def _printed(root: str | None, event_hash: str | None, *, everything: bool) -> PrintedAnchor | None:
    """What the report prints; None without both options. An empty text, as of an unset variable, is refused."""
    from offgridflow_pipeline.identity.audit_export import PrintedAnchor

    if root is None and event_hash is None:
        return None
    given = PrintedAnchor(root or "", event_hash or "")
    if everything or not all(re.fullmatch("[0-9a-f]{64}", text) for text in (given.root, given.event_hash)):
        raise typer.BadParameter(
            "give --root and --event-hash together, as one tenant's report prints them: 64 hexadecimal digits each, in "
            "small letters, with FILE or --tenant."
        )
    return given


def _of_file(file: Path, keys: Path | None, kept: str | None, printed: PrintedAnchor | None) -> list[Verdict]:
    from offgridflow_pipeline.identity.audit_export import ExportError, Verdict, verify
    from offgridflow_pipeline.identity.chains import ChainFault

    try:
        with file.open("rb") as lines:
            found = verify(lines, _public_keys(keys), _kept(kept), printed)
    except (ChainFault, ExportError, OSError) as error:
        return [Verdict(str(file), None, str(error))]
    return [Verdict(found.tenant, found)]


def _of_database(
    tenant: str | None, keys: Path | None, kept: str | None, printed: PrintedAnchor | None
) -> list[Verdict]:
    from offgridflow_pipeline.identity.audit_export import check_chains

    public, copies = _public_keys(keys), _kept(kept)
    with database_command(ready=True) as database:
        return list(check_chains(database, public, tenant=tenant, kept=copies, printed=printed))


def _told(found: Verified) -> str:
    anchored = f"{found.anchors} anchors up to event {found.anchored_seq}" if found.anchors else "no anchor yet"
    return f"{found.tenant}: {found.events} events, {anchored}, head {found.head_hash.hex()}"


def _kept(folder: str | None) -> dict[str, dict[str, str]] | None:
    from offgridflow_pipeline.identity import anchors
    from offgridflow_pipeline.settings import load_settings

    if folder is None:
        return None
    try:
        return anchors.kept(folder, load_settings().lake_storage_options)
    except (anchors.AnchorError, OSError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from error


def _public_keys(file: Path | None) -> PublicKeys:
    from offgridflow_pipeline.identity.signing import PublicKeys, SigningKeyError, SigningRing
    from offgridflow_pipeline.settings import load_settings

    try:
        if file is None:
            return SigningRing.of(load_settings()).public
        return PublicKeys.of_jwks(json.loads(file.read_bytes()))
    except (SigningKeyError, OSError, ValueError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from error
