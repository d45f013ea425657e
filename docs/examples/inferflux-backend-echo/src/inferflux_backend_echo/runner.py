"""A model whose most probable answer is the last line of the prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from inferflux_core.backends.byte_tokenizer import BOS_ID, EOS_ID, ByteTokenizer
from inferflux_core.engine.runner import ModelOutput, RunnerCapabilities, Work

__all__ = ["EchoRunner"]

NEWLINE = ord("\n")


class EchoTokenizer(ByteTokenizer):
    """A token is a byte, and the prompt of a conversation is its last message."""

    chat_template = "{{ messages[-1].content + '\\n' }}"


class EchoRunner:
    """Keeps the tokens of every slot; what comes next depends on them alone."""

    def __init__(self, max_num_seqs: int, max_model_len: int) -> None:
        self.tokenizer = EchoTokenizer()
        self.capabilities = RunnerCapabilities(
            vocab_size=self.tokenizer.vocab_size,
            max_num_seqs=max_num_seqs,
            max_model_len=max_model_len,
            device="echo",
        )
        self._texts: dict[int, list[int]] = {}

    def warm_up(self) -> None:
        """Nothing to warm."""

    def execute(self, batch: Sequence[Work]) -> Iterator[ModelOutput]:
        """One pass: read all tokens, answer after those whose logits are wanted."""
        indices: list[int] = []
        chosen: list[int] = []
        for index, work in enumerate(batch):
            text = self._texts.setdefault(work.slot, [])
            text += work.token_ids
            for end in range(len(text) - work.num_logits + 1, len(text) + 1):
                indices.append(index)
                chosen.append(_next_token(text[:end]))
        logits = np.zeros((len(indices), self.capabilities.vocab_size), np.float32)
        logits[np.arange(len(indices)), chosen] = 100.0
        yield ModelOutput(indices, logits)

    def release(self, slot: int) -> None:
        """Forget a text."""
        self._texts.pop(slot, None)

    def close(self) -> None:
        """Nothing to free."""


def _next_token(text: Sequence[int]) -> int:
    """A line is answered by the same line, and then it is over."""
    lines: list[list[int]] = [[]]
    for token in text:
        if token == NEWLINE:
            lines.append([])
        elif token != BOS_ID:
            lines[-1].append(token)
    if len(lines) == 1:
        return NEWLINE
    said, answered = lines[-2], len(lines[-1])
    return said[answered] if answered < len(said) else EOS_ID
