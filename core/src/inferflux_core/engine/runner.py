"""The contract between the engine and the code that executes a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from inferflux_core.engine.cost import CostModel

__all__ = [
    "AdapterHost",
    "AdapterSet",
    "DraftVerifier",
    "Embedder",
    "ModelOutput",
    "ModelRunner",
    "PrefixSharer",
    "RunnerCapabilities",
    "RunnerError",
    "SlotMover",
    "StateExporter",
    "Tokenizer",
    "Work",
]


AdapterSet = tuple[tuple[int, float], ...]
"""Handles of loaded adapters and their scales, in ascending order of handles; empty for the bare model."""


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
        max_draft_tokens: drafts that can be verified in one pass behind a sequence's last token; unless
            it is 0, the runner is a `DraftVerifier`.
        uniform_rows: whether sequences with different numbers of tokens cost a pass each.
        contiguous_slots: whether idle slots between active ones cost extra; if so, the runner is a
            `SlotMover`.
        exports_state: whether the runner is a `StateExporter`, for this model.
        state_fingerprint: equal for runners that can import each other's exports: it names the model's
            weights, the library's build and the type of the cache.
        shares_prefixes: whether the runner is a `PrefixSharer`.
        hosts_adapters: whether the runner is an `AdapterHost`, for this model.
        embeds: whether the runner is an `Embedder`, for this model.
        ranks: whether its embeddings have one number, which says how well a document answers a query.
        generates: whether the model continues texts; models that only embed do not.
        cost: what passes cost here, once `warm_up` has measured it.
        device: what executes the model, for people.
        kv_bytes_per_token: bytes of keys and values one token occupies.
        details: what was chosen at load time, e.g. `{"kv_cache_type": "bf16", "threads": "2"}`.
    """

    vocab_size: int
    max_num_seqs: int
    max_model_len: int
    prefill_quantum: int = 1
    max_draft_tokens: int = 0
    uniform_rows: bool = False
    contiguous_slots: bool = False
    exports_state: bool = False
    state_fingerprint: str = ""
    shares_prefixes: bool = False
    hosts_adapters: bool = False
    embeds: bool = False
    ranks: bool = False
    generates: bool = True
    cost: CostModel | None = None
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
        num_logits: after how many of them, counted from the last one, logits are needed.
        adapters: what to apply to the model for this sequence.
    """

    slot: int
    position: int
    token_ids: Sequence[int]
    num_logits: int = 1
    adapters: AdapterSet = ()


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """What one pass produced.

    Attributes:
        indices: for every row of logits, the position in the batch of the work it belongs to. Rows of a
            work come in the order of its tokens: in one output if they are at most
            `max_draft_tokens + 1`, else in several if need be.
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

    def export_state(self, slot: int, bounds: Sequence[int]) -> list[bytes]:
        """Copy keys and values out of a sequence.

        Args:
            slot: the sequence; it holds at least `bounds[-1]` tokens.
            bounds: ascending positions; piece `i` holds the tokens `bounds[i] .. bounds[i + 1] - 1`.
        """

    def import_state(self, slot: int, pieces: Sequence[bytes], bounds: Sequence[int]) -> None:
        """Fill an empty slot with pieces that were exported with the same bounds, which begin at 0.

        Raises:
            RunnerError: the runner cannot go on.
        """


@runtime_checkable
class PrefixSharer(Protocol):
    """What a runner offers beside `StateExporter` if its `capabilities.shares_prefixes` is true."""

    def share(self, slot: int, to: int, length: int) -> bool:
        """Let an empty slot hold the first `length` tokens of a sequence too; both go on independently.

        Returns:
            False if the sequence does not hold as many yet; the slot is empty then.
        """


@runtime_checkable
class DraftVerifier(Protocol):
    """What a runner offers beside `ModelRunner` if its `capabilities.max_draft_tokens` is not 0."""

    def truncate(self, slot: int, length: int) -> None:
        """Forget a sequence's tokens from position `length` on."""


@runtime_checkable
class SlotMover(Protocol):
    """What a runner offers beside `ModelRunner` if its `capabilities.contiguous_slots` is true."""

    def move(self, slot: int, to: int) -> None:
        """Carry a sequence over to an empty slot, between two batches; its old slot is empty then.

        Raises:
            RunnerError: the runner cannot go on.
        """


@runtime_checkable
class AdapterHost(Protocol):
    """What a runner offers beside `ModelRunner` if its `capabilities.hosts_adapters` is true."""

    def load_adapter(self, path: Path) -> int:
        """Load a LoRA adapter; returns its handle, which is never given out twice.

        Raises:
            InvalidRequestError: it is damaged, or was made for another model.
        """

    def free_adapter(self, handle: int) -> None:
        """Free an adapter that no sequence uses any more."""


@runtime_checkable
class Embedder(Protocol):
    """What a runner offers beside `ModelRunner` if its `capabilities.embeds` is true."""

    @property
    def max_embedding_tokens(self) -> int:
        """Tokens an input may have."""

    def pair(self, query: str, document: str) -> list[int]:
        """A query and a document as one input; only with `capabilities.ranks`."""

    def embed(self, inputs: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
        """Embed token sequences in passes of bounded length, as pooled by the model.

        Vectors have the length 1 only where that is a part of the model. A caller may close the iterator
        early, and must not have two at work at once. With `capabilities.ranks`, inputs come from `pair`,
        and their vectors have one element.

        Yields:
            After every pass the vectors of the inputs that it completed, in order: float32
            `[completed, size]`.

        Raises:
            EngineError: there is no memory for it.
            RunnerError: the runner cannot go on.
        """
