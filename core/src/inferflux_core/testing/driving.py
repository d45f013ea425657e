"""Driving a runner by hand, as the engine would."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from inferflux_core.engine.runner import DraftVerifier, ModelOutput, ModelRunner, SlotMover, Work

__all__ = ["Driver", "assert_same_choice"]

Row = NDArray[np.float32]


class Driver:
    """Keeps count of positions, and checks every output of a runner against its contract."""

    def __init__(self, runner: ModelRunner) -> None:
        self.runner = runner
        self._lengths: dict[int, int] = {}

    def encode(self, text: str) -> list[int]:
        """The tokens of a prompt, at most half a context of them."""
        token_ids = self.runner.tokenizer.encode(text, add_special=True, parse_special=False)
        return token_ids[: self.runner.capabilities.max_model_len // 2]

    def compute(
        self, tokens: Mapping[int, Sequence[int]], *, quiet: Collection[int] = ()
    ) -> dict[int, Row]:
        """Execute one batch.

        Args:
            tokens: what to append to which slot.
            quiet: slots whose logits are not wanted.

        Returns:
            A copy of the logits `[vocab_size]` of every other slot.
        """
        wanted = {slot: int(slot not in quiet) for slot in tokens}
        rows = self.compute_rows(tokens, wanted)
        return {slot: rows[slot][0] for slot in tokens if wanted[slot]}

    def compute_rows(
        self, tokens: Mapping[int, Sequence[int]], num_logits: Mapping[int, int]
    ) -> dict[int, list[Row]]:
        """Execute one batch; returns copies of the logits after the last `num_logits` tokens of each slot."""
        batch = [
            Work(slot, self._lengths.get(slot, 0), list(token_ids), num_logits[slot])
            for slot, token_ids in tokens.items()
        ]
        for slot, token_ids in tokens.items():
            self._lengths[slot] = self._lengths.get(slot, 0) + len(token_ids)
        rows: dict[int, list[Row]] = {slot: [] for slot in tokens}
        for output in self.runner.execute(batch):
            self._check(output, batch)
            for index, row in zip(output.indices, output.logits, strict=True):
                rows[batch[index].slot].append(row.copy())
            # Samplers overwrite logits; a runner that counts on them shows itself in later steps.
            output.logits[...] = np.nan
        counts = {slot: len(found) for slot, found in rows.items()}
        assert counts == dict(num_logits), f"rows of logits by slot: {counts}, wanted {num_logits}"
        return rows

    def truncate(self, slot: int, length: int) -> None:
        """Take back a slot's tokens from `length` on."""
        cast("DraftVerifier", self.runner).truncate(slot, length)
        self._lengths[slot] = length

    def move(self, slot: int, to: int) -> None:
        """Carry a slot's sequence over to an empty one."""
        cast("SlotMover", self.runner).move(slot, to)
        self._lengths[to] = self._lengths.pop(slot)

    def append(self, slot: int, token_ids: Sequence[int], *, chunk: int | None = None) -> Row:
        """Append tokens to one slot, all at once or in chunks; returns the logits after the last."""
        size = chunk or len(token_ids)
        last = (len(token_ids) - 1) // size * size
        for start in range(0, last, size):
            self.compute({slot: token_ids[start : start + size]}, quiet={slot})
        return self.compute({slot: token_ids[last:]})[slot]

    def resume(self, slot: int, position: int, token_ids: Sequence[int]) -> Row:
        """As `append`, in a slot that has been filled with `position` tokens from elsewhere."""
        self._lengths[slot] = position
        return self.append(slot, token_ids)

    def rows(self, slot: int, prompt: Sequence[int], answer: Sequence[int]) -> list[Row]:
        """The logits after a prompt, and after each token of a given answer to it."""
        return [self.append(slot, prompt), *(self.append(slot, [token]) for token in answer)]

    def generate(self, slot: int, prompt: Sequence[int], count: int) -> list[int]:
        """The most probable answer to a prompt, token by token."""
        answer = [int(self.append(slot, prompt).argmax())]
        while len(answer) < count:
            answer.append(int(self.append(slot, answer[-1:]).argmax()))
        return answer

    def release(self, slot: int) -> None:
        """Empty one slot."""
        self.runner.release(slot)
        del self._lengths[slot]

    def release_all(self) -> None:
        """Empty every slot that was used."""
        for slot in list(self._lengths):
            self.release(slot)

    def _check(self, output: ModelOutput, batch: Sequence[Work]) -> None:
        assert not output.failed, f"works {output.failed} failed: {output.error}"
        assert all(batch[index].num_logits for index in output.indices), "unwanted logits"
        at_once = self.runner.capabilities.max_draft_tokens + 1
        for index in set(output.indices):
            wanted, got = batch[index].num_logits, list(output.indices).count(index)
            assert got == wanted or wanted > at_once, f"{got} of {wanted} rows of work {index}"
        if output.indices:
            vocab_size = self.runner.capabilities.vocab_size
            assert output.logits.dtype == np.float32
            assert output.logits.shape == (len(output.indices), vocab_size)
            assert output.logits.flags.writeable, "logits must be writable"
            assert np.isfinite(output.logits).all(), "logits must be finite"


def assert_same_choice(row: Row, reference: Row, near_tie: float) -> None:
    """Assert that two rows choose the same token, or one that is nearly as probable.

    Args:
        row: logits `[vocab_size]`.
        reference: what they should be.
        near_tie: how much less the reference may think of the other token, in logits.
    """
    chosen, expected = int(row.argmax()), int(reference.argmax())
    gap = float(reference[expected] - reference[chosen])
    assert gap <= near_tie, (
        f"chose token {chosen}, not {expected}; its logit is {gap:.4f} lower, near_tie is {near_tie}"
    )
