"""Billing connections of the tenants, from a JSON file: ``{tenant: [{"id", "kind", "uri"}]}``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from offgridflow_pipeline.connectors.errors import ConnectionConfigError


class Connection(BaseModel):
    """One source of bills: `uri` is a file, a folder or an ``s3://`` prefix."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    kind: Literal["cur", "cur2", "focus"]
    uri: str = Field(min_length=1)


_FILE = TypeAdapter(dict[str, list[Connection]])


def load_connections(path: Path) -> dict[str, list[Connection]]:
    """Connections per tenant slug; relative URIs are relative to the file.

    Raises:
        ConnectionConfigError: unreadable JSON, an unknown kind, or an id used twice by a tenant.
    """
    try:
        found = _FILE.validate_python(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ConnectionConfigError(f"{path} does not exist: set OFFGRIDFLOW_CONNECTIONS_FILE.") from None
    except (json.JSONDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise ConnectionConfigError(f"{path}: {error}") from None
    for tenant, connections in found.items():
        ids = [c.id for c in connections]
        if twice := sorted({i for i in ids if ids.count(i) > 1}):
            raise ConnectionConfigError(f"{path}: tenant {tenant} uses the id {twice[0]!r} twice; ids are unique.")
    return {
        tenant: [c.model_copy(update={"uri": _absolute(c.uri, path.parent)}) for c in connections]
        for tenant, connections in found.items()
    }


def _absolute(uri: str, base: Path) -> str:
    return uri if "://" in uri else str((base / uri).resolve())
