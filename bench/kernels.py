"""How fast the linear layers of a small model are, by rows, precision and instruction set.

    python -m bench.kernels

All layers of the model are computed one after the other, each with weights of its own, as in a pass: what
does not fit into the caches comes from memory. Needs the torch runner with its kernels.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Final

import torch

import inferflux_kernels_cpu
from inferflux_runner_torch.ops.native import NativeLinear
from inferflux_runner_torch.ops.ops import Precision

__all__ = ["main"]

_LAYERS: Final = 30
_SHAPES: Final = ((576, 960), (576, 576), (576, 3072), (1536, 576))
_HEAD: Final = (576, 49_152)
"""Inputs and outputs of the layers of SmolLM2-135M, and of its output."""
_BYTES: Final[dict[Precision, int]] = {"bf16": 2, "f16": 2, "int8": 1}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a line for each kind of weight."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.kernels",
        description="Time all linear layers of SmolLM2-135M, with random weights: milliseconds a pass.",
        epilog="example:\n  python -m bench.kernels --rows 1,32 --repeats 5",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", default="1,4,8,16,32,64,128,256", help="rows of a pass")
    parser.add_argument("--repeats", type=int, default=9, help="medians of so many (default 9)")
    arguments = parser.parse_args(argv)
    rows = [int(count) for count in arguments.rows.split(",")]
    shapes = [*_SHAPES * _LAYERS, _HEAD]
    weights = [torch.randn(outputs, inputs) / inputs**0.5 for inputs, outputs in shapes]
    products = sum(weight.numel() for weight in weights)
    print(f"{products / 1e6:.0f} million weights, {torch.get_num_threads()} threads; ms a pass")
    print(
        f"{'':16}"
        + "".join(f"{count:>9}" for count in rows)
        + "   GB/s at fewest, GMAC/s at most rows"
    )
    for name in inferflux_kernels_cpu.usable():
        kernels = inferflux_kernels_cpu.load(name)
        for precision, size in _BYTES.items():
            linears = [NativeLinear(kernels, weight, None, precision) for weight in weights]
            times = [_milliseconds(linears, shapes, n, arguments.repeats) for n in rows]
            _show(f"{name} {precision}", times, rows, products, size)
    plain = [_torch_linear(weight.bfloat16()) for weight in weights]
    times = [_milliseconds(plain, shapes, n, arguments.repeats, torch.bfloat16) for n in rows]
    _show("torch bf16", times, rows, products, 2)


def _torch_linear(weight: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda states: torch.nn.functional.linear(states, weight)


def _milliseconds(
    linears: Sequence[Callable[[torch.Tensor], torch.Tensor]],
    shapes: Sequence[tuple[int, int]],
    rows: int,
    repeats: int,
    dtype: torch.dtype = torch.float32,
) -> float:
    states = {inputs: torch.randn(rows, inputs, dtype=dtype) for inputs, _ in shapes}
    times = []
    with torch.inference_mode():
        for _ in range(repeats + 1):
            begun = time.perf_counter()
            for linear, (inputs, _) in zip(linears, shapes, strict=True):
                linear(states[inputs])
            times.append(time.perf_counter() - begun)
    return statistics.median(times[1:]) * 1000


def _show(name: str, times: Sequence[float], rows: Sequence[int], products: int, size: int) -> None:
    read = products * size / times[0] / 1e6
    done = products * rows[-1] / times[-1] / 1e6
    print(f"{name:16}" + "".join(f"{ms:9.2f}" for ms in times) + f"   {read:.0f}, {done:.0f}")


if __name__ == "__main__":
    main()
