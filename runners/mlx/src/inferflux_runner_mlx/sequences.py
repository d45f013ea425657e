"""What the model remembers of each sequence, and passes over several of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, Protocol

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import KVCache, RotatingKVCache, make_prompt_cache

from inferflux_core.engine.runner import Work
from inferflux_runner_mlx.slot_cache import SlotCache
from inferflux_runner_mlx.span import Span

__all__ = ["LoneSequences", "Model", "Sequences", "SlotSequences", "windows_of"]

_PLAIN: Final = (KVCache, RotatingKVCache)


class Model(Protocol):
    """A model of mlx_lm."""

    @property
    def layers(self) -> Sequence[Any]:
        """Those that may have a cache."""

    def __call__(self, tokens: mx.array, cache: Sequence[Any]) -> mx.array:
        """Logits `[rows, count, vocab_size]` of int32 tokens `[rows, count]`."""


class Sequences(Protocol):
    """All sequences of one model."""

    def compute(self, works: Sequence[Work]) -> mx.array | None:
        """Compute works of equal numbers of tokens, all without adapters.

        Returns:
            float32 `[rows, vocab_size]`: what the works want, in their order; None if it is nothing.
        """

    def release(self, slot: int) -> None:
        """Forget a sequence."""


class SlotSequences:
    """Sequences whose layers keep nothing but keys and values: side by side, computed in one pass.

    Args:
        model: to run.
        windows: of each layer: how many tokens back it sees; None for all.
        slots: sequences.
        capacity: tokens of each.
    """

    def __init__(
        self, model: Model, windows: Sequence[int | None], *, slots: int, capacity: int
    ) -> None:
        self._model = model
        self._layers = [SlotCache(slots, capacity, window) for window in windows]
        # Cells written since the slot was empty; tokens that were taken back leave theirs as they are.
        self._filled = [0] * slots
        self._capacity = capacity

    def compute(self, works: Sequence[Work]) -> mx.array | None:
        """See `Sequences`."""
        span = Span(works, self._capacity)
        for layer in self._layers:
            layer.span = span
        logits = self._model(span.tokens, self._layers)
        wanted = span.logit_rows(works)
        rows = None
        if wanted:
            rows = logits.reshape(-1, logits.shape[-1])
            if wanted != list(range(len(rows))):
                rows = rows[mx.array(wanted)]
            rows = rows.astype(mx.float32)
        self._evaluate(rows)
        for work in works:
            end = work.position + len(work.token_ids)
            self._filled[work.slot] = max(self._filled[work.slot], end)
        return rows

    def release(self, slot: int) -> None:
        """Forget a sequence."""
        if self._filled[slot]:
            for layer in self._layers:
                layer.clear(slot, self._filled[slot])
            self._evaluate()
            self._filled[slot] = 0

    def copy(self, slot: int, to: int) -> None:
        """Fill an empty slot with a copy of a sequence."""
        for layer in self._layers:
            layer.copy(slot, to, self._filled[slot])
        self._filled[to] = self._filled[slot]
        self._evaluate()

    def export(self, slot: int, bounds: Sequence[int]) -> list[bytes]:
        """Keys and values in pieces, each a row of bytes per token; see `StateExporter`."""
        start = bounds[0]
        columns = [part for layer in self._layers for part in layer.read(slot, start, bounds[-1])]
        tokens = np.asarray(mx.concatenate(columns, axis=1))
        return [tokens[a - start : b - start].tobytes() for a, b in pairwise(bounds)]

    def restore(self, slot: int, pieces: Sequence[bytes], bounds: Sequence[int]) -> None:
        """Fill an empty slot with what `export` gave; see `StateExporter`."""
        tokens = mx.array(np.frombuffer(b"".join(pieces), np.uint8).reshape(bounds[-1], -1))
        column = 0
        for layer in self._layers:
            column = layer.write(slot, tokens, column)
        assert column == tokens.shape[1], "the pieces are of another model"
        self._evaluate()
        self._filled[slot] = bounds[-1]

    def _evaluate(self, *more: mx.array | None) -> None:
        mx.eval(
            *(array for array in more if array is not None), *map(SlotCache.state, self._layers)
        )


class LoneSequences:
    """Sequences of models that keep something else, such as a recurrent state: each in a pass of its own."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._caches: dict[int, list[Any]] = {}

    def compute(self, works: Sequence[Work]) -> mx.array | None:
        """See `Sequences`."""
        rows = []
        for work in works:
            cache = self._caches.get(work.slot)
            if cache is None:
                cache = self._caches[work.slot] = make_prompt_cache(self._model)
            tokens = mx.array(np.array([work.token_ids], np.int32))
            logits = self._model(tokens, cache)
            if work.num_logits:
                rows.append(logits[0, -work.num_logits :].astype(mx.float32))
            mx.eval(rows, [layer.state for layer in cache])
        return mx.concatenate(rows) if rows else None

    def release(self, slot: int) -> None:
        """Forget a sequence."""
        self._caches.pop(slot, None)


def windows_of(caches: Sequence[Any]) -> list[int | None] | None:
    """How far back each layer sees, told from the caches that mlx_lm makes for it; None for all.

    Returns:
        None if a layer keeps something else than the keys and values of the last tokens.
    """
    if not all(type(cache) in _PLAIN and not getattr(cache, "keep", 0) for cache in caches):
        return None
    return [getattr(cache, "max_size", None) for cache in caches]
