"""Secrets of connections, by reference: ``env:``, ``file:``, secret managers (`managers`), or ``sealed``.

A reference never reaches outside of its tenant: environment variables, files and manager entries are confined by
settings, so that a tenant cannot name another's secret or the platform's own. Values stay `SecretStr`; errors name
the reference and the cure. How sealed secrets are encrypted is in `sealing`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from offgridflow_pipeline.connectors.errors import SealError, SecretMissingError, SecretRefusedError
from offgridflow_pipeline.connectors.providers.library_logs import keep_secrets_out_of_logs
from offgridflow_pipeline.connectors.secrets.sealing import KeyRing, unseal

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.settings import Settings

SEALED = "sealed"
MAXIMUM_BYTES = 64 * 2**10
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SecretResolver:
    """Resolves the references of one tenant's connections. Holds no secret between calls."""

    def __init__(self, tenant: str, settings: Settings, database: Database | None = None) -> None:
        self.tenant = tenant
        self._settings = settings
        self._database = database
        keep_secrets_out_of_logs()

    def resolve(self, reference: str, connection_id: str) -> SecretStr:
        """The secret that the reference of the tenant's connection points to.

        Raises:
            SecretRefusedError: the reference is malformed, or outside of what the tenant may use.
            SecretMissingError: nothing is there, or its keeper does not give it.
            SealError: the sealed secret does not open.
        """
        scheme, _, place = reference.partition(":")
        if reference == SEALED:
            return self._sealed(connection_id)
        if not place:
            raise SecretRefusedError(_malformed(reference))
        if scheme == "env":
            found = self._variable(reference, place)
        elif scheme == "file":
            found = self._file(reference, Path(place))
        else:
            found = self._managed(reference, scheme, place)
        if not found.get_secret_value():
            raise SecretMissingError(f"{reference} is empty: store the secret there.")
        if len(found.get_secret_value()) > MAXIMUM_BYTES:
            raise SecretMissingError(f"{reference} holds more than {MAXIMUM_BYTES} bytes: that is no secret.")
        return found

    def _sealed(self, connection_id: str) -> SecretStr:
        if self._database is None:
            raise SecretRefusedError("A sealed secret needs the database, and there is none here: use another kind.")
        sealed = self._database.connections.secret(self.tenant, connection_id)
        if sealed is None:
            raise SecretMissingError(
                f"Connection {connection_id!r} of {self.tenant} has no sealed secret: give it with "
                f"`offgridflow connections add {self.tenant} {connection_id} --replace --secret-stdin`."
            )
        try:
            return unseal(KeyRing.of(self._settings), self.tenant, connection_id, sealed)
        except SealError as error:
            raise SealError(f"Connection {connection_id!r} of {self.tenant}: {error}.") from None

    def _variable(self, reference: str, name: str) -> SecretStr:
        prefix = self._settings.secret_env_prefix.replace("{tenant}", self.tenant.upper().replace("-", "_"))
        if not _VARIABLE.fullmatch(name) or not name.startswith(prefix) or name == prefix or _is_setting(name):
            raise SecretRefusedError(
                f"{reference} is not a variable that {self.tenant} may use: its name begins with {prefix} "
                "(OFFGRIDFLOW_SECRET_ENV_PREFIX)."
            )
        if name not in os.environ:
            raise SecretMissingError(f"{reference} is not set in the environment of this process: set {name}.")
        return SecretStr(os.environ[name])

    def _file(self, reference: str, path: Path) -> SecretStr:
        folder = self._settings.secret_files_dir
        if folder is None:
            raise SecretRefusedError(
                f"{reference}: no secret file may be read. Set OFFGRIDFLOW_SECRET_FILES_DIR to their folder."
            )
        mine = (folder / self.tenant).resolve()
        target = path.resolve()
        if not path.is_absolute() or not target.is_relative_to(mine):
            raise SecretRefusedError(f"{reference} is not a file that {self.tenant} may use: it must lie in {mine}.")
        if not target.is_file():
            raise SecretMissingError(f"{reference} is not a file: store the secret there.")
        try:
            with target.open("rb") as stream:
                return SecretStr(stream.read(MAXIMUM_BYTES + 2).decode().removesuffix("\n").removesuffix("\r"))
        except OSError as error:
            raise SecretMissingError(f"{reference} cannot be read ({error.strerror}): check its owner.") from None
        except UnicodeDecodeError:
            raise SecretMissingError(f"{reference} is not UTF-8 text: store the secret as text.") from None

    def _managed(self, reference: str, scheme: str, place: str) -> SecretStr:
        from offgridflow_pipeline.connectors.secrets.managers import MANAGERS

        manager = MANAGERS.get(scheme)
        if manager is None:
            raise SecretRefusedError(_malformed(scheme))
        allowed = [p.replace("{tenant}", self.tenant) for p in self._settings.secret_manager_prefixes]
        if not allowed and self._settings.environment == "production":
            raise SecretRefusedError(
                f"{reference}: production names what may be used. Set OFFGRIDFLOW_SECRET_MANAGER_PREFIXES, for "
                f"example to {scheme}:offgridflow/{{tenant}}/."
            )
        if allowed and not any(reference.startswith(prefix) for prefix in allowed):
            raise SecretRefusedError(
                f"{reference} is not a secret that {self.tenant} may use: it begins with {' or '.join(allowed)} "
                "(OFFGRIDFLOW_SECRET_MANAGER_PREFIXES)."
            )
        return manager(reference, place)


def _malformed(text: str) -> str:
    return (
        f"{text!r} is no secret reference: write env:NAME, file:/PATH, aws-sm:NAME[#KEY], "
        "gcp-sm:projects/P/secrets/S, azure-kv:https://VAULT/secrets/NAME or sealed."
    )


def _is_setting(name: str) -> bool:
    """Whether the platform itself reads the variable: the keys of all sealed secrets have such a name."""
    from offgridflow_pipeline.settings import Settings

    fields = {f"OFFGRIDFLOW_{field.upper()}" for field in Settings.model_fields}
    return name.upper() in fields | {"DATABASE_URL", "OFFGRIDFLOW_DAGSTER_DATABASE_URL"}
