#!/bin/sh
# Installs azurite, the Blob server for tests, into a folder of its own (365 MB, about a
# minute, needs npm). Idempotent: an installation of the same version is left alone.
# Prints the program's path. Older versions than 3.37.0 break Delta tables on it.
set -eu

version=3.37.0
here=$(cd "$(dirname "$0")" && pwd)
home="${OFFGRIDFLOW_COUNTERPARTS_DIR:-$here/../../.counterparts}/azurite"
installed="$home/installed.version"

if ! printf '%s\n' "$version" | cmp -s - "$installed"; then
    rm -rf "$home"
    mkdir -p "$home"
    # A package.json of its own: npm would otherwise install into the next folder above that has one.
    printf '{"private": true}\n' >"$home/package.json"
    npm install --prefix "$home" --no-save --no-audit --no-fund --loglevel=error "azurite@$version" >&2
    printf '%s\n' "$version" >"$installed"
fi
cd "$home"
printf '%s\n' "$PWD/node_modules/.bin/azurite-blob"
