"""How long inputs to embed may be, and which of them share a pass; for runners that embed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

__all__ = [
    "CACHE_BYTES",
    "PASS_INPUTS",
    "PASS_TOKENS",
    "input_limit",
    "longest_input",
    "share_passes",
]

PASS_TOKENS: Final = 128
"""Most tokens of a pass, unless one input must be computed at once: what runs beside it waits so long."""
PASS_INPUTS: Final = 16

CACHE_BYTES: Final = 256 * 2**20
"""For keys and values of inputs, which are forgotten after the pass."""

_LONGEST: Final = 2048


def longest_input(context_length: int, kv_bytes_per_token: int = 0) -> int:
    """Tokens an input may have: as the context allows, at most 2,048, and 256 MiB of keys and values."""
    affordable = max(CACHE_BYTES // max(kv_bytes_per_token, 1), PASS_TOKENS)
    return min(context_length, _LONGEST, affordable)


def input_limit(configured: int | None, context_length: int, trained: int | None = None) -> int:
    """Tokens an input of a model that only embeds may have.

    Args:
        configured: `runtime.max_model_len`, which is meant for other models if this one takes less.
        context_length: what it can take.
        trained: what it was trained to embed, if that is less.
    """
    if configured is not None and configured <= context_length:
        return configured
    return longest_input(min(trained or context_length, context_length))


def share_passes(
    inputs: Sequence[Sequence[int]], max_tokens: int = PASS_TOKENS, max_inputs: int = PASS_INPUTS
) -> Iterator[Sequence[Sequence[int]]]:
    """Neighbours that fit into one pass together; an input that is longer than a pass comes alone.

    Args:
        inputs: token sequences.
        max_tokens: of a pass.
        max_inputs: of a pass.
    """
    start, total = 0, 0
    for index, ids in enumerate(inputs):
        if index > start and (total + len(ids) > max_tokens or index - start == max_inputs):
            yield inputs[start:index]
            start, total = index, 0
        total += len(ids)
    if start < len(inputs):
        yield inputs[start:]
