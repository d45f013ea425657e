"""Executes plans of the engine on a llama.cpp context whose sequences have a KV stream each.

Streams (`kv_unified = false`) let every row of a decode pass attend to its own cells only. In return,
llama.cpp packs into one pass only sequences with consecutive ids and equally many tokens, so decode rows
and chunks of prompts are computed in separate passes, and holes between active slots matter.
"""

from __future__ import annotations

import ctypes
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from inferflux_core.engine.runner import ModelOutput, RunnerCapabilities, RunnerError, Work
from inferflux_core.errors import StartupError
from inferflux_runner_llamacpp.batch import Batch
from inferflux_runner_llamacpp.state import StateCodec
from inferflux_runner_llamacpp.tokenizer import LlamaTokenizer

__all__ = ["LlamaRunner"]

_NO_KV_CELLS: Final = 1
_INVALID_BATCH: Final = -1
_CALIBRATION_ROWS: Final = 8
_PROBE_TOKENS: Final = 5


class LlamaRunner:
    """One loaded model and its context.

    Args:
        model: handle from `llama_model_load_from_file`; owned by the runner from now on.
        context: handle from `llama_init_from_model`; owned likewise.
        capabilities: what the context was made for.
        batch_size: most tokens of a pass (`n_batch` of the context).
    """

    def __init__(
        self,
        model: llama_cpp.llama_model_p,
        context: llama_cpp.llama_context_p,
        capabilities: RunnerCapabilities,
        tokenizer: LlamaTokenizer,
        batch_size: int,
    ) -> None:
        self.capabilities = capabilities
        self.tokenizer = tokenizer
        self._model: llama_cpp.llama_model_p | None = model
        self._context = context
        self._memory = llama_cpp.llama_get_memory(context)
        self._batch = Batch(batch_size, capabilities.max_num_seqs)
        self._lengths = [0] * capabilities.max_num_seqs
        self._max_hole = 0
        self._codec: StateCodec | None = None
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
        """Decode once, and measure what a row costs beside what a pass costs.

        Raises:
            StartupError: the kernels run and produce nonsense.
        """
        slots = min(_CALIBRATION_ROWS, self.capabilities.max_num_seqs)
        token = next(iter(self.tokenizer.encode("a", add_special=False, parse_special=False)), 0)
        one = self._calibrate(token, 1)
        many = self._calibrate(token, slots)
        if slots > 1:
            per_row = max((many - one) / (slots - 1), 1e-9)
            per_pass = one - per_row
            self._max_hole = int(max(per_pass, 0.0) / per_row)
        self._learn_state_layout(token)

    def _learn_state_layout(self, token: int) -> None:
        """See whether this model's state can be cut into blocks, by a round trip."""
        tokens = [token] * _PROBE_TOKENS
        list(self.execute([Work(0, 0, tokens, 0)]))
        self._codec = StateCodec.probe(self._context, 0, _PROBE_TOKENS)
        if self._codec is not None:
            bounds = range(_PROBE_TOKENS + 1)
            pieces = self.export_state(0, bounds)
            self.release(0)
            self.import_state(0, pieces, bounds)
            if self.export_state(0, bounds) != pieces:
                self._codec = None
        self.release(0)
        self.capabilities = replace(self.capabilities, exports_state=self._codec is not None)

    def _calibrate(self, token: int, slots: int) -> float:
        """Best of three timings of a decode pass over `slots` sequences, in seconds."""
        seconds = []
        for position in range(4):
            started = time.perf_counter()
            work = [Work(slot, position, [token]) for slot in range(slots)]
            for output in self.execute(work):
                seconds.append(time.perf_counter() - started)
                self._check(output)
        for slot in range(slots):
            self.release(slot)
        return min(seconds[1:])

    def _check(self, output: ModelOutput) -> None:
        if output.failed:
            raise StartupError(f"the start-up probe failed: {output.error}")
        if not np.isfinite(output.logits).all() or np.ptp(output.logits) == 0:
            raise StartupError(
                "the start-up probe computed meaningless logits",
                hint="the model file is damaged, or llama-cpp-python was built for another CPU; "
                "rebuild it on this machine",
            )

    def execute(self, batch: Sequence[Work]) -> Iterator[ModelOutput]:
        """Compute single tokens of all sequences in one pass, then each longer chunk in its own."""
        rows = sorted(
            (i for i, work in enumerate(batch) if len(work.token_ids) == 1),
            key=lambda i: batch[i].slot,
        )
        if rows:
            yield self._decode_rows(batch, rows)
        for index, work in enumerate(batch):
            if len(work.token_ids) > 1:
                yield self._decode_chunk(index, work)

    def release(self, slot: int) -> None:
        """Forget a sequence."""
        if self._lengths[slot]:
            self._seq_rm(self._memory, slot, -1, -1)
            self._lengths[slot] = 0

    def truncate(self, slot: int, length: int) -> None:
        """Forget tokens from `length` on."""
        self._seq_rm(self._memory, slot, length, -1)
        self._lengths[slot] = length

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

    def close(self) -> None:
        """Free context and model."""
        if self._model is not None:
            llama_cpp.llama_free(self._context)
            llama_cpp.llama_model_free(self._model)
            self._model = None

    def _decode_rows(self, batch: Sequence[Work], rows: list[int]) -> ModelOutput:
        works = [batch[i] for i in rows]
        holes = self._holes([work.slot for work in works])
        entries = [(w.slot, w.token_ids[0], w.position, bool(w.num_logits)) for w in works]
        entries += [(slot, 0, self._lengths[slot], False) for slot in holes]
        entries.sort()
        slots, tokens, positions, wanted = zip(*entries, strict=True)
        status = llama_cpp.llama_decode(
            self._context, self._batch.rows(tokens, positions, slots, wanted)
        )
        for slot in holes:
            self._seq_rm(self._memory, slot, self._lengths[slot], -1)
        if status:
            return self._failure(status, rows)
        for work in works:
            self._lengths[work.slot] += 1
        indices = [i for i in rows if batch[i].num_logits]
        return ModelOutput(indices, self._logits(len(indices)))

    def _decode_chunk(self, index: int, work: Work) -> ModelOutput:
        size = self._batch.capacity
        for start in range(0, len(work.token_ids), size):
            tokens = work.token_ids[start : start + size]
            last = start + len(tokens) == len(work.token_ids)
            batch = self._batch.chunk(
                tokens, work.position + start, work.slot, wanted=bool(work.num_logits) and last
            )
            if status := llama_cpp.llama_decode(self._context, batch):
                return self._failure(status, [index])
            self._lengths[work.slot] += len(tokens)
        return ModelOutput([index], self._logits(1)) if work.num_logits else _NOTHING

    def _holes(self, slots: list[int]) -> list[int]:
        """Idle slots between active ones that are cheaper to compute along than to leave out.

        A gap in the active slots makes llama.cpp split the pass. A dummy row in an idle stream, removed
        afterwards, closes the gap; it pays while the gap's rows cost less than another pass.
        """
        holes: list[int] = []
        for left, right in itertools.pairwise(slots):
            gap = range(left + 1, right)
            full = any(self._lengths[s] >= self.capabilities.max_model_len for s in gap)
            if len(gap) <= self._max_hole and not full:
                holes += gap
        return holes

    def _logits(self, rows: int) -> NDArray[np.float32]:
        """A view of llama.cpp's own output buffer: float32 `[rows, vocab_size]`."""
        if rows == 0:
            return _NOTHING.logits
        columns = self.capabilities.vocab_size
        address = self._get_logits(self._context)
        buffer = (ctypes.c_float * (rows * columns)).from_address(address)
        return np.frombuffer(memoryview(buffer), np.float32).reshape(rows, columns)

    def _failure(self, status: int, indices: Sequence[int]) -> ModelOutput:
        if status == _NO_KV_CELLS:
            error = "no room is left in the KV cache"
        elif status == _INVALID_BATCH:
            error = "llama.cpp refused the batch as invalid"
        else:
            raise RunnerError(f"llama_decode failed with status {status}")
        return ModelOutput((), _NOTHING.logits, failed=indices, error=error)


_NOTHING = ModelOutput((), np.empty((0, 0), np.float32))
