"""Embeddings, on a context of their own: where they are wanted, llama.cpp outputs every token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from inferflux_core.engine.embedding_passes import PASS_INPUTS, PASS_TOKENS, share_passes
from inferflux_core.engine.runner import RunnerError
from inferflux_core.errors import EngineError
from inferflux_runner_llamacpp.batch import Batch
from inferflux_runner_llamacpp.native_log import captured_log, cause

__all__ = ["EmbedderSettings", "LlamaEmbedder"]

_PAD: Final = 256

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedderSettings:
    """How to embed.

    Attributes:
        pooling: `mean`, `last`, `cls` or `rank`.
        causal: whether tokens see only those before them.
        max_tokens: tokens an input may have.
        threads: compute threads.
        kv_type: ggml's number of the type of keys and values.
    """

    pooling: str
    causal: bool
    max_tokens: int
    threads: int
    kv_type: int = llama_cpp.GGML_TYPE_F16

    @property
    def in_pieces(self) -> bool:
        """Whether an input may be computed in several passes, and is pooled here.

        llama.cpp pools within a pass, so it must see the whole input at once; a causal model need not.
        """
        return self.causal and self.pooling in ("mean", "last")


class LlamaEmbedder:
    """Embeds with a model that others may use as well. Its context is made at the first use.

    Args:
        model: handle; must live until `close`.
        settings: how to embed.
    """

    def __init__(self, model: llama_cpp.llama_model_p, settings: EmbedderSettings) -> None:
        self._model = model
        self._settings = settings
        self._capacity = PASS_TOKENS
        if not settings.in_pieces:
            self._capacity = max(settings.max_tokens, PASS_TOKENS)
        self._context: llama_cpp.llama_context_p | None = None
        self._memory: llama_cpp.llama_memory_t | None = None
        self._batch = Batch(self._capacity, PASS_INPUTS)
        self._width: int = llama_cpp.llama_model_n_embd(model)
        self._size = 1 if settings.pooling == "rank" else self._width
        if not settings.in_pieces and settings.pooling != "rank":
            self._size = llama_cpp.llama_model_n_embd_out(model)

    @property
    def max_tokens(self) -> int:
        """Tokens an input may have."""
        return self._settings.max_tokens

    def embed(self, inputs: Sequence[Sequence[int]]) -> Iterator[Vectors]:
        """Embed token sequences, several per pass.

        Yields:
            After every pass the vectors of the inputs that it completed, float32 `[completed, size]`.

        Raises:
            EngineError: there is no memory for the context.
            RunnerError: a pass failed.
        """
        if self._context is None:
            self._context = self._open()
            self._memory = llama_cpp.llama_get_memory(self._context)
        for group in share_passes(inputs, PASS_TOKENS):
            if self._memory:
                llama_cpp.llama_memory_clear(self._memory, False)
            if self._settings.in_pieces:
                yield from self._accumulate(group)
            else:
                yield self._pooled(group)

    def close(self) -> None:
        """Free the context. Idempotent."""
        if self._context is not None:
            llama_cpp.llama_free(self._context)
            self._context = None

    def _open(self) -> llama_cpp.llama_context_p:
        settings = self._settings
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = -(-max(settings.max_tokens, self._capacity) // _PAD) * _PAD
        params.n_batch = params.n_ubatch = self._capacity
        params.n_seq_max = PASS_INPUTS
        params.n_threads = params.n_threads_batch = settings.threads
        params.type_k = params.type_v = settings.kv_type
        params.embeddings = True
        params.pooling_type = (
            llama_cpp.LLAMA_POOLING_TYPE_NONE if settings.in_pieces else _POOLING[settings.pooling]
        )
        # One stream: otherwise a pass takes only sequences of equal length.
        params.kv_unified = True
        params.no_perf = True
        with captured_log() as log:
            context: llama_cpp.llama_context_p = llama_cpp.llama_init_from_model(
                self._model, params
            )
        if not context:
            raise EngineError(f"llama.cpp cannot make a context for embeddings: {cause(log)}")
        return context

    def _accumulate(self, group: Sequence[Sequence[int]]) -> Iterator[Vectors]:
        """Pool the states of a causal model's tokens, piece by piece."""
        tokens = np.concatenate([np.asarray(ids, np.int32) for ids in group])
        lengths = np.array([len(ids) for ids in group])
        owners = np.repeat(np.arange(len(group)), lengths)
        positions = np.concatenate([np.arange(length) for length in lengths])
        vectors = np.zeros((len(group), self._size), np.float32)
        for start in range(0, len(tokens), self._capacity):
            piece = slice(start, start + self._capacity)
            states = self._states(tokens[piece], owners[piece], positions[piece])
            if self._settings.pooling == "mean":
                np.add.at(vectors, owners[piece], states / lengths[owners[piece], None])
            else:
                # Of several states of one input, the last one stays.
                vectors[owners[piece]] = states
            complete = start + self._capacity >= len(tokens)
            yield vectors if complete else vectors[:0]

    def _states(
        self, tokens: NDArray[np.int32], owners: NDArray[np.intp], positions: NDArray[np.intp]
    ) -> Vectors:
        """The last layer's state of every token: float32 `[tokens, width]`, valid until the next pass."""
        self._compute(tokens.tolist(), owners.tolist(), positions.tolist())
        pointer = llama_cpp.llama_get_embeddings(self._context)
        return np.ctypeslib.as_array(pointer, (len(tokens), self._width))

    def _pooled(self, group: Sequence[Sequence[int]]) -> Vectors:
        """Let llama.cpp pool whole inputs."""
        tokens = [token for ids in group for token in ids]
        owners = [owner for owner, ids in enumerate(group) for _ in ids]
        positions = [position for ids in group for position in range(len(ids))]
        self._compute(tokens, owners, positions)
        vectors = np.empty((len(group), self._size), np.float32)
        for owner in range(len(group)):
            pointer = llama_cpp.llama_get_embeddings_seq(self._context, owner)
            vectors[owner] = np.ctypeslib.as_array(pointer, (self._size,))
        return vectors

    def _compute(self, tokens: list[int], owners: list[int], positions: list[int]) -> None:
        batch = self._batch.fill(owners, positions, [[t] for t in tokens], [1] * len(tokens))
        run = llama_cpp.llama_decode if self._memory else llama_cpp.llama_encode
        if status := run(self._context, batch):
            raise RunnerError(f"llama.cpp failed to embed, with status {status}")


_POOLING: Final = {
    "mean": llama_cpp.LLAMA_POOLING_TYPE_MEAN,
    "cls": llama_cpp.LLAMA_POOLING_TYPE_CLS,
    "last": llama_cpp.LLAMA_POOLING_TYPE_LAST,
    "rank": llama_cpp.LLAMA_POOLING_TYPE_RANK,
}
