"""The Dagster instance of `offgridflow dev` and `offgridflow demo`: PostgreSQL storage below the data folder.

Starts the embedded PostgreSQL when no DATABASE_URL is set, migrates the application database, and
prepares DAGSTER_HOME. This package never imports Dagster; it starts it as a child process.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from offgridflow_pipeline.settings import Settings, SettingsError


def project_root() -> Path:
    """Folder of the checkout: where workspace.yaml stands.

    Raises:
        SettingsError: the package was installed without its checkout.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / "workspace.yaml").is_file():
        raise SettingsError("workspace.yaml not found: run OffGridFlow from a checkout of its repository.")
    return root


def prepare(settings: Settings) -> dict[str, str]:
    """Environment for a Dagster process: databases migrated, instance file in place.

    Returns the whole environment of the child; secrets stay in it and are never printed.
    """
    from offgridflow_pipeline.database.engine import connect
    from offgridflow_pipeline.database.server.migrations import migrate

    home = (settings.data_dir / "dagster" / "home").resolve()
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(project_root() / "deploy" / "dagster.yaml", home / "dagster.yaml")
    database = connect(settings)
    try:
        migrate(database.admin_engine)
        dagster_url = database.dagster_url()
    finally:
        database.close()
    environment = dict(os.environ)
    environment |= {
        "DAGSTER_HOME": str(home),
        "OFFGRIDFLOW_DAGSTER_DATABASE_URL": dagster_url,
        "OFFGRIDFLOW_DATA_DIR": str(settings.data_dir.resolve()),
        "DAGSTER_EVENT_BATCH_SIZE": "500",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    return environment
