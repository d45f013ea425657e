"""How many sequences a runner holds, and how long they may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from inferflux_core.config.schema import RuntimeConfig
from inferflux_core.engine.host_memory import available_memory
from inferflux_core.errors import ModelLoadError

__all__ = ["ContextSize", "fit"]

_DEFAULT_SEQS: Final = 32
_DEFAULT_LEN: Final = 2048
_DEFAULT_BUDGET: Final = 768 * 2**20
_STEP: Final = 256


@dataclass(frozen=True, slots=True)
class ContextSize:
    """Sequences, and the tokens each can hold."""

    max_num_seqs: int
    max_model_len: int


def fit(
    kv_bytes_per_token: int,
    trained_len: int,
    runtime: RuntimeConfig,
    *,
    check_memory: bool = True,
    page: int = 1,
) -> ContextSize:
    """Choose what the configuration leaves open.

    Unset, the KV cache may take 768 MiB, and at most 40 % of free memory; sequences are given up before
    their length falls below 2,048 tokens (or what the model was trained for).

    Args:
        kv_bytes_per_token: of all layers.
        trained_len: context length of the model.
        runtime: limits from the configuration.
        check_memory: whether the cache lives in this machine's main memory.
        page: what the runner rounds lengths up to.

    Raises:
        ModelLoadError: what is asked for does not fit, or exceeds the model's context.
    """
    free = available_memory() if check_memory else 2**62
    tokens = int(min(_DEFAULT_BUDGET, 0.4 * free)) // max(kv_bytes_per_token, 1)
    length, seqs = runtime.max_model_len, runtime.max_num_seqs
    if length is not None and length > trained_len:
        raise ModelLoadError(
            f"runtime.max_model_len is {length} and the model was trained for {trained_len} tokens",
            hint=f"set `runtime.max_model_len` to at most {trained_len}",
        )
    if seqs is None:
        floor = length or min(trained_len, _DEFAULT_LEN)
        seqs = max(1, min(_DEFAULT_SEQS, tokens // _padded(floor, page)))
    if length is None:
        length = min(trained_len, max(_STEP, tokens // seqs // _STEP * _STEP))
    needed = _padded(length, page) * seqs * kv_bytes_per_token
    if needed > free:
        raise ModelLoadError(
            f"a KV cache of {seqs} sequences of {length} tokens needs {needed / 2**20:,.0f} MiB and "
            f"only {free / 2**20:,.0f} MiB of memory are free",
            hint="lower `runtime.max_model_len` or `runtime.max_num_seqs`",
        )
    return ContextSize(seqs, length)


def _padded(length: int, page: int) -> int:
    return -(-length // page) * page
