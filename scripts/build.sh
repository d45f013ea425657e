#!/usr/bin/env bash
# Builds the wheels of all InferFlux packages into dist/.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

ensure_venv
install_build_tools
rm -rf "$ROOT/dist"
folders=()
while read -r folder; do folders+=("$folder"); done < <(package_folders)
say "Building ${#folders[@]} wheels"
"$VENV/bin/python" -m pip wheel --quiet --no-input --no-deps --no-build-isolation \
    --wheel-dir "$ROOT/dist" "${folders[@]}"
ls "$ROOT/dist"
