"""Executes batches of the engine on a llama.cpp context."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from inferflux_core.engine.cost import CostModel
from inferflux_core.engine.runner import (
    AdapterSet,
    ModelOutput,
    RunnerCapabilities,
    RunnerError,
    Work,
)
from inferflux_core.errors import StartupError
from inferflux_runner_llamacpp.adapters import Adapters
from inferflux_runner_llamacpp.batch import Batch
from inferflux_runner_llamacpp.embedding import LlamaEmbedder
from inferflux_runner_llamacpp.passes import Pass, PassPlanner, best_chunk
from inferflux_runner_llamacpp.state import StateCodec, read_state, write_state
from inferflux_runner_llamacpp.tokenizer import LlamaTokenizer

__all__ = ["ContextLimits", "LlamaRunner"]

_NO_KV_CELLS: Final = 1
_INVALID_BATCH: Final = -1
_PROBE_TOKENS: Final = 5
_NOTHING: Final = np.empty((0, 0), np.float32)


@dataclass(frozen=True, slots=True)
class ContextLimits:
    """What a context was made for, beside its capabilities.

    Attributes:
        max_tokens: tokens of a pass (`n_batch`).
        max_logits: rows of logits of a pass (`n_outputs_max`).
        max_draft_tokens: drafts to offer to verify, if tokens can be taken back.
        sliceable: whether states can be cut into blocks of tokens, as far as is known beforehand.
    """

    max_tokens: int
    max_logits: int
    max_draft_tokens: int = 0
    sliceable: bool = True


class LlamaRunner:
    """One loaded model and a context.

    Args:
        model: handle from `llama_model_load_from_file`.
        context: handle from `llama_init_from_model`; owned by the runner from now on.
        capabilities: what is known of them before they have run.
        tokenizer: of the model.
        limits: of the context.
        adapters: of model and context; without them, works may not ask for any.
        embedder: of the same model.
        measure: measures what passes cost, or remembers it; called once, when the kernels have run.
        owns_model: whether `close` frees the model too.
    """

    def __init__(
        self,
        model: llama_cpp.llama_model_p,
        context: llama_cpp.llama_context_p,
        capabilities: RunnerCapabilities,
        tokenizer: LlamaTokenizer,
        limits: ContextLimits,
        *,
        adapters: Adapters | None = None,
        embedder: LlamaEmbedder | None = None,
        measure: Callable[[LlamaRunner], CostModel] | None = None,
        owns_model: bool = True,
    ) -> None:
        self.capabilities = replace(
            capabilities, hosts_adapters=adapters is not None, embeds=embedder is not None
        )
        self.tokenizer = tokenizer
        self._model: llama_cpp.llama_model_p | None = model
        self._owns_model = owns_model
        self._context = context
        self._memory = llama_cpp.llama_get_memory(context)
        self._limits = limits
        self._adapters = adapters
        self._embedder = embedder
        self._applied: AdapterSet = ()
        self._measure = measure
        self._batch = Batch(limits.max_tokens, capabilities.max_num_seqs)
        self._planner = PassPlanner(limits.max_tokens, limits.max_logits)
        self._lengths = [0] * capabilities.max_num_seqs
        self._codec: StateCodec | None = None
        self._can_truncate = False
        # A ctypes function releases the interpreter lock around every call. For calls of a few hundred
        # nanoseconds, taking it back costs more than the call: bind those without.
        quick = ctypes.PyDLL(llama_cpp.llama_cpp._lib._name)
        self._seq_rm = quick.llama_memory_seq_rm
        self._seq_rm.argtypes = [ctypes.c_void_p] + [ctypes.c_int32] * 3
        self._seq_rm.restype = ctypes.c_bool
        self._get_logits = quick.llama_get_logits
        self._get_logits.argtypes = [ctypes.c_void_p]
        self._get_logits.restype = ctypes.c_void_p

    def warm_up(self) -> None:
        """Compute a little, see what this model's memory can do, and measure what passes cost.

        Raises:
            StartupError: the kernels run and produce nonsense.
        """
        tokens = self.tokenizer.encode("a", add_special=False, parse_special=False)[:1] or [0]
        for output in self.execute([Work(0, 0, tokens * _PROBE_TOKENS)]):
            _check(output)
        self._learn_state_layout()
        self._can_truncate = self._seq_rm(self._memory, 0, _PROBE_TOKENS - 1, -1)
        self.release(0)
        self.capabilities = replace(
            self.capabilities,
            exports_state=self._codec is not None,
            max_draft_tokens=self._limits.max_draft_tokens if self._can_truncate else 0,
        )
        if self._measure is not None:
            self._adopt(self._measure(self))

    def execute(self, batch: Sequence[Work]) -> Iterator[ModelOutput]:
        """Compute single tokens of all sequences in one pass, then longer chunks by length.

        Works with the same adapters are computed together; those whose adapters are in place go first.
        """
        for adapters, members in self._by_adapters(batch):
            if self._adapters is not None:
                self._adapters.apply(adapters)
                self._applied = adapters
            elif adapters:
                raise RunnerError("this runner was loaded without support for adapters")
            failed: set[int] = set()
            for part in self._planner.plan(batch, members):
                if failed and not failed.isdisjoint(part.indices):
                    continue
                output = self._compute(batch, part)
                failed.update(output.failed)
                if output.indices or output.failed:
                    yield output

    def release(self, slot: int) -> None:
        """Forget a sequence."""
        if self._lengths[slot]:
            self._seq_rm(self._memory, slot, -1, -1)
            self._lengths[slot] = 0

    def truncate(self, slot: int, length: int) -> None:
        """Forget a sequence's tokens from position `length` on.

        Raises:
            RunnerError: llama.cpp cannot, for this model.
        """
        if not self._seq_rm(self._memory, slot, length, -1):
            raise RunnerError("this model's memory cannot take back tokens")
        self._lengths[slot] = length

    def move(self, slot: int, to: int) -> None:
        """Carry a sequence over to an empty slot.

        Raises:
            RunnerError: llama.cpp refuses its own copy.
        """
        self.copy(slot, to)
        self.release(slot)

    def copy(self, slot: int, to: int) -> None:
        """Fill an empty slot with a copy of a sequence; see `move`."""
        write_state(self._context, to, read_state(self._context, slot))
        self._lengths[to] = self._lengths[slot]

    def export_state(self, slot: int, bounds: Sequence[int]) -> list[bytes]:
        """Copy keys and values out of a sequence, in pieces."""
        assert self._codec is not None
        return self._codec.export(slot, self._lengths[slot], bounds)

    def import_state(self, slot: int, pieces: Sequence[bytes], bounds: Sequence[int]) -> None:
        """Fill an empty slot with pieces that were exported.

        Raises:
            RunnerError: llama.cpp refuses them.
        """
        assert self._codec is not None
        self._codec.restore(slot, pieces, bounds)
        self._lengths[slot] = bounds[-1]

    def load_adapter(self, path: Path) -> int:
        """Load a LoRA adapter; returns its handle.

        Raises:
            InvalidRequestError: it is damaged, or was made for another model.
        """
        assert self._adapters is not None
        return self._adapters.load(path)

    def free_adapter(self, handle: int) -> None:
        """Free an adapter that no sequence uses any more."""
        assert self._adapters is not None
        self._adapters.free(handle)

    @property
    def max_embedding_tokens(self) -> int:
        """Tokens an input may have."""
        assert self._embedder is not None
        return self._embedder.max_tokens

    def pair(self, query: str, document: str) -> list[int]:
        """A query and a document as one input."""
        return self.tokenizer.encode_pair(query, document)

    def embed(self, inputs: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
        """See `Embedder`."""
        assert self._embedder is not None
        return self._embedder.embed(inputs)

    def close(self) -> None:
        """Free the context, and the model if it is the runner's."""
        if self._model is not None:
            if self._embedder is not None:
                self._embedder.close()
            llama_cpp.llama_free(self._context)
            if self._owns_model:
                llama_cpp.llama_model_free(self._model)
            self._model = None

    def _learn_state_layout(self) -> None:
        """See whether this model's state can be cut into blocks, by a round trip through slot 0."""
        if not self._limits.sliceable:
            return
        self._codec = StateCodec.probe(self._context, 0, _PROBE_TOKENS)
        if self._codec is not None:
            bounds = range(_PROBE_TOKENS + 1)
            pieces = self.export_state(0, bounds)
            self.release(0)
            self.import_state(0, pieces, bounds)
            if self.export_state(0, bounds) != pieces:
                self._codec = None

    def _adopt(self, cost: CostModel) -> None:
        """Shape passes by what they cost."""
        limits = self._limits
        chunk = best_chunk(cost, limits.max_tokens)
        self._planner = PassPlanner(chunk, limits.max_logits, cost)
        details = {**self.capabilities.details, "chunk": str(chunk)}
        self.capabilities = replace(self.capabilities, cost=cost, details=details)

    def _by_adapters(self, batch: Sequence[Work]) -> list[tuple[AdapterSet, list[int]]]:
        groups: dict[AdapterSet, list[int]] = {}
        for index, work in enumerate(batch):
            groups.setdefault(work.adapters, []).append(index)
        return sorted(groups.items(), key=lambda group: group[0] != self._applied)

    def _compute(self, batch: Sequence[Work], part: Pass) -> ModelOutput:
        indices, count = part.indices, part.count
        works = [batch[i] for i in indices]
        slots = [work.slot for work in works]
        positions = [work.position + part.start for work in works]
        tokens = [work.token_ids for work in works]
        if count != len(tokens[0]):
            tokens = [ids[part.start : part.start + count] for ids in tokens]
        dummies = self._dummies(slots, count)
        if not dummies:
            filled = self._batch.fill(slots, positions, tokens, part.num_logits)
        else:
            filled = self._fill_with(dummies, slots, positions, tokens, part.num_logits)
        status = llama_cpp.llama_decode(self._context, filled)
        for slot in dummies:
            self._seq_rm(self._memory, slot, self._lengths[slot], -1)
        if status:
            return _failure(status, indices)
        for slot, position in zip(slots, positions, strict=True):
            self._lengths[slot] = position + count
        rows = [i for i, n in zip(indices, part.num_logits, strict=True) for _ in range(n)]
        return ModelOutput(rows, self._logits(len(rows)))

    def _fill_with(
        self,
        dummies: Sequence[int],
        slots: Sequence[int],
        positions: Sequence[int],
        tokens: Sequence[Sequence[int]],
        num_logits: Sequence[int],
    ) -> llama_cpp.llama_batch:
        """The batch of a pass with dummy tokens in idle slots, all in the order of slots."""
        blank = [0] * len(tokens[0])
        rows = sorted(
            [
                *zip(slots, positions, tokens, num_logits, strict=True),
                *((slot, self._lengths[slot], blank, 0) for slot in dummies),
            ],
            key=lambda row: row[0],
        )
        return self._batch.fill(*zip(*rows, strict=True))

    def _dummies(self, slots: Sequence[int], count: int) -> list[int]:
        """Idle slots to compute along; what they hold already stays as it is."""
        if not self.capabilities.contiguous_slots:
            return []
        longest = self.capabilities.max_model_len - count

        def fits(slot: int) -> bool:
            if slot >= len(self._lengths):
                return False
            length = self._lengths[slot]
            return length <= longest and (length == 0 or self._can_truncate)

        return self._planner.companions(slots, count, fits)

    def _logits(self, rows: int) -> NDArray[np.float32]:
        """A view of llama.cpp's own output buffer: float32 `[rows, vocab_size]`."""
        if rows == 0:
            return _NOTHING
        columns = self.capabilities.vocab_size
        address = self._get_logits(self._context)
        buffer = (ctypes.c_float * (rows * columns)).from_address(address)
        return np.frombuffer(memoryview(buffer), np.float32).reshape(rows, columns)


def _check(output: ModelOutput) -> None:
    if output.failed:
        raise StartupError(f"the start-up probe failed: {output.error}")
    if not np.isfinite(output.logits).all() or np.ptp(output.logits) == 0:
        raise StartupError(
            "the start-up probe computed meaningless logits",
            hint="the model file is damaged, or llama-cpp-python was built for another CPU; "
            "rebuild it on this machine",
        )


def _failure(status: int, indices: Sequence[int]) -> ModelOutput:
    if status == _NO_KV_CELLS:
        error = "no room is left in the KV cache"
    elif status == _INVALID_BATCH:
        error = "llama.cpp refused the batch as invalid"
    else:
        raise RunnerError(f"llama_decode failed with status {status}")
    return ModelOutput((), _NOTHING, failed=indices, error=error)
