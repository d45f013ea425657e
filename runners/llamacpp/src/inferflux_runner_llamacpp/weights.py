"""Expanding quantized weights to a type with faster kernels, once, into a cache.

llama.cpp has fast batched kernels for some quantized types on some processors. Where it has none, every
row of a batch costs as much as the first, while `Q8_0` and half precision run through blocked matrix
products. Half precision loses nothing that quantization had kept (11 bits of mantissa for values made of
at most 8 bits and a scale), and spares the activations the rounding to 8 bits that quantized kernels
impose. `Q8_0` adds a rounding error of at most 0.4 % of the largest weight of each block of 32.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Final

import llama_cpp

from inferflux_core.engine.host_memory import available_memory
from inferflux_core.errors import ModelLoadError
from inferflux_gguf.check import GGUFSummary, check_gguf
from inferflux_gguf.split import all_parts
from inferflux_runner_llamacpp.host import cache_folder
from inferflux_runner_llamacpp.identity import file_identity
from inferflux_runner_llamacpp.native_log import captured_log, cause

__all__ = ["CANDIDATES", "can_expand", "expand"]

_LARGEST_EXPANDED: Final = 2 * 2**30
_BYTES_GUESS: Final = 4
"""Half precision takes at most four times the bytes of what gains by it."""
_FILE_TYPES: Final = {"f16": 1, "q8_0": 7}  # LLAMA_FTYPE_MOSTLY_F16 and _Q8_0
CANDIDATES: Final = tuple(_FILE_TYPES)
_LARGE_ALREADY: Final = frozenset({"F32", "F16", "BF16", "Q8_0"})


def can_expand(summary: GGUFSummary) -> bool:
    """Whether expansion is possible at a price worth thinking about."""
    size = summary.tensor_bytes * _BYTES_GUESS
    return (
        summary.quantization not in _LARGE_ALREADY
        and summary.split_count == 1
        and size <= _LARGEST_EXPANDED
        and size <= available_memory() // 4
    )


def expand(path: Path, weights: str, threads: int) -> Path:
    """The copy of a model with other weights, made if it is not in the cache yet.

    Args:
        path: the model.
        weights: `f16` or `q8_0`.
        threads: for the conversion.

    Raises:
        ModelLoadError: it cannot be made, e.g. because the disk is full.
    """
    parts = all_parts(path)
    # The last time of change cannot be set: a file that another stood in for meanwhile finds no copy of that.
    changed = [str(part.stat().st_ctime_ns) for part in parts]
    key = hashlib.sha256(
        "|".join([weights, *map(file_identity, parts), *changed]).encode()
    ).hexdigest()[:32]
    target = cache_folder() / "weights" / f"{key}.gguf"
    if target.exists():
        check_gguf(target)
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=target.parent, suffix=".part")
        os.close(handle)
    except OSError as error:
        raise ModelLoadError(
            f"cannot write expanded weights to {target.parent}: {error.strerror}",
            hint="set `runtime.weights: original`, or XDG_CACHE_HOME to a writable folder",
        ) from error
    part = Path(name)
    try:
        _convert(path, part, _FILE_TYPES[weights], threads)
        check_gguf(part)
        # Only a complete file gets the name that others look for.
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _convert(source: Path, target: Path, file_type: int, threads: int) -> None:
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = file_type
    params.allow_requantize = True
    params.nthread = threads
    with captured_log() as log:
        status = llama_cpp.llama_model_quantize(
            os.fsencode(source), os.fsencode(target), ctypes.byref(params)
        )
    if status:
        raise ModelLoadError(
            f"llama.cpp cannot expand the weights of {source.name}: {cause(log)}",
            hint="set `runtime.weights: original`",
        )
