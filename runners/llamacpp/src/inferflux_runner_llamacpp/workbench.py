"""A model's weights in every form that is tried, each loaded once."""

from __future__ import annotations

from pathlib import Path

import llama_cpp

from inferflux_core.engine.context_size import ContextSize
from inferflux_runner_llamacpp.context import ContextSettings, open_model, open_runner
from inferflux_runner_llamacpp.measurements import Choice
from inferflux_runner_llamacpp.runner import LlamaRunner
from inferflux_runner_llamacpp.tuning import TRIAL_LEN, TRIAL_SEQS
from inferflux_runner_llamacpp.weights import expand

__all__ = ["Workbench"]


class Workbench:
    """Opens models, and closes those that nobody takes.

    Args:
        path: the model's file.
        threads: for conversions.
        gpu_layers: layers on the device; -1 is all.
    """

    def __init__(self, path: Path, threads: int, gpu_layers: int) -> None:
        self._path = path
        self._threads = threads
        self._gpu_layers = gpu_layers
        self._models: dict[str, llama_cpp.llama_model_p] = {}

    def open_trial(self, choice: Choice) -> LlamaRunner:
        """A small runner as chosen; the bench keeps its weights.

        Raises:
            ModelLoadError: llama.cpp refuses.
        """
        settings = ContextSettings(
            size=ContextSize(TRIAL_SEQS, TRIAL_LEN), choice=choice, gpu_layers=self._gpu_layers
        )
        return open_runner(self._model(choice.weights), settings, owns_model=False)

    def take(self, weights: str) -> llama_cpp.llama_model_p:
        """Weights that the caller closes from now on.

        Raises:
            ModelLoadError: llama.cpp refuses.
        """
        model = self._model(weights)
        del self._models[weights]
        return model

    def close(self) -> None:
        """Close what was not taken."""
        while self._models:
            llama_cpp.llama_model_free(self._models.popitem()[1])

    def _model(self, weights: str) -> llama_cpp.llama_model_p:
        if weights not in self._models:
            original = weights == "original"
            path = self._path if original else expand(self._path, weights, self._threads)
            self._models[weights] = open_model(path, self._gpu_layers)
        return self._models[weights]
