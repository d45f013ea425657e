"""Making constraints of what requests ask for."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from llguidance import LLMatcher, LLTokenizer

from inferflux_core.engine.constraints.grammar import LIMITS
from inferflux_core.engine.constraints.matcher import MatcherState
from inferflux_core.engine.constraints.state import ConstraintState
from inferflux_core.engine.constraints.trial import Trial
from inferflux_core.engine.constraints.vocabulary import build_vocabulary
from inferflux_core.engine.runner import Tokenizer
from inferflux_core.engine.sampling_params import Constraint
from inferflux_core.errors import InvalidRequestError, QueueFullError
from inferflux_core.tool_calls.formats import GENERIC, ToolFormat

__all__ = ["ConstraintCompiler"]

_CACHE_ENTRIES: Final = 64
_CACHE_SECONDS: Final = 2.0
"""What is compiled takes at most 150 MB per second that it took, so this bounds the cache's memory."""
_MAX_DEBT_SECONDS: Final = 4.0
_REPAID_PER_SECOND: Final = 0.25
_NAMES: Final = {"json_schema": "JSON schema", "tool_calls": "set of tools"}


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A matcher at its beginning, or why there is none; and the time it took to find out."""

    matcher: LLMatcher | None
    problem: str
    seconds: float


class ConstraintCompiler:
    """Compiles constraints for one model, and remembers the last ones. For one thread.

    Compiling may take a quarter of the thread's time in the long run: requests wait behind it, and
    constraints that are made to be slow must not lock out others.

    Args:
        tokenizer: of the model; it is read when the first constraint comes.
        tool_format: how the model spells tool calls.
    """

    def __init__(self, tokenizer: Tokenizer, tool_format: ToolFormat = GENERIC) -> None:
        self._tokenizer = tokenizer
        self._tool_format = tool_format
        self._vocabulary: LLTokenizer | None = None
        self._trial = Trial()
        self._cache: OrderedDict[tuple[str, str], _Compiled] = OrderedDict()
        self._debt = 0.0
        self._debt_at = time.monotonic()

    def start(self, constraint: Constraint) -> ConstraintState:
        """Begin an output that keeps to a constraint.

        Raises:
            InvalidRequestError: the constraint is wrong, too complex, or nothing can satisfy it.
            QueueFullError: too many constraints took too long lately.
        """
        key = (constraint.kind, constraint.value)
        if key not in self._cache:
            self._remember(key, self._compile(constraint))
        self._cache.move_to_end(key)
        compiled = self._cache[key]
        if compiled.matcher is None:
            name = _NAMES.get(constraint.kind, constraint.kind)
            raise InvalidRequestError(
                f"this {name} cannot be used: {compiled.problem}", param=constraint.param
            )
        return MatcherState(
            compiled.matcher.deep_copy(), self._tokenizer.vocab_size, constraint.param
        )

    def _compile(self, constraint: Constraint) -> _Compiled:
        # The process starts while the vocabulary is read.
        self._trial.start()
        if self._vocabulary is None:
            self._vocabulary = build_vocabulary(self._tokenizer)
        self._check_debt()
        began = time.monotonic()
        matcher: LLMatcher | None = None
        try:
            grammar = self._trial.compile(constraint.kind, constraint.value, self._tool_format.name)
        except InvalidRequestError as error:
            problem = error.message
        else:
            matcher = LLMatcher(self._vocabulary, grammar, log_level=0, limits=LIMITS)
            problem = " ".join(matcher.get_error().split())
        seconds = time.monotonic() - began
        self._debt += seconds
        return _Compiled(None if problem else matcher, problem, seconds)

    def _remember(self, key: tuple[str, str], compiled: _Compiled) -> None:
        """Keep it, and forget the least recently used ones that it leaves no room for."""
        self._cache[key] = compiled
        total = sum(c.seconds for c in self._cache.values() if c.matcher is not None)
        while len(self._cache) > 1 and (
            len(self._cache) > _CACHE_ENTRIES or total > _CACHE_SECONDS
        ):
            _, forgotten = self._cache.popitem(last=False)
            total -= forgotten.seconds if forgotten.matcher is not None else 0.0

    def _check_debt(self) -> None:
        now = time.monotonic()
        self._debt = max(0.0, self._debt - (now - self._debt_at) * _REPAID_PER_SECOND)
        self._debt_at = now
        if self._debt > _MAX_DEBT_SECONDS:
            raise QueueFullError(
                "constraints have taken too long to compile lately; try again in some seconds, or use "
                "one that was used before"
            )
