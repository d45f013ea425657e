"""The `stub` backend: no model, one friendly line, the whole path from HTTP to engine and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from inferflux_core.backends.byte_tokenizer import EOS_ID, ByteTokenizer
from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.engine.runner import ModelOutput, RunnerCapabilities, Work
from inferflux_core.hookspecs import hookimpl
from inferflux_core.specs import BackendSpec, Probe

__all__ = ["LINE", "StubRunner"]

LINE = (
    "Hello from the InferFlux stub backend: no model is loaded, so this is a canned answer. "
    "Set model.path in the configuration, or INFERFLUX_MODEL_PATH, to serve a real one."
)
_ANSWER = [*LINE.encode(), EOS_ID]


class StubRunner:
    """Answers every prompt with `LINE`, byte by byte, over and over when told to ignore its end."""

    def __init__(self, max_num_seqs: int, max_model_len: int) -> None:
        self.tokenizer = ByteTokenizer()
        self.capabilities = RunnerCapabilities(
            vocab_size=self.tokenizer.vocab_size,
            max_num_seqs=max_num_seqs,
            max_model_len=max_model_len,
            device="stub (no model)",
        )
        self._answered: dict[int, int] = {}

    def warm_up(self) -> None:
        """Nothing to warm."""

    def execute(self, batch: Sequence[Work]) -> Iterator[ModelOutput]:
        """One pass: the next byte of the line for every sequence whose prompt is complete."""
        indices = [i for i, work in enumerate(batch) for _ in range(work.num_logits)]
        logits = np.zeros((len(indices), self.capabilities.vocab_size), np.float32)
        for row, index in enumerate(indices):
            slot = batch[index].slot
            answered = self._answered.get(slot, 0)
            logits[row, _ANSWER[answered % len(_ANSWER)]] = 100.0
            self._answered[slot] = answered + 1
        yield ModelOutput(indices, logits)

    def release(self, slot: int) -> None:
        """Start the line anew for the next request in this slot."""
        self._answered.pop(slot, None)

    def close(self) -> None:
        """Nothing to free."""


def _load(model: ModelConfig, runtime: RuntimeConfig) -> StubRunner:
    del model
    return StubRunner(runtime.max_num_seqs or 32, runtime.max_model_len or 8192)


@hookimpl
def inferflux_backends() -> Iterable[BackendSpec]:
    """Declare `stub`."""
    yield BackendSpec(
        name="stub",
        summary="No model: answers every request with a fixed line",
        probe=lambda: Probe(available=True, reason="always available; answers are canned"),
        factory=_load,
        needs_model=False,
    )
