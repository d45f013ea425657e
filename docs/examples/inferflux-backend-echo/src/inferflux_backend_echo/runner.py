"""A model whose most probable answer is the prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from inferflux_core.backends.byte_tokenizer import EOS_ID, ByteTokenizer
from inferflux_core.engine.runner import ModelOutput, RunnerCapabilities, Work

__all__ = ["EchoRunner"]


class EchoTokenizer(ByteTokenizer):
    """A token is a byte, and the prompt of a conversation is its last message."""

    chat_template = "{{ messages[-1].content }}"


class EchoRunner:
    """Keeps the prompt of every slot, and how much of it has been repeated."""

    def __init__(self, max_num_seqs: int, max_model_len: int) -> None:
        self.tokenizer = EchoTokenizer()
        self.capabilities = RunnerCapabilities(
            vocab_size=self.tokenizer.vocab_size,
            max_num_seqs=max_num_seqs,
            max_model_len=max_model_len,
            device="echo",
        )
        self._prompts: dict[int, list[int]] = {}
        self._repeated: dict[int, int] = {}

    def warm_up(self) -> None:
        """Nothing to warm."""

    def execute(self, batch: Sequence[Work]) -> Iterator[ModelOutput]:
        """One pass: read what is part of a prompt, answer where logits are wanted."""
        for work in batch:
            # Prompts arrive in chunks; what follows the first logits is the echo itself.
            if work.slot not in self._repeated:
                self._prompts.setdefault(work.slot, []).extend(work.token_ids)
        indices = [i for i, work in enumerate(batch) for _ in range(work.num_logits)]
        logits = np.zeros((len(indices), self.capabilities.vocab_size), np.float32)
        for row, index in enumerate(indices):
            logits[row, self._next_token(batch[index].slot)] = 100.0
        yield ModelOutput(indices, logits)

    def release(self, slot: int) -> None:
        """Forget a prompt."""
        self._prompts.pop(slot, None)
        self._repeated.pop(slot, None)

    def close(self) -> None:
        """Nothing to free."""

    def _next_token(self, slot: int) -> int:
        repeated = self._repeated.get(slot, 0)
        self._repeated[slot] = repeated + 1
        prompt = [token for token in self._prompts[slot] if self.tokenizer.piece(token)]
        return prompt[repeated] if repeated < len(prompt) else EOS_ID
