"""The contract between the engine and the code that executes a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ModelOutput",
    "ModelRunner",
    "RunnerCapabilities",
    "RunnerError",
    "StateExporter",
    "Tokenizer",
    "Work",
]


class RunnerError(Exception):
    """The runner's state is lost; the engine process must be replaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerCapabilities:
    """What a loaded model offers.

    Attributes:
        vocab_size: columns of a logits row.
        max_num_seqs: sequences that can be resident at once; slots are `0 .. max_num_seqs - 1`.
        max_model_len: tokens a sequence can hold.
        prefill_quantum: chunks of prompts are cut at multiples of this, where kernels are fastest.
        exports_state: whether the runner is a `StateExporter`, for this model.
        device: what executes the model, for people.
        kv_bytes_per_token: bytes of keys and values one token occupies.
        details: what was chosen at load time, e.g. `{"kv_cache_type": "bf16", "threads": "2"}`.
    """

    vocab_size: int
    max_num_seqs: int
    max_model_len: int
    prefill_quantum: int = 1
    exports_state: bool = False
    device: str = ""
    kv_bytes_per_token: int = 0
    details: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Work:
    """One sequence's share of a step.

    Attributes:
        slot: the sequence.
        position: position of the first token; equals the number of tokens the slot already holds.
        token_ids: tokens to compute.
        wants_logits: whether the logits after the last token are needed.
    """

    slot: int
    position: int
    token_ids: Sequence[int]
    wants_logits: bool


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """What one pass produced.

    Attributes:
        indices: positions in the batch that this pass computed and that wanted logits.
        logits: float32 `[len(indices), vocab_size]`; may be written to, and is valid only until the
            iterator advances.
        failed: positions in the batch that could not be computed, with `error` saying why.
    """

    indices: Sequence[int]
    logits: NDArray[np.float32]
    failed: Sequence[int] = ()
    error: str = ""


class Tokenizer(Protocol):
    """The model's vocabulary."""

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""

    @property
    def end_of_generation_ids(self) -> frozenset[int]:
        """Tokens with which the model ends an answer."""

    @property
    def bos_text(self) -> str:
        """The beginning-of-sequence token as templates spell it, or an empty string."""

    @property
    def eos_text(self) -> str:
        """The end-of-sequence token as templates spell it, or an empty string."""

    @property
    def chat_template(self) -> str | None:
        """The Jinja template that ships with the model."""

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Tokenize.

        Args:
            text: any text.
            add_special: add the tokens that the model expects around a text, such as BOS.
            parse_special: read control tokens spelt out in `text` as such.
        """

    def piece(self, token_id: int) -> bytes:
        """The bytes a token stands for; control tokens stand for none. Cheap enough for every token."""


class ModelRunner(Protocol):
    """Executes one model on one device. Used from one thread only, apart from `tokenizer`."""

    @property
    def capabilities(self) -> RunnerCapabilities:
        """Constant after loading."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Safe to use from another thread than the one that executes."""

    def warm_up(self) -> None:
        """Run the kernels once, so that a broken library shows itself before the first request.

        Raises:
            StartupError: the library runs and gives wrong results.
        """

    def execute(self, batch: Sequence[Work]) -> Iterator[ModelOutput]:
        """Compute a batch, in as many passes as the device prefers.

        Yields:
            One output per pass, each as soon as it is there.

        Raises:
            RunnerError: the runner cannot go on.
        """

    def release(self, slot: int) -> None:
        """Forget a sequence, so that its slot can be used anew."""

    def close(self) -> None:
        """Free the model. Idempotent."""


@runtime_checkable
class StateExporter(Protocol):
    """What a runner offers beside `ModelRunner` if its `capabilities.exports_state` is true."""

    def export_blocks(self, slot: int, first: int, count: int, block_size: int) -> list[bytes]:
        """Copy keys and values out of a sequence.

        Args:
            slot: the sequence; it holds at least `(first + count) * block_size` tokens.
            first: index of the first block.
            count: number of blocks.
            block_size: tokens of a block.
        """

    def import_blocks(self, slot: int, blocks: Sequence[bytes], block_size: int) -> None:
        """Fill an empty slot with blocks that were exported, from the first one on.

        Raises:
            RunnerError: the runner cannot go on.
        """
