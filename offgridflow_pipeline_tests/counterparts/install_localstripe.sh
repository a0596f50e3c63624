#!/bin/sh
# Installs localstripe, a Stripe server of others (GPL-3.0), into a virtual environment of its own: it runs as a program
# beside ours and is never imported. Idempotent: an installation of the same lock file is left alone. Prints the folder
# it lies in. Versions and hashes: localstripe.lock.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
home="${OFFGRIDFLOW_COUNTERPARTS_DIR:-$here/../../.counterparts}/localstripe"
lock="$here/localstripe.lock"
installed="$home/installed.lock"

if ! cmp -s "$lock" "$installed"; then
    rm -rf "$home"
    mkdir -p "$home"
    "${PYTHON:-python3}" -m venv "$home/venv"
    "$home/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --require-hashes --requirement "$lock"
    cp "$lock" "$installed"
fi
(cd "$home" && pwd)
