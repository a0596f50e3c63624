#!/bin/sh
# Installs a server for tests into a virtual environment of its own, from the lock file of its
# name beside this script (versions and hashes). Idempotent: an installation of the same lock
# file is left alone. Prints the folder it lies in.
#
#   bqemulator   the BigQuery emulator: it needs an older DuckDB than this project
#   localstripe  a Stripe server of others (GPL-3.0): it runs as a program and is never imported
set -eu

name="${1:?usage: install_from_lock.sh bqemulator|localstripe}"
here=$(cd "$(dirname "$0")" && pwd)
home="${OFFGRIDFLOW_COUNTERPARTS_DIR:-$here/../../.counterparts}/$name"
lock="$here/$name.lock"
installed="$home/installed.lock"

if ! [ -f "$lock" ]; then
    echo "There is no $name.lock beside this script: name one of the servers above." >&2
    exit 2
fi
if ! cmp -s "$lock" "$installed"; then
    rm -rf "$home"
    mkdir -p "$home"
    "${PYTHON:-python3}" -m venv "$home/venv"
    "$home/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --require-hashes --requirement "$lock"
    if [ "$name" = bqemulator ]; then
        # The emulator loads the spatial extension from $HOME/.duckdb, so HOME is this folder
        # here and whenever it is started.
        HOME="$home" "$home/venv/bin/python" -c \
            "from duckdb_extensions import import_extension; import_extension('spatial')"
    fi
    cp "$lock" "$installed"
fi
(cd "$home" && pwd)
