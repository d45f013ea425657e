#!/usr/bin/env bash
# Starts the server from this checkout, setting everything up on the first run:
#
#   ./scripts/run_dev.sh --config config/server.yaml
#
# All arguments go to `inferfluxd`; see `./scripts/run_dev.sh --help`.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

ensure_runtime
exec "$VENV/bin/inferfluxd" "$@"
