"""Writing a model with smaller weights."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import llama_cpp
from gguf.constants import LlamaFileType

from inferflux_core.errors import ModelLoadError
from inferflux_core.processors import core_count
from inferflux_gguf.check import check_gguf
from inferflux_runner_llamacpp.native_log import captured_log, cause

__all__ = ["check_kind", "quantize"]

# What llama.cpp makes without statistics of how weights are used.
_KINDS: Final = (
    *("F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0"),
    *("Q4_K_M", "Q4_K_S", "Q4_1", "Q4_0", "IQ4_NL", "IQ4_XS", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K"),
)
_COUNTED: Final = re.compile(r"\[\s*(\d+)/\s*([1-9]\d*)\]")
"""llama.cpp names each tensor as it comes to it."""
_WHOLE: Final = frozenset({"F32", "F16", "BF16"})


def check_kind(kind: str) -> str:
    """The name of a quantization, in capital letters.

    Raises:
        ModelLoadError: there is no such kind.
    """
    if kind.upper() not in _KINDS:
        raise ModelLoadError(
            f"there is no quantization '{kind.upper()}' to be made",
            hint=f"choose one of {', '.join(_KINDS)}",
        )
    return kind.upper()


def quantize(source: Path, target: Path, kind: str, report: Callable[[float], None]) -> None:
    """Write the model of one GGUF file to another.

    Args:
        source: with weights that were not quantized before.
        target: is overwritten.
        kind: such as `Q4_K_M`, whatever its case.
        report: is called with the share that is done, from 0 to 1.

    Raises:
        ModelLoadError: there is no such kind, or the source cannot be quantized.
    """
    kind = check_kind(kind)
    summary = check_gguf(source)
    if summary.quantization not in _WHOLE:
        raise ModelLoadError(
            f"the weights are {summary.quantization} already; quantizing twice would lose too much",
            hint="begin from a file with F16, BF16 or F32 weights",
        )
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = int(LlamaFileType[f"MOSTLY_{kind}"])
    params.nthread = core_count()

    def listen(line: str) -> None:
        if counted := _COUNTED.match(line):
            report(int(counted[1]) / int(counted[2]))

    with captured_log(listen) as log:
        status = llama_cpp.llama_model_quantize(
            str(source).encode(), str(target).encode(), ctypes.byref(params)
        )
    if status:
        raise ModelLoadError(
            f"llama.cpp cannot quantize it: {cause(log)}", hint="choose another quantization"
        )
