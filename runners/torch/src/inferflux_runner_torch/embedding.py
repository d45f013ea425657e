"""Embeds with a decoder, beside the sequences that it continues."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from inferflux_core.engine.embedding_passes import CACHE_BYTES, PASS_INPUTS, PASS_TOKENS
from inferflux_core.engine.runner import RunnerError, Work
from inferflux_core.errors import EngineError
from inferflux_runner_torch.cache import PagedCache
from inferflux_runner_torch.decoder import Decoder, DecoderConfig
from inferflux_runner_torch.ops import Ops
from inferflux_runner_torch.passes import Numbered, plan_passes
from inferflux_runner_torch.pooling import Pool
from inferflux_runner_torch.sentences import SentenceSettings

__all__ = ["DecoderEmbedder"]

_NO_LOGITS = 1
"""Of a pass; none are asked for."""


class DecoderEmbedder:
    """Pools the states that come out of a decoder's last norm.

    Keys and values are in a cache of its own, which is made at the first use: as many inputs are computed
    at once as 256 MiB hold.

    Args:
        decoder: the model, which others may use as well.
        config: of the model.
        ops: that it computes with.
        settings: how to embed.
        max_tokens: of an input.
        kv_bytes_per_token: of all layers.
    """

    def __init__(
        self,
        decoder: Decoder,
        config: DecoderConfig,
        ops: Ops,
        settings: SentenceSettings,
        *,
        max_tokens: int,
        kv_bytes_per_token: int,
    ) -> None:
        self.max_tokens = max_tokens
        self._decoder: Decoder | None = decoder
        self._config = config
        self._ops = ops
        self._settings = settings
        pages = -(-max_tokens // ops.block_size)
        affordable = CACHE_BYTES // (pages * ops.block_size * kv_bytes_per_token)
        self._slots = max(1, min(PASS_INPUTS, affordable))
        self._cache: PagedCache | None = None

    def embed(self, inputs: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
        """See `Embedder`.

        Raises:
            EngineError: there is no memory for the cache.
            RunnerError: torch failed.
        """
        cache = self._cache = self._cache or self._new_cache()
        for start in range(0, len(inputs), self._slots):
            group = inputs[start : start + self._slots]
            for slot in range(len(group)):
                cache.release(slot)
            pool = self._pool(group)
            works = [Work(slot, 0, ids, 0) for slot, ids in enumerate(group)]
            *others, last = plan_passes(works, PASS_TOKENS, _NO_LOGITS)
            for members in others:
                self._compute(members, cache, pool)
                yield np.empty((0, self._config.width), np.float32)
            self._compute(last, cache, pool)
            yield pool.vectors(normalised=self._settings.normalised)

    def close(self) -> None:
        """Free the cache, and let the model go."""
        self._decoder = self._cache = None

    def _pool(self, inputs: Sequence[Sequence[int]]) -> Pool:
        lengths = [len(ids) for ids in inputs]
        return Pool(self._settings.pooling, lengths, self._config.width, self._ops.device)

    def _new_cache(self) -> PagedCache:
        config = self._config
        try:
            return PagedCache(
                self._ops,
                layers=config.layers,
                heads=config.heads_kv,
                head=config.head,
                slots=self._slots,
                capacity=self.max_tokens,
            )
        except RuntimeError as error:
            raise EngineError(f"torch has no memory for embeddings: {error}") from error

    @torch.inference_mode()
    def _compute(self, members: Sequence[Numbered], cache: PagedCache, pool: Pool) -> None:
        assert self._decoder is not None, "the runner is closed"
        works = [work for _, work in members]
        rows = cache.append(works)
        token_ids = torch.tensor([token for work in works for token in work.token_ids])
        try:
            states = self._decoder.hidden(token_ids.to(self._ops.device), rows, cache.layers)
            pieces = torch.split(states, [len(work.token_ids) for work in works])
            for work, piece in zip(works, pieces, strict=True):
                pool.add(work.slot, work.position, piece)
        except RuntimeError as error:
            raise RunnerError(f"torch failed: {error}") from error
