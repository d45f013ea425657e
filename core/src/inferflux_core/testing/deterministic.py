"""A model without weights whose answer depends on every token it has seen, and on nothing else."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from inferflux_core.backends.byte_tokenizer import ByteTokenizer
from inferflux_core.engine.cost import CostModel
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
        max_draft_tokens: as in `RunnerCapabilities`.
        uniform_rows: as in `RunnerCapabilities`.
        shares_prefixes: as in `RunnerCapabilities`.
        cost: as in `RunnerCapabilities`.
        rows_per_pass: split batches into passes of this many works, to resemble real devices.
    """

    def __init__(
        self,
        max_num_seqs: int = 8,
        max_model_len: int = 256,
        prefill_quantum: int = 1,
        rows_per_pass: int = 3,
        max_draft_tokens: int = 8,
        uniform_rows: bool = False,
        shares_prefixes: bool = False,
        cost: CostModel | None = None,
    ) -> None:
        self.tokenizer = ByteTokenizer()
        self.capabilities = RunnerCapabilities(
            vocab_size=self.tokenizer.vocab_size,
            max_num_seqs=max_num_seqs,
            max_model_len=max_model_len,
            prefill_quantum=prefill_quantum,
            max_draft_tokens=max_draft_tokens,
            uniform_rows=uniform_rows,
            contiguous_slots=True,
            shares_prefixes=shares_prefixes,
            cost=cost,
            exports_state=True,
            state_fingerprint="deterministic",
            device="deterministic",
        )
        self._rows_per_pass = rows_per_pass
        # The hash after every token: what a real runner's keys and values are, in eight bytes.
        self._states: dict[int, list[int]] = {}
        self.num_computed_tokens = 0
        self.num_shared_tokens = 0

    def warm_up(self) -> None:
        """Nothing to warm."""

    def execute(self, batch: Sequence[Work]) -> Iterator[ModelOutput]:
        """Compute the batch a few works at a time."""
        for start in range(0, len(batch), self._rows_per_pass):
            indices = []
            rows = []
            for index in range(start, min(start + self._rows_per_pass, len(batch))):
                states = self._advance(batch[index])
                wanted = states[len(states) - batch[index].num_logits :]
                indices += [index] * len(wanted)
                rows += [self.logits(state) for state in wanted]
            yield ModelOutput(indices, np.array(rows, np.float32))

    def truncate(self, slot: int, length: int) -> None:
        """Forget tokens from `length` on."""
        assert 0 < length <= len(self._states[slot]), "nothing to forget"
        del self._states[slot][length:]

    def move(self, slot: int, to: int) -> None:
        """Carry a sequence over."""
        assert to not in self._states, f"slot {to} is not empty"
        self._states[to] = self._states.pop(slot)

    def share(self, slot: int, to: int, length: int) -> bool:
        """Copy the hashes."""
        assert to not in self._states, f"slot {to} is not empty"
        if len(self._states.get(slot, ())) < length:
            return False
        self._states[to] = self._states[slot][:length]
        self.num_shared_tokens += length
        return True

    def release(self, slot: int) -> None:
        """Forget a sequence."""
        self._states.pop(slot, None)

    def export_state(self, slot: int, bounds: Sequence[int]) -> list[bytes]:
        """The hashes of each piece's tokens."""
        states = self._states[slot]
        assert len(states) >= bounds[-1], "tokens that are not computed yet"
        return [array("Q", states[low:high]).tobytes() for low, high in pairwise(bounds)]

    def import_state(self, slot: int, pieces: Sequence[bytes], bounds: Sequence[int]) -> None:
        """Continue from the last hash."""
        assert slot not in self._states, f"slot {slot} is not empty"
        assert bounds[0] == 0, "a prefix begins at the beginning"
        for piece, (low, high) in zip(pieces, pairwise(bounds), strict=True):
            assert len(piece) == 8 * (high - low), "an incomplete piece"
        self._states[slot] = list(array("Q", b"".join(pieces)))

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

    def _advance(self, work: Work) -> list[int]:
        states = self._states.setdefault(work.slot, [])
        assert 0 <= work.slot < self.capabilities.max_num_seqs, f"no slot {work.slot}"
        assert work.position == len(states), f"slot {work.slot} holds {len(states)} tokens"
        assert work.token_ids, "empty work"
        for token_id in work.token_ids:
            assert 0 <= token_id < self.capabilities.vocab_size, f"no token {token_id}"
            states.append(_mix(states[-1] if states else _BASIS, token_id))
        self.num_computed_tokens += len(work.token_ids)
        assert len(states) <= self.capabilities.max_model_len, "context overflow"
        return states[-len(work.token_ids) :]


def _mix(state: int, token_id: int) -> int:
    return ((state ^ (token_id + 1)) * _PRIME) & _MASK
