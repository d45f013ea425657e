"""Models that were made to embed or to rank, and generate nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from inferflux_core.config.schema import RuntimeConfig
from inferflux_core.engine.embedding_passes import input_limit
from inferflux_core.engine.runner import ModelOutput, RunnerCapabilities, RunnerError, Work
from inferflux_core.errors import StartupError
from inferflux_gguf.check import GGUFSummary
from inferflux_runner_llamacpp.context import open_model
from inferflux_runner_llamacpp.embedding import EmbedderSettings, LlamaEmbedder
from inferflux_runner_llamacpp.memory import drop_zero_pages
from inferflux_runner_llamacpp.tokenizer import LlamaTokenizer
from inferflux_runner_llamacpp.weights import expand

__all__ = ["EncoderRunner", "load_encoder"]


def load_encoder(
    path: Path,
    summary: GGUFSummary,
    runtime: RuntimeConfig,
    *,
    threads: int,
    gpu_layers: int,
    details: Mapping[str, str],
) -> EncoderRunner:
    """Load a checked GGUF file whose model only embeds or ranks.

    Raises:
        ModelLoadError: llama.cpp refuses it.
    """
    settings = EmbedderSettings(
        pooling=summary.pooling or "mean",
        causal=summary.causal,
        max_tokens=input_limit(runtime.max_model_len, summary.context_length),
        threads=threads,
    )
    # Only as configured: that other weights are faster was never measured for such models.
    weights = "original" if runtime.weights == "auto" else runtime.weights
    file = path if weights == "original" else expand(path, weights, threads)
    device = f"CPU, {threads} threads" if gpu_layers == 0 else "llama.cpp device"
    described = {
        "architecture": summary.architecture,
        "quantization": summary.quantization,
        "weights": weights,
        **details,
    }
    return EncoderRunner(open_model(file, gpu_layers), settings, device, described)


class EncoderRunner:
    """One loaded model, and a context that embeds.

    Args:
        model: handle from `llama_model_load_from_file`; owned by the runner from now on.
        settings: how to embed.
        device: what executes the model, for people.
        details: what was chosen at load time.
    """

    def __init__(
        self,
        model: llama_cpp.llama_model_p,
        settings: EmbedderSettings,
        device: str,
        details: dict[str, str],
    ) -> None:
        self.tokenizer = LlamaTokenizer(model)
        self._model: llama_cpp.llama_model_p | None = model
        self._embedder = LlamaEmbedder(model, settings)
        self.capabilities = RunnerCapabilities(
            vocab_size=self.tokenizer.vocab_size,
            max_num_seqs=1,
            max_model_len=settings.max_tokens,
            embeds=True,
            ranks=settings.pooling == "rank",
            generates=False,
            device=device,
            details={"runner": "llamacpp", "pooling": settings.pooling, **details},
        )

    @property
    def max_embedding_tokens(self) -> int:
        """Tokens an input may have."""
        return self._embedder.max_tokens

    def warm_up(self) -> None:
        """Embed the longest input there may be, so that all memory is taken that ever will be.

        Raises:
            StartupError: the kernels run and produce nonsense.
        """
        token = next(iter(self.tokenizer.encode("a", add_special=False, parse_special=False)), 0)
        for vectors in self.embed([[token] * self.max_embedding_tokens]):
            if not np.isfinite(vectors).all() or (vectors.size and not vectors.any()):
                raise StartupError(
                    "the start-up probe computed a meaningless embedding",
                    hint="the model file is damaged, or llama-cpp-python was built for another CPU; "
                    "rebuild it on this machine",
                )
        # llama.cpp keeps, and clears, room for logits that encoders never write.
        drop_zero_pages()

    def execute(self, batch: Sequence[Work]) -> Iterator[ModelOutput]:
        """Never called: requests to generate are refused before.

        Raises:
            RunnerError: always.
        """
        raise RunnerError("this model generates nothing")

    def release(self, slot: int) -> None:
        """There are no sequences."""

    def embed(self, inputs: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
        """See `Embedder`."""
        return self._embedder.embed(inputs)

    def pair(self, query: str, document: str) -> list[int]:
        """See `Embedder`."""
        return self.tokenizer.encode_pair(query, document)

    def close(self) -> None:
        """Free context and model."""
        if self._model is not None:
            self._embedder.close()
            llama_cpp.llama_model_free(self._model)
            self._model = None
