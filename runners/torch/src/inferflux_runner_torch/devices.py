"""What a device computes with."""

from __future__ import annotations

import importlib.util
import logging
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

from inferflux_core.config.schema import RuntimeConfig
from inferflux_core.engine.host_memory import available_memory
from inferflux_core.errors import ModelLoadError
from inferflux_runner_torch.ops import Ops, Precision, TorchOps
from inferflux_runner_torch.ops.linears import fast_bf16

__all__ = ["Computation", "choose_computation"]

logger = logging.getLogger("inferflux.torch")

_PRECISIONS: Final[dict[torch.dtype, Precision]] = {
    torch.float32: "f32",
    torch.bfloat16: "bf16",
    torch.float16: "f16",
}
_BYTES: Final[dict[Precision, int]] = {"f32": 4, "bf16": 2, "f16": 2, "int8": 1}
_PACKED: Final[dict[str, Precision]] = {"q8_0": "int8", "f16": "f16"}
"""Weights that are packed otherwise than they are stored, as `runtime.weights` calls them."""
_LANES: Final = 8
"""Of the kernels' vectors, which heads are made of."""
_CACHE_DTYPES: Final = {"f16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Computation:
    """How a model is computed.

    Attributes:
        ops: the operations.
        precision: of packed weights.
        cache_dtype: of stored keys and values.
        kernels: whose they are.
        device_name: for people.
    """

    ops: Ops
    precision: Precision
    cache_dtype: torch.dtype
    kernels: str
    device_name: str

    @property
    def weight_bytes(self) -> int:
        """Of one packed element."""
        return _BYTES[self.precision]

    @property
    def name(self) -> str:
        """The same for computations whose keys and values are alike."""
        return f"{self.kernels}/{self.precision}/{self.cache_dtype}/{self.device_name}"

    def free_memory(self) -> int:
        """Bytes, where the model goes."""
        if self.ops.device.type == "cpu":
            return available_memory()
        if self.ops.device.type == "cuda":
            return torch.cuda.mem_get_info(self.ops.device)[0]
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()


def choose_computation(
    device: str,
    stored: torch.dtype,
    head: int,
    runtime: RuntimeConfig,
    *,
    quantized: bool = False,
) -> Computation:
    """Choose operations and types.

    On a processor activations are float32, and weights stay as they are stored where there are kernels for
    that (ours, or torch's for bfloat16), or become float32; our kernels take those that were quantized in 8
    bits. On other devices everything has the type that the weights are stored in.

    Args:
        device: `cpu`, `cuda` (ROCm too) or `mps`.
        stored: type of most weights.
        head: elements of a head.
        runtime: what is asked for.
        quantized: whether most weights had fewer bits than `stored` before they were expanded.

    Raises:
        ModelLoadError: there is no such device, or it cannot do what is asked for.
    """
    name = _device_name(device)
    if runtime.threads is not None:
        torch.set_num_threads(runtime.threads)
    if device == "cpu":
        return _on_processor(name, stored, head, runtime, quantized)
    dtype = torch.float16 if runtime.weights == "f16" else stored
    _check_choice("weights", runtime.weights, ("auto", "original", "f16"), device)
    cache_dtype = _cache_dtype(runtime, dtype, device)
    ops = TorchOps(torch.device(device), dtype, cache_dtype)
    return Computation(ops, _PRECISIONS[dtype], cache_dtype, "torch", name)


def _on_processor(
    name: str, stored: torch.dtype, head: int, runtime: RuntimeConfig, quantized: bool
) -> Computation:
    reason = _no_kernels(head)
    if reason is None and (stored != torch.float32 or runtime.weights in _PACKED):
        from inferflux_runner_torch.ops.native import NativeOps

        _check_choice("weights", runtime.weights, ("auto", "original", *_PACKED), "cpu")
        _check_choice("kv_cache_type", runtime.kv_cache_type, ("auto", "f16"), "cpu")
        own: Precision = "int8" if quantized and runtime.weights == "auto" else _PRECISIONS[stored]
        precision = _PACKED.get(runtime.weights, own)
        ops = NativeOps()
        logger.info("kernels for %s", ops.instruction_set)
        return Computation(ops, precision, torch.float16, ops.instruction_set, name)
    kernels = f"torch ({reason or 'weights in float32'})"
    _check_choice("weights", runtime.weights, ("auto", "original"), f"cpu with {kernels}")
    cache_dtype = _cache_dtype(runtime, torch.float16, "cpu")
    plain = TorchOps(torch.device("cpu"), torch.float32, cache_dtype)
    precision = "bf16" if stored == torch.bfloat16 and fast_bf16() else "f32"
    return Computation(plain, precision, cache_dtype, kernels, name)


def _no_kernels(head: int) -> str | None:
    """Why our own kernels cannot be used; None if they can."""
    if importlib.util.find_spec("inferflux_kernels_cpu") is None:
        return "inferflux-kernels-cpu is not installed"
    if head % _LANES:
        return f"heads of {head} elements"
    import inferflux_kernels_cpu

    return inferflux_kernels_cpu.why_not()


def _cache_dtype(runtime: RuntimeConfig, usual: torch.dtype, device: str) -> torch.dtype:
    _check_choice("kv_cache_type", runtime.kv_cache_type, ("auto", *_CACHE_DTYPES), device)
    return _CACHE_DTYPES.get(runtime.kv_cache_type, usual)


def _check_choice(key: str, value: str, allowed: Sequence[str], where: str) -> None:
    if value not in allowed:
        raise ModelLoadError(
            f"runtime.{key} is {value}; on {where} the torch runner has {', '.join(allowed)}",
            hint="set it to auto, or use a GGUF file, which llama.cpp runs",
        )


def _device_name(device: str) -> str:
    if device == "cpu":
        return platform.processor() or platform.machine()
    if device == "cuda" and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    if device == "mps" and torch.backends.mps.is_available():
        return "Apple silicon"
    raise ModelLoadError(
        f"torch {torch.__version__} finds no {device} device here",
        hint="install the build of torch for it: https://pytorch.org/get-started/locally",
    )
