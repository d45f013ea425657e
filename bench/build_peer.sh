#!/usr/bin/env bash
# Build llama-server, the peer we measure against, from the very llama.cpp that our runner links:
# the copy inside the llama-cpp-python source distribution, with the same compiler flags.
#
# usage: build_peer.sh FOLDER
#   PYTHON  interpreter whose pip fetches the sources (default: python3)
#   JOBS    parallel compiler processes (default: all cores)
#
# Prints the paths of the two programs. An interrupted build continues where it stopped.
set -euo pipefail

readonly VERSION=0.3.36
readonly NAME="llama_cpp_python-$VERSION"
# GCC 12 drops stores that ggml's AMX set-up needs, and the program then faults at the first
# token. The flags change nothing else that can be measured, so every build gets them.
readonly CXX_FLAGS="-fno-tree-dse -fno-dse"

if [[ $# -ne 1 ]]; then
    echo "usage: $0 FOLDER" >&2
    exit 2
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)
python=${PYTHON:-python3}
jobs=${JOBS:-$(nproc)}

if [[ ! -f "$folder/$NAME.tar.gz" ]]; then
    "$python" -m pip download "llama-cpp-python==$VERSION" \
        --no-deps --no-binary llama-cpp-python --dest "$folder" >&2
fi
if [[ ! -d "$folder/$NAME" ]]; then
    tar -xzf "$folder/$NAME.tar.gz" -C "$folder"
fi

# The web page is left out: building or fetching it needs npm or the network.
cmake -S "$folder/$NAME/vendor/llama.cpp" -B "$folder/build" \
    -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_CXX_FLAGS="$CXX_FLAGS" \
    -DGGML_NATIVE=ON \
    -DLLAMA_OPENSSL=OFF \
    -DLLAMA_BUILD_UI=OFF \
    -DLLAMA_USE_PREBUILT_UI=OFF \
    -DLLAMA_BUILD_TESTS=OFF \
    -DLLAMA_BUILD_EXAMPLES=OFF \
    -DLLAMA_BUILD_APP=OFF >&2
nice -n 19 cmake --build "$folder/build" --parallel "$jobs" \
    --target llama-server llama-batched-bench >&2

echo "$folder/build/bin/llama-server"
echo "$folder/build/bin/llama-batched-bench"
