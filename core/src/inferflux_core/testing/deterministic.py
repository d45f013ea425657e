"""A model without weights whose answer depends on every token it has seen, and on nothing else."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from inferflux_core.backends.byte_tokenizer import ByteTokenizer
from inferflux_core.engine.runner import ModelOutput, RunnerCapabilities, Work

__all__ = ["DeterministicRunner"]

_MASK = (1 << 64) - 1
_PRIME = 0x100000001B3  # FNV-1a, 64 bit
_BASIS = 0xCBF29CE484222325


class DeterministicRunner:
    """Logits are a hash of the sequence so far, whatever the batch around it.

    It also checks what the engine owes a runner: positions that follow on, tokens within the
    vocabulary, slots that were released before they are used anew.

    Args:
        max_num_seqs: number of slots.
        max_model_len: tokens a slot can hold.
        prefill_quantum: as in `RunnerCapabilities`.
        rows_per_pass: split batches into passes of this many works, to resemble real devices.
    """

    def __init__(
        self,
        max_num_seqs: int = 8,
        max_model_len: int = 256,
        prefill_quantum: int = 1,
        rows_per_pass: int = 3,
    ) -> None:
        self.tokenizer = ByteTokenizer()
        self.capabilities = RunnerCapabilities(
            vocab_size=self.tokenizer.vocab_size,
            max_num_seqs=max_num_seqs,
            max_model_len=max_model_len,
            prefill_quantum=prefill_quantum,
            exports_state=True,
            device="deterministic",
        )
        self._rows_per_pass = rows_per_pass
        # The hash after every token: what a real runner's keys and values are, in eight bytes.
        self._states: dict[int, list[int]] = {}
        self.num_computed_tokens = 0

    def warm_up(self) -> None:
        """Nothing to warm."""

    def execute(self, batch: Sequence[Work]) -> Iterator[ModelOutput]:
        """Compute the batch a few works at a time."""
        for start in range(0, len(batch), self._rows_per_pass):
            indices = []
            rows = []
            for index in range(start, min(start + self._rows_per_pass, len(batch))):
                state = self._advance(batch[index])
                if batch[index].wants_logits:
                    indices.append(index)
                    rows.append(self.logits(state))
            yield ModelOutput(indices, np.array(rows, np.float32))

    def release(self, slot: int) -> None:
        """Forget a sequence."""
        self._states.pop(slot, None)

    def export_blocks(self, slot: int, first: int, count: int, block_size: int) -> list[bytes]:
        """The hashes of each block's tokens."""
        states = self._states[slot]
        assert len(states) >= (first + count) * block_size, "blocks that are not computed yet"
        return [
            array("Q", states[start : start + block_size]).tobytes()
            for start in range(first * block_size, (first + count) * block_size, block_size)
        ]

    def import_blocks(self, slot: int, blocks: Sequence[bytes], block_size: int) -> None:
        """Continue from the last hash."""
        assert slot not in self._states, f"slot {slot} is not empty"
        states = array("Q", b"".join(blocks))
        assert len(states) == len(blocks) * block_size, "incomplete blocks"
        self._states[slot] = list(states)

    def close(self) -> None:
        """Nothing to free."""

    def logits(self, state: int) -> NDArray[np.float32]:
        """Logits `[vocab_size]` after the sequence that hashes to `state`."""
        generator = np.random.default_rng(state)
        return generator.standard_normal(self.capabilities.vocab_size, np.float32) * 4

    def continuation(self, token_ids: Sequence[int], count: int) -> list[int]:
        """What greedy decoding yields after `token_ids`, one token at a time and without a batch."""
        state = _BASIS
        for token_id in token_ids:
            state = _mix(state, token_id)
        output: list[int] = []
        for _ in range(count):
            output.append(int(self.logits(state).argmax()))
            state = _mix(state, output[-1])
        return output

    def _advance(self, work: Work) -> int:
        states = self._states.setdefault(work.slot, [])
        assert 0 <= work.slot < self.capabilities.max_num_seqs, f"no slot {work.slot}"
        assert work.position == len(states), f"slot {work.slot} holds {len(states)} tokens"
        assert work.token_ids, "empty work"
        for token_id in work.token_ids:
            assert 0 <= token_id < self.capabilities.vocab_size, f"no token {token_id}"
            states.append(_mix(states[-1] if states else _BASIS, token_id))
        self.num_computed_tokens += len(work.token_ids)
        assert len(states) <= self.capabilities.max_model_len, "context overflow"
        return states[-1]


def _mix(state: int, token_id: int) -> int:
    return ((state ^ (token_id + 1)) * _PRIME) & _MASK
