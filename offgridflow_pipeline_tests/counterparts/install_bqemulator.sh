#!/bin/sh
# Installs the BigQuery emulator into a virtual environment of its own: it needs an older
# DuckDB than this project. Idempotent: an installation of the same lock file is left
# alone. Prints the folder it lies in. Versions and hashes: bqemulator.lock.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
home="${OFFGRIDFLOW_COUNTERPARTS_DIR:-$here/../../.counterparts}/bqemulator"
lock="$here/bqemulator.lock"
installed="$home/installed.lock"

if ! cmp -s "$lock" "$installed"; then
    rm -rf "$home"
    mkdir -p "$home"
    "${PYTHON:-python3}" -m venv "$home/venv"
    "$home/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --require-hashes --requirement "$lock"
    # The emulator loads the spatial extension from $HOME/.duckdb, so HOME is this folder
    # here and whenever it is started.
    HOME="$home" "$home/venv/bin/python" -c \
        "from duckdb_extensions import import_extension; import_extension('spatial')"
    cp "$lock" "$installed"
fi
(cd "$home" && pwd)
