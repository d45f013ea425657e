"""Executes an encoder: a model that embeds or ranks, and generates nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inferflux_core.engine.embedding_passes import PASS_TOKENS, share_passes
from inferflux_core.engine.runner import ModelOutput, RunnerCapabilities, RunnerError, Work
from inferflux_core.errors import StartupError
from inferflux_core.models.folder.tokenizing import HfTokenizer
from inferflux_runner_torch.encoder.config import EncoderConfig
from inferflux_runner_torch.encoder.encoder import Encoder
from inferflux_runner_torch.ops import Ops
from inferflux_runner_torch.pooling import Pool
from inferflux_runner_torch.sentences import SentenceSettings

__all__ = ["EncoderRunner"]


class EncoderRunner:
    """One loaded model.

    Args:
        encoder: the model.
        config: of the model.
        ops: that it computes with.
        settings: how to embed; models that rank do not.
        capabilities: of the model; `max_model_len` is what an input may have.
        tokenizer: of the model.
    """

    def __init__(
        self,
        encoder: Encoder,
        config: EncoderConfig,
        ops: Ops,
        settings: SentenceSettings,
        capabilities: RunnerCapabilities,
        tokenizer: HfTokenizer,
    ) -> None:
        self.capabilities = capabilities
        self.tokenizer = tokenizer
        self._encoder: Encoder | None = encoder
        self._ops = ops
        self._config = config
        self._settings = settings

    @property
    def max_embedding_tokens(self) -> int:
        """Tokens an input may have."""
        return self.capabilities.max_model_len

    def warm_up(self) -> None:
        """Embed the longest input there may be, so that all memory is taken that ever will be.

        Raises:
            StartupError: the kernels run and produce nonsense.
        """
        token = next(iter(self.tokenizer.encode("a", add_special=False, parse_special=False)), 0)
        vectors = self._embed([[token] * self.max_embedding_tokens])
        if not np.isfinite(vectors).all() or not vectors.any():
            raise StartupError(
                "the start-up probe computed a meaningless embedding",
                hint="the model's files are damaged: download them again",
            )

    def execute(self, batch: Sequence[Work]) -> Iterator[ModelOutput]:
        """Never called: requests to generate are refused before.

        Raises:
            RunnerError: always.
        """
        raise RunnerError("this model generates nothing")

    def release(self, slot: int) -> None:
        """There are no sequences."""

    def pair(self, query: str, document: str) -> list[int]:
        """See `Embedder`."""
        return self.tokenizer.encode_pair(query, document)

    def embed(self, inputs: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
        """See `Embedder`.

        Raises:
            RunnerError: torch failed.
        """
        for group in share_passes(inputs, max(PASS_TOKENS, self.max_embedding_tokens)):
            yield self._embed(group)

    def close(self) -> None:
        """Free the model."""
        self._encoder = None

    @torch.inference_mode()
    def _embed(self, inputs: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        assert self._encoder is not None, "the runner is closed"
        try:
            texts = self._states(self._encoder, inputs)
            if self._config.ranks:
                first = torch.stack([states[0] for states in texts])
                scores: NDArray[np.float32] = self._encoder.scores(first).cpu().numpy()
                return scores
            return self._pooled(texts)
        except RuntimeError as error:
            raise RunnerError(f"torch failed: {error}") from error

    def _states(self, encoder: Encoder, inputs: Sequence[Sequence[int]]) -> Sequence[Tensor]:
        """Of each input's tokens: `[tokens, width]`."""
        device, lengths = self._ops.device, [len(ids) for ids in inputs]
        token_ids = torch.tensor([token for ids in inputs for token in ids])
        types = torch.tensor([kind for ids in inputs for kind in self._types(ids)])
        states = encoder.states(token_ids.to(device), types.to(device), lengths)
        return torch.split(states, lengths)

    def _pooled(self, texts: Sequence[Tensor]) -> NDArray[np.float32]:
        lengths = [len(states) for states in texts]
        pool = Pool(self._settings.pooling, lengths, self._config.width, self._ops.device)
        for number, states in enumerate(texts):
            pool.add(number, 0, states)
        return pool.vectors(normalised=self._settings.normalised)

    def _types(self, ids: Sequence[int]) -> list[int]:
        """0 for a single text, and the first one of a pair; 1 for the second.

        What is between them occurs in neither, as control tokens in texts are read as text.
        """
        frame, config = self.tokenizer.pair_frame, self._config
        told = config.ranks and config.types > 1
        if not told or frame is None or frame.between[0] not in ids:
            return [0] * len(ids)
        first = ids.index(frame.between[0]) + len(frame.between)
        return [0] * first + [1] * (len(ids) - first)
