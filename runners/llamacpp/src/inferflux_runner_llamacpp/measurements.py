"""What was measured about a model on this machine, kept for the next start."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

import msgspec

from inferflux_core.engine.cost import CostModel
from inferflux_runner_llamacpp.host import Watch, cache_folder, cpu_identity
from inferflux_runner_llamacpp.identity import build_files, file_identity

__all__ = ["Choice", "Comparison", "Decision", "Measurements", "Timings"]

logger = logging.getLogger("inferflux.llamacpp")

T = TypeVar("T")

_MOST_TRIES: Final = 3
"""On a machine that is never quiet, measuring at every start would not help."""
_PROMPT: Final = 64
_ANSWER: Final = 64


class Timings(msgspec.Struct, frozen=True):
    """Seconds per prompt token, and per decode step of one sequence and of `many_rows`."""

    prompt_token: float
    one: float
    many: float
    many_rows: int

    @property
    def cost(self) -> float:
        """Geometric mean, over a lone and over several clients, of the time that a request takes."""
        prompt = self.prompt_token * _PROMPT
        alone = prompt + self.one * _ANSWER
        together = prompt + self.many * _ANSWER / self.many_rows
        return float((alone * together) ** 0.5)

    def __str__(self) -> str:
        """Milliseconds, for people."""
        return f"{self.prompt_token * 1e3:.2f}/{self.one * 1e3:.1f}/{self.many * 1e3:.1f} ms"


class Choice(msgspec.Struct, frozen=True):
    """Everything that is chosen when a model is loaded."""

    weights: str
    kv_type: str
    flash_attention: bool
    threads: int
    unified: bool

    def __str__(self) -> str:
        """All of it in few words."""
        attention = "flash" if self.flash_attention else "plain"
        layout = "unified" if self.unified else "streams"
        return f"{self.weights}/{self.kv_type}/{attention}/{self.threads}t/{layout}"


class Decision(msgspec.Struct, frozen=True):
    """What was chosen, and how long everything that was tried took, in words."""

    choice: Choice
    table: dict[str, str] = {}


class Comparison(msgspec.Struct, frozen=True):
    """How long a request takes with each runner, and why one that cannot run the model cannot.

    What is not `lasting` may be another result the next time.
    """

    seconds: dict[str, float]
    problems: dict[str, str]
    lasting: bool = True


class Kept(msgspec.Struct, Generic[T]):
    """A result, and how often it was measured; `quiet` says whether nothing disturbed the last time."""

    value: T
    quiet: bool
    tries: int = 1

    @property
    def final(self) -> bool:
        """Whether measuring once more would be of no use."""
        return self.quiet or self.tries >= _MOST_TRIES


class _Content(msgspec.Struct):
    decisions: dict[str, Kept[Decision]] = {}
    costs: dict[str, Kept[CostModel]] = {}
    comparisons: dict[str, Comparison] = {}


class Measurements:
    """Results for one model file, one build of llama.cpp and one kind of machine.

    Args:
        path: the model.
    """

    def __init__(self, path: Path) -> None:
        files = (path, *build_files())
        key = "|".join((*map(file_identity, files), cpu_identity()))
        name = hashlib.sha256(key.encode()).hexdigest()[:32]
        self._file = cache_folder() / "tuning" / f"{name}.json"

    def decision(self, question: str, decide: Callable[[], Decision]) -> Decision:
        """The answer that was found before, or the one that `decide` finds now."""
        content = self._load()
        return self._recall(content, content.decisions, question, decide)

    def cost(self, setting: str, measure: Callable[[], CostModel]) -> CostModel:
        """The cost model that was measured before in this setting, or the one that is measured now."""
        content = self._load()
        return self._recall(content, content.costs, setting, measure)

    def comparison(self, question: str, compare: Callable[[], Comparison]) -> Comparison:
        """The comparison with other runners that was made before, or the one that is made now."""
        if found := self._load().comparisons.get(question):
            return found
        found = compare()
        if found.lasting:
            # Anew: trying the runners has added to it meanwhile.
            content = self._load()
            content.comparisons[question] = found
            self._store(content)
        return found

    def forget(self) -> None:
        """Measure everything anew from now on."""
        self._file.unlink(missing_ok=True)

    def _recall(
        self, content: _Content, known: dict[str, Kept[T]], key: str, find: Callable[[], T]
    ) -> T:
        kept = known.get(key)
        if kept is None or not kept.final:
            watch = Watch()
            value = find()
            tries = kept.tries + 1 if kept else 1
            known[key] = Kept(value, quiet=not watch.disturbed, tries=tries)
            self._store(content)
        return known[key].value

    def _load(self) -> _Content:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_Content)
        except (OSError, msgspec.DecodeError):
            return _Content()

    def _store(self, content: _Content) -> None:
        """Keep results; a cache that cannot be written only costs the measurement again."""
        folder = self._file.parent
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, name = tempfile.mkstemp(dir=folder)
            with os.fdopen(handle, "wb") as part:
                part.write(msgspec.json.encode(content))
            Path(name).replace(self._file)
        except OSError as error:
            logger.warning("cannot keep the measurement in %s: %s", folder, error.strerror)
