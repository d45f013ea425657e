"""Backends with one defect each."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from inferflux_core.backends.byte_tokenizer import ByteTokenizer
from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.engine.runner import ModelOutput, Work
from inferflux_core.hookspecs import hookimpl
from inferflux_core.specs import BackendSpec, Probe
from inferflux_core.testing import DeterministicRunner


class Marked(DeterministicRunner):
    """Prefers another token wherever `mark` says so."""

    def mark(self, batch: Sequence[Work], work: Work) -> int:
        return 0

    def execute(self, batch: Sequence[Work]) -> Iterator[ModelOutput]:
        for output in super().execute(batch):
            for row, index in zip(output.logits, output.indices, strict=True):
                if mark := self.mark(batch, batch[index]):
                    row[mark] += 1000
            yield output


class Batchy(Marked):
    def mark(self, batch: Sequence[Work], work: Work) -> int:
        return len(batch) - 1


class Chunky(Marked):
    def mark(self, batch: Sequence[Work], work: Work) -> int:
        return int(work.position > 0 and len(work.token_ids) > 1)


class Forgetful(Marked):
    """Its slots remember what they held before."""

    before = 0

    def mark(self, batch: Sequence[Work], work: Work) -> int:
        return self.before % 200

    def release(self, slot: int) -> None:
        self.before += len(self._states[slot])
        super().release(slot)


class Nan(DeterministicRunner):
    def execute(self, batch: Sequence[Work]) -> Iterator[ModelOutput]:
        for output in super().execute(batch):
            output.logits[:, 7] = np.nan
            yield output


class Misplaced(DeterministicRunner):
    """Imports the blocks in the wrong order."""

    def import_state(self, slot: int, pieces: Sequence[bytes], bounds: Sequence[int]) -> None:
        super().import_state(slot, pieces[::-1], bounds)


class Fragile(DeterministicRunner):
    closed = False

    def close(self) -> None:
        assert not self.closed
        self.closed = True


class ASCII(ByteTokenizer):
    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        return list(text.encode("ascii", "replace"))


class Lossy(DeterministicRunner):
    def __init__(self, max_num_seqs: int, max_model_len: int) -> None:
        super().__init__(max_num_seqs, max_model_len)
        self.tokenizer = ASCII()


class Hasty(DeterministicRunner):
    """Answers works that wanted nothing."""

    def execute(self, batch: Sequence[Work]) -> Iterator[ModelOutput]:
        return super().execute([Work(w.slot, w.position, w.token_ids, True) for w in batch])


def rude_probe() -> Probe:
    os.environ["ACME"] = f"{os.getpid()} was here"
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    time.sleep(2.1)
    return Probe(available=False, reason="")


RUNNERS = {
    "batchy": Batchy,
    "chunky": Chunky,
    "forgetful": Forgetful,
    "fragile": Fragile,
    "hasty": Hasty,
    "lossy": Lossy,
    "misplaced": Misplaced,
    "nan": Nan,
    "rude": DeterministicRunner,
}


def spec(name: str, runner: type[DeterministicRunner]) -> BackendSpec:
    def load(model: ModelConfig, runtime: RuntimeConfig) -> DeterministicRunner:
        return runner(runtime.max_num_seqs or 4, runtime.max_model_len or 256)

    def probe() -> Probe:
        return Probe(available=True, reason="for tests")

    return BackendSpec(
        name=name,
        summary="Broken",
        api_version=1,
        probe=rude_probe if name == "rude" else probe,
        factory=load,
        needs_model=False,
    )


@hookimpl
def inferflux_backends() -> Iterable[BackendSpec]:
    for name, runner in RUNNERS.items():
        yield spec(name, runner)
