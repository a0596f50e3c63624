"""``python -m offgridflow_pipeline.sidecar`` writes the OpenAPI document to standard output; opens no database."""

from __future__ import annotations

import sys

from offgridflow_pipeline.database.engine import open_database
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline.sidecar import contract
from offgridflow_pipeline.sidecar.app import create_app


def main() -> None:
    """Write the document of the whole app."""
    settings = Settings(_env_file=None, environment="test", database_url="postgresql://localhost/ogf")
    sys.stdout.write(contract.text(create_app(settings, open_database(settings, role="ogf_api")).openapi()))


if __name__ == "__main__":
    main()
