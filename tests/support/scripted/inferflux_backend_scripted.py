"""A backend for tests: prompts tell it what to do wrong, and what to say.

`[slow]` makes every step of the batch take 20 ms, `[crash]` kills the process as a failed assert would,
`[fail]` reports a failed pass, `[lost]` reports a lost runner, `[nan]` computes logits that are not
numbers. `[say]text[/say]` is answered with that text and nothing else. Anything else is answered as the
deterministic runner does, in lower-case letters. An embedding counts letters.

Names of models matter, too: `for-another-cpu` dies while it is loaded, `thinks` has a template that opens
its reasoning, `ranks` scores documents by the letters they share with the query, `embeds` only embeds.

Model files are made by writing `as` and the quantization behind the source; a source that holds nothing but
`bad`, `full`, `crash` or `slow` goes wrong in that way.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from inferflux_core.backends.byte_tokenizer import EOS_ID
from inferflux_core.config.schema import ModelConfig, RuntimeConfig
from inferflux_core.engine.runner import ModelOutput, RunnerError, Work
from inferflux_core.errors import ModelLoadError
from inferflux_core.hookspecs import hookimpl
from inferflux_core.specs import BackendSpec, FileRecipe, Probe
from inferflux_core.testing import DeterministicRunner

_ASSISTANT = b"assistant: "
_THINKING = "{% if enable_thinking is not defined or enable_thinking %}<think>\n{% endif %}"


class ScriptedRunner(DeterministicRunner):
    """Obeys the prompts."""

    def __init__(self, max_num_seqs: int, max_model_len: int, name: str | None = None) -> None:
        super().__init__(max_num_seqs, max_model_len, prefill_quantum=16, rows_per_pass=8)
        self.capabilities = replace(
            self.capabilities, embeds=True, ranks=name == "ranks", generates=name != "embeds"
        )
        self._scripts: dict[int, bytes] = {}
        # By hash, so that a prefix which comes out of the cache is known too.
        self._texts: dict[int, bytes] = {}
        if name == "thinks":
            assert self.tokenizer.chat_template is not None
            self.tokenizer.chat_template += _THINKING + "{# </think> #}"

    def execute(self, batch: Sequence[Work]) -> Iterator[ModelOutput]:
        """Do as the prompts of the batch say, then compute it."""
        for work in batch:
            # Scripts are short: a prompt that starts with a restored prefix holds none.
            self._scripts.setdefault(work.slot, bytes(t for t in work.token_ids if t < 256))
        scripts = [self._scripts[work.slot] for work in batch]
        if any(b"[crash]" in script for script in scripts):
            os.kill(os.getpid(), signal.SIGABRT)
        if any(b"[lost]" in script for script in scripts):
            raise RunnerError("the device is lost")
        if any(b"[slow]" in script for script in scripts):
            time.sleep(0.02)
        failed = [i for i, script in enumerate(scripts) if b"[fail]" in script]
        if failed:
            nothing = np.empty((0, self.capabilities.vocab_size), np.float32)
            yield ModelOutput((), nothing, failed=failed, error="out of memory")
        for output in super().execute([w for i, w in enumerate(batch) if i not in failed]):
            kept = [i for i in range(len(batch)) if i not in failed]
            indices = [kept[i] for i in output.indices]
            for row, index in enumerate(indices):
                if b"[nan]" in scripts[index]:
                    output.logits[row, 0] = np.nan
            yield ModelOutput(indices, output.logits)

    def release(self, slot: int) -> None:
        """Forget a sequence and its script."""
        super().release(slot)
        self._scripts.pop(slot, None)

    @property
    def max_embedding_tokens(self) -> int:
        """Tokens an input may have."""
        return 64

    def pair(self, query: str, document: str) -> list[int]:
        """A query and a document with a zero byte between them."""
        return list(f"{query}\0{document}".encode())

    def embed(self, inputs: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
        """Count letters, of one input per pass."""
        for token_ids in inputs:
            text = bytes(t for t in token_ids if t < 256)
            if b"[crash]" in text:
                os.kill(os.getpid(), signal.SIGABRT)
            if b"[slow]" in text:
                time.sleep(0.2)
            if self.capabilities.ranks:
                query, document = map(set, text.split(b"\0"))
                yield np.array([[len(query & document)]], np.float32)
            else:
                yield np.bincount(list(text), minlength=256)[None].astype(np.float32)

    def logits(self, state: int) -> NDArray[np.float32]:
        """Favour letters, so that answers are text."""
        values = super().logits(state)
        if (said := _next_byte(self._texts.get(state, b""))) is not None:
            values[said] = 1000
            return values
        values[: ord("a")] -= 100
        values[ord("z") + 1 :] -= 100
        return values

    def _advance(self, work: Work) -> list[int]:
        before = self._states.get(work.slot, [])
        text = self._texts.get(before[-1], b"") if before else b""
        states = super()._advance(work)
        for state, token_id in zip(states, work.token_ids, strict=True):
            text += self.tokenizer.piece(token_id)
            self._texts[state] = text
        return states


def _next_byte(text: bytes) -> int | None:
    """What comes next where a prompt says what to say; the end of the answer after all of it."""
    before, end, after = text.rpartition(b"[/say]")
    if not end:
        return None
    script = before.rpartition(b"[say]")[2]
    said = after.rpartition(_ASSISTANT)[2].removeprefix(b"<think>\n")
    return script[len(said)] if script.startswith(said) and said != script else EOS_ID


def _load(model: ModelConfig, runtime: RuntimeConfig) -> ScriptedRunner:
    if model.name == "for-another-cpu":
        os.kill(os.getpid(), signal.SIGILL)
    return ScriptedRunner(runtime.max_num_seqs or 4, runtime.max_model_len or 512, model.name)


def _make_file(recipe: FileRecipe, report: Callable[[float], None]) -> None:
    folder = recipe.source.is_dir()
    content = (recipe.source / "model.safetensors" if folder else recipe.source).read_bytes()
    if content == b"slow":
        recipe.target.write_text(str(os.getpid()))
    report(0.5)
    if content == b"bad":
        raise ModelLoadError("this is bad", hint="bring something better")
    if content == b"full":
        raise OSError(errno.ENOSPC, "No space left on device")
    if content == b"crash":
        os.abort()
    if content == b"slow":
        time.sleep(60)
    recipe.target.write_bytes(content + f" as {recipe.quantization}".encode())
    report(1.0)


@hookimpl
def inferflux_backends() -> Iterable[BackendSpec]:
    """Declare `scripted`."""
    yield BackendSpec(
        name="scripted",
        summary="Misbehaves on request",
        probe=lambda: Probe(available=True, reason="for tests"),
        factory=_load,
        make_file=_make_file,
        crash_hint="do not load a [crash]",
        needs_model=False,
    )
