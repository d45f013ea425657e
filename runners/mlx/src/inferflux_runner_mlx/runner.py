"""Executes batches of the engine on a model of mlx_lm."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from inferflux_core.engine.cost import CostModel
from inferflux_core.engine.runner import (
    ModelOutput,
    RunnerCapabilities,
    RunnerError,
    Tokenizer,
    Work,
)
from inferflux_core.errors import StartupError
from inferflux_runner_mlx.sequences import LoneSequences, SlotSequences

__all__ = ["MlxRunner"]

_MOST_ROWS: Final = 256
"""Rows of logits of a pass, idle slots included; with 150,000 tokens in the vocabulary, 150 MiB."""
_PROBE_TOKENS: Final = 5

Numbered = tuple[int, Work]
"""A work, or a part of one, and the position of the work in the batch."""


class MlxRunner:
    """One loaded model and what it remembers of its sequences.

    Args:
        sequences: of the model.
        capabilities: of both.
        tokenizer: of the model.
        measure: measures what passes cost; called once, when the kernels have run.
    """

    def __init__(
        self,
        sequences: SlotSequences | LoneSequences,
        capabilities: RunnerCapabilities,
        tokenizer: Tokenizer,
        *,
        measure: Callable[[MlxRunner], CostModel] | None = None,
    ) -> None:
        self.capabilities = capabilities
        self.tokenizer = tokenizer
        self._sequences: SlotSequences | LoneSequences | None = sequences
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
        """Compute what is short first, sequences with equally many tokens together, then prompts.

        Of a prompt, the head of the model is run over those tokens only whose logits are wanted; those of
        several prompts are computed together.
        """
        longest = self.capabilities.max_draft_tokens + 1
        works = list(enumerate(batch))
        if any(work.adapters for work in batch):
            raise RunnerError("this runner was loaded without support for adapters")
        short = [(i, work) for i, work in works if len(work.token_ids) <= longest]
        yield from self._in_passes(short)
        ends: list[Numbered] = []
        for index, work in works:
            if len(work.token_ids) > longest:
                body = len(work.token_ids) - work.num_logits
                if body:
                    self._compute([replace(work, token_ids=work.token_ids[:body], num_logits=0)])
                ends += _pieces(index, work, body)
        yield from self._in_passes(ends)

    def release(self, slot: int) -> None:
        """Forget a sequence."""
        self._open.release(slot)

    def truncate(self, slot: int, length: int) -> None:
        """Forget a sequence's tokens from position `length` on."""
        # Nothing to do: nobody reads cells behind a sequence's end, and new tokens overwrite them.

    def move(self, slot: int, to: int) -> None:
        """Carry a sequence over to an empty slot."""
        self.copy(slot, to)
        self.release(slot)

    def copy(self, slot: int, to: int) -> None:
        """Fill an empty slot with a copy of a sequence; see `move`."""
        self._slots.copy(slot, to)

    def export_state(self, slot: int, bounds: Sequence[int]) -> list[bytes]:
        """Copy keys and values out of a sequence, in pieces."""
        return self._slots.export(slot, bounds)

    def import_state(self, slot: int, pieces: Sequence[bytes], bounds: Sequence[int]) -> None:
        """Fill an empty slot with pieces that were exported."""
        self._slots.restore(slot, pieces, bounds)

    def close(self) -> None:
        """Free the model."""
        self._sequences = None
        mx.clear_cache()

    @property
    def _open(self) -> SlotSequences | LoneSequences:
        assert self._sequences is not None, "the runner is closed"
        return self._sequences

    @property
    def _slots(self) -> SlotSequences:
        assert isinstance(self._sequences, SlotSequences), "see `capabilities`"
        return self._sequences

    def _in_passes(self, works: Sequence[Numbered]) -> Iterator[ModelOutput]:
        """Works with equal numbers of tokens together, those with the fewest first."""
        counts = sorted({len(work.token_ids) for _, work in works})
        for count in counts:
            alike = [(i, work) for i, work in works if len(work.token_ids) == count]
            # Neighbours together: a pass computes all slots between its first and its last one.
            alike.sort(key=lambda numbered: (numbered[1].slot, numbered[1].position))
            for members in _runs(alike, max(1, _MOST_ROWS // count)):
                logits = self._compute([work for _, work in members])
                if logits is not None:
                    indices = [i for i, work in members for _ in range(work.num_logits)]
                    yield ModelOutput(indices, logits)

    def _compute(self, works: Sequence[Work]) -> NDArray[np.float32] | None:
        try:
            logits = self._open.compute(works)
        except Exception as error:
            raise RunnerError(f"MLX failed: {error}") from error
        # A view: nobody else uses what was just computed.
        return None if logits is None else np.asarray(logits)


def _pieces(index: int, work: Work, start: int) -> Iterator[Numbered]:
    """The end of a work from a token on, all of it with logits, in pieces that fit into a pass.

    Only the first one may be shorter: passes are in the order of lengths.
    """
    end = len(work.token_ids)
    while start < end:
        count = (end - start) % _MOST_ROWS or _MOST_ROWS
        tokens = work.token_ids[start : start + count]
        yield (
            index,
            replace(work, position=work.position + start, token_ids=tokens, num_logits=count),
        )
        start += count


def _runs(works: Sequence[Numbered], most: int) -> Iterator[list[Numbered]]:
    """Works of different slots that are at most `most` apart, in the order of slots."""
    run: list[Numbered] = []
    for numbered in works:
        slot = numbered[1].slot
        if run and (run[-1][1].slot == slot or slot - run[0][1].slot >= most):
            yield run
            run = []
        run.append(numbered)
    if run:
        yield run
