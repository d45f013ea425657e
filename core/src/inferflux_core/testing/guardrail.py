# ruff: noqa: D102 - a test's name says what it shows
"""What every guardrail must do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferflux_core.guardrails import (
    Blocked,
    Direction,
    Guardrail,
    GuardrailContext,
    Reviewer,
    TextFilter,
)
from inferflux_core.plugins import GUARDRAIL, PluginManager
from inferflux_core.specs import GuardrailSpec
from inferflux_core.testing.contract import PluginContract

__all__ = ["GuardrailContract"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a text: what was released before the end, and the rule that stopped it."""

    released: str
    rule: str | None = None


class GuardrailContract(PluginContract):
    """The tests of a guardrail.

    Attributes:
        findings: required: texts that may not get through, each enough on its own.
        harmless: required: texts that must get through unchanged.

    Example:
        class TestHaiku(GuardrailContract):
            plugin_name = "haiku"
            findings = ("prose",)
            harmless = ("An old silent pond",)
    """

    kind = GUARDRAIL
    findings: ClassVar[tuple[str, ...]]
    harmless: ClassVar[tuple[str, ...]]

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        """What an operator would write under `guardrails.options.<name>`."""
        return {}

    @pytest.fixture
    def guardrail(self, options: dict[str, Any]) -> Guardrail:
        """The plugin with its options."""
        spec = cast("GuardrailSpec", self.spec())
        guardrail = spec.factory(PluginManager().options(spec, options))
        assert not isinstance(guardrail, Reviewer), "a reviewer has no filters to test"
        return guardrail

    @pytest.mark.parametrize("direction", Direction)
    def test_harmless_text_passes_unchanged(
        self, guardrail: Guardrail, direction: Direction
    ) -> None:
        for text in ("", *self.harmless):
            assert _inspect(_open(guardrail, direction), [text]) == Verdict(text)

    @pytest.mark.parametrize("direction", Direction)
    def test_findings_do_not_get_through(self, guardrail: Guardrail, direction: Direction) -> None:
        for finding in self.findings:
            verdict = _inspect(_open(guardrail, direction), [finding])
            assert finding not in verdict.released
            if verdict.rule is not None:
                assert verdict.rule, "a rule is a category, for clients and for the audit trail"
                assert finding not in verdict.rule, "a rule never repeats what matched"

    def test_the_outcome_does_not_depend_on_the_pieces(self, guardrail: Guardrail) -> None:
        @settings(deadline=None)
        @given(text=self._texts(), places=st.lists(st.integers(0, 200), max_size=12))
        def check(text: str, places: list[int]) -> None:
            # Everything that can be released before a verdict is, one character at a time.
            finest = _inspect(_open(guardrail), text)
            verdict = _inspect(_open(guardrail), _cut(text, places))
            assert verdict.rule == finest.rule
            if verdict.rule is None:
                assert verdict.released == finest.released
            else:
                assert finest.released.startswith(verdict.released)

        check()

    def test_what_is_blocked_stays_blocked(self, guardrail: Guardrail) -> None:
        for finding in self.findings:
            text_filter = _open(guardrail)
            if _inspect(text_filter, [finding]).rule is None:
                continue
            with pytest.raises(Blocked):
                text_filter.feed(self.harmless[0])
            with pytest.raises(Blocked):
                text_filter.finish()

    def test_streams_do_not_disturb_each_other(self, guardrail: Guardrail) -> None:
        """Two texts, a character of each in turn, against each on its own."""
        texts = [*self.findings, *self.harmless]
        for one, other in pairwise([*texts, *reversed(texts)]):
            first, second = _Stream(_open(guardrail)), _Stream(_open(guardrail))
            for index in range(max(len(one), len(other))):
                first.feed(one[index : index + 1])
                second.feed(other[index : index + 1])
            assert first.finish() == _inspect(_open(guardrail), one)
            assert second.finish() == _inspect(_open(guardrail), other)

    def _texts(self) -> st.SearchStrategy[str]:
        """Findings and harmless texts, whole and in part, one after the other."""
        whole = [*self.findings, *self.harmless]
        parts = [
            part for text in whole for part in (text[: len(text) // 2], text[len(text) // 2 :])
        ]
        words = [word for text in whole for word in text.split()]
        fragments = st.sampled_from([*whole, *parts, *words, " ", ".", "\n"])
        return st.lists(fragments, max_size=8).map("".join)


class _Stream:
    """A filter that may have given its verdict."""

    def __init__(self, text_filter: TextFilter) -> None:
        self._filter = text_filter
        self._released = ""
        self._rule: str | None = None

    def feed(self, piece: str) -> None:
        self._take(lambda: self._filter.feed(piece))

    def finish(self) -> Verdict:
        self._take(self._filter.finish)
        return Verdict(self._released, self._rule)

    def _take(self, more: Callable[[], str]) -> None:
        if self._rule is None:
            try:
                self._released += more()
            except Blocked as blocked:
                self._rule = blocked.rule


def _open(guardrail: Guardrail, direction: Direction = Direction.OUTPUT) -> TextFilter:
    return guardrail.open(GuardrailContext("request-1", "default", "model", direction))


def _inspect(text_filter: TextFilter, pieces: Iterable[str]) -> Verdict:
    stream = _Stream(text_filter)
    for piece in pieces:
        stream.feed(piece)
    return stream.finish()


def _cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]
