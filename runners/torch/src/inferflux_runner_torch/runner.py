"""Executes batches of the engine on a decoder in torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from inferflux_core.engine.cost import CostModel
from inferflux_core.engine.runner import (
    ModelOutput,
    RunnerCapabilities,
    RunnerError,
    Work,
)
from inferflux_core.errors import StartupError
from inferflux_core.models.folder.tokenizing import HfTokenizer
from inferflux_runner_torch.adapters import Adapters
from inferflux_runner_torch.cache import PagedCache
from inferflux_runner_torch.decoder import Decoder
from inferflux_runner_torch.embedding import DecoderEmbedder
from inferflux_runner_torch.ops import Ops
from inferflux_runner_torch.passes import Numbered, plan_passes

__all__ = ["TorchRunner"]

_MAX_LOGITS: Final = 128
"""Rows of logits of a pass; with 260,000 tokens in the vocabulary they take 130 MiB."""
_PROBE_TOKENS: Final = 5


class TorchRunner:
    """One loaded model and what it remembers of its sequences.

    Args:
        decoder: the model.
        ops: that it computes with.
        cache: of its sequences.
        capabilities: of both.
        tokenizer: of the model.
        adapters: that rows may ask for.
        embedder: of the same model.
        max_rows: tokens of a pass.
        measure: measures what passes cost; called once, when the kernels have run.
    """

    def __init__(
        self,
        decoder: Decoder,
        ops: Ops,
        cache: PagedCache,
        capabilities: RunnerCapabilities,
        tokenizer: HfTokenizer,
        *,
        adapters: Adapters,
        embedder: DecoderEmbedder | None = None,
        max_rows: int,
        measure: Callable[[TorchRunner], CostModel] | None = None,
    ) -> None:
        self.capabilities = replace(capabilities, embeds=embedder is not None)
        self.tokenizer = tokenizer
        self._model: tuple[Decoder, PagedCache] | None = (decoder, cache)
        self._ops = ops
        self._adapters = adapters
        self._embedder = embedder
        self._max_rows = max_rows
        self._measure = measure

    def warm_up(self) -> None:
        """Compute a little, and measure what passes cost.

        Raises:
            StartupError: the kernels run and produce nonsense.
        """
        tokens = self.tokenizer.encode("a", add_special=False, parse_special=False)[:1] or [0]
        for output in self.execute([Work(0, 0, tokens * _PROBE_TOKENS)]):
            if not np.isfinite(output.logits).all() or np.ptp(output.logits) == 0:
                raise StartupError(
                    "the start-up probe computed meaningless logits",
                    hint="the model's files are damaged: download them again",
                )
        self.release(0)
        if self._measure is not None:
            self.capabilities = replace(self.capabilities, cost=self._measure(self))

    def execute(self, batch: Sequence[Work]) -> Iterator[ModelOutput]:
        """Compute prompts and single tokens together, in as few passes as possible.

        Raises:
            RunnerError: torch failed.
        """
        for members in plan_passes(batch, self._max_rows, _MAX_LOGITS):
            logits = self._compute(members)
            if logits is not None:
                indices = [i for i, work in members for _ in range(work.num_logits)]
                yield ModelOutput(indices, logits)

    def release(self, slot: int) -> None:
        """Forget a sequence."""
        self._cache.release(slot)

    def truncate(self, slot: int, length: int) -> None:
        """Forget a sequence's tokens from position `length` on."""
        self._cache.truncate(slot, length)

    def share(self, slot: int, to: int, length: int) -> bool:
        """Let an empty slot hold the first tokens of a sequence too; see `PrefixSharer`."""
        if self._cache.length(slot) < length:
            return False
        self._cache.share(slot, to, length)
        return True

    def copy(self, slot: int, to: int) -> None:
        """Fill an empty slot with a copy of a sequence."""
        self._cache.share(slot, to, self._cache.length(slot))

    def export_state(self, slot: int, bounds: Sequence[int]) -> list[bytes]:
        """Copy keys and values out of a sequence: `[layers, 2, tokens, heads, head]` in each piece."""
        cache = self._cache
        cells = cache.cells(slot, bounds[0], bounds[-1])
        layers = [torch.stack(self._ops.read(layer, cells)) for layer in cache.layers]
        state = torch.stack(layers).cpu()
        first = bounds[0]
        return [
            _to_bytes(state[:, :, low - first : high - first]) for low, high in pairwise(bounds)
        ]

    def import_state(self, slot: int, pieces: Sequence[bytes], bounds: Sequence[int]) -> None:
        """Fill an empty slot with pieces that were exported.

        Raises:
            RunnerError: they are not of this model.
        """
        cache = self._cache
        state = self._from_bytes(pieces, bounds)
        cache.reserve(slot, bounds[-1])
        cells = cache.cells(slot, bounds[0], bounds[-1])
        for layer, stored in zip(cache.layers, state, strict=True):
            self._ops.write(layer, cells, *stored.to(self._ops.device))

    def load_adapter(self, path: Path) -> int:
        """Load a LoRA adapter; returns its handle.

        Raises:
            InvalidRequestError: it is damaged, or was made for another model.
        """
        return self._adapters.load(path)

    def free_adapter(self, handle: int) -> None:
        """Free an adapter that no sequence uses any more."""
        self._adapters.free(handle)

    @property
    def max_embedding_tokens(self) -> int:
        """Tokens an input may have."""
        assert self._embedder is not None
        return self._embedder.max_tokens

    def pair(self, query: str, document: str) -> list[int]:
        """A query and a document as one input."""
        return self.tokenizer.encode_pair(query, document)

    def embed(self, inputs: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
        """See `Embedder`."""
        assert self._embedder is not None
        return self._embedder.embed(inputs)

    def close(self) -> None:
        """Free the model."""
        if self._embedder is not None:
            self._embedder.close()
        self._model = None

    @property
    def _cache(self) -> PagedCache:
        assert self._model is not None, "the runner is closed"
        return self._model[1]

    @torch.inference_mode()
    def _compute(self, members: Sequence[Numbered]) -> NDArray[np.float32] | None:
        assert self._model is not None, "the runner is closed"
        decoder, cache = self._model
        works = [work for _, work in members]
        lora = self._adapters.plan([(work.adapters, len(work.token_ids)) for work in works])
        rows = cache.append(works)
        token_ids = torch.tensor([token for work in works for token in work.token_ids])
        try:
            hidden = decoder.hidden(token_ids.to(self._ops.device), rows, cache.layers, lora)
            wanted = _wanted(works)
            if not wanted:
                return None
            chosen = hidden[torch.tensor(wanted, device=self._ops.device)]
            logits: NDArray[np.float32] = decoder.logits(chosen).cpu().numpy()
        except RuntimeError as error:
            raise RunnerError(f"torch failed: {error}") from error
        return logits

    def _from_bytes(self, pieces: Sequence[bytes], bounds: Sequence[int]) -> torch.Tensor:
        """`[layers, 2, tokens, heads, head]` of all pieces together."""
        layers = self._cache.layers
        probe = self._ops.read(layers[0], self._cache.cells(0, 0, 0))[0]
        row_bytes = math.prod(probe.shape[1:]) * probe.itemsize
        parts = []
        for piece, (low, high) in zip(pieces, pairwise(bounds), strict=True):
            if len(piece) != len(layers) * 2 * (high - low) * row_bytes:
                raise RunnerError("a piece of keys and values has the wrong size")
            words = np.frombuffer(piece, np.uint8)
            parts.append(words.reshape(len(layers), 2, high - low, row_bytes))
        state = torch.from_numpy(np.concatenate(parts, axis=2))
        return state.view(probe.dtype).view(len(layers), 2, -1, *probe.shape[1:])


def _wanted(works: Sequence[Work]) -> list[int]:
    """Rows whose logits are wanted."""
    wanted: list[int] = []
    end = 0
    for work in works:
        end += len(work.token_ids)
        wanted += range(end - work.num_logits, end)
    return wanted


def _to_bytes(state: torch.Tensor) -> bytes:
    return state.contiguous().view(torch.uint8).numpy().tobytes()
