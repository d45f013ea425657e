#!/usr/bin/env bash
# Runs every check there is: lint, format, types, layers and all tests. What CI runs, you can run.
#
#   ./scripts/test.sh                    everything
#   ./scripts/test.sh core/tests -k kv   the same checks, with these arguments for pytest
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

failed=()

# check TITLE COMMAND...: runs on after a failure, so that one run shows all there is to mend.
check() {
    local title="$1" begun=$SECONDS
    shift
    say "$title"
    if ! "$@"; then failed+=("$title"); fi
    printf -- '-- %s: %d s\n' "$title" $((SECONDS - begun))
}

ensure_dev
cd "$ROOT"
export PATH="$VENV/bin:$PATH"
export CLIENTS_PYTHON="$CLIENTS_VENV/bin/python"

check "ruff check" python -m ruff check .
check "ruff format" python -m ruff format --check .
check "mypy" python -m mypy
check "import-linter" lint-imports
check "pytest" python -m pytest "$@"

if ((${#failed[@]})); then
    printf '\nFAILED: %s\n' "${failed[@]}" >&2
    exit 1
fi
