"""The filters of a stream of text in a row, and what becomes of what they find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from inferflux_api.governance.findings import Effect, Findings, OnFailure
from inferflux_core.errors import GuardrailError
from inferflux_core.guardrails import Blocked, TextFilter

__all__ = [
    "ENFORCE",
    "EnforcingFilter",
    "FilterChain",
    "ObservingFilter",
    "Rule",
    "Stage",
    "refusal",
]


@dataclass(frozen=True, slots=True)
class Rule:
    """What a guardrail may do.

    Attributes:
        action: `enforce`: what it does by itself, which is to block or to mask; `flag` and `log`: nothing.
        on_failure: what becomes of a text when it fails.
    """

    action: Literal["enforce", "flag", "log"] = "enforce"
    on_failure: OnFailure = "block"


ENFORCE: Final = Rule()


class Stage(Protocol):
    """A filter that fails in two ways only: `Blocked` and `GuardrailError`."""

    def feed(self, text: str) -> str:
        """As `TextFilter.feed`."""

    def finish(self) -> str:
        """As `TextFilter.finish`."""


class FilterChain:
    """The filters of one stream of text, each fed with what the one before releases."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = stages

    def feed(self, text: str) -> str:
        """The text that may be released now.

        Raises:
            Blocked: the text must stop here.
            GuardrailError: a guardrail failed.
        """
        for stage in self._stages:
            if not text:
                break
            text = stage.feed(text)
        return text

    def finish(self) -> str:
        """What the filters still held back.

        Raises:
            Blocked: the text must stop here.
            GuardrailError: a guardrail failed.
        """
        text = ""
        for stage in self._stages:
            text = (stage.feed(text) if text else "") + stage.finish()
        return text


def refusal(name: str) -> GuardrailError:
    """What is raised when a guardrail fails."""
    return GuardrailError(f"guardrail '{name}' failed; the text was not let through")


class _Watched:
    """A filter, and a comparison of what it releases with what it was fed."""

    def __init__(self, name: str, inner: TextFilter, rule: Rule, findings: Findings) -> None:
        self._name = name
        self._inner = inner
        self._rule = rule
        self._findings = findings
        self._held = ""
        self._changed = False
        self._done = False

    def _run(self, text: str | None) -> str:
        """Feed the filter, or finish it if there is no text.

        Raises:
            Blocked: by the filter.
        """
        released = self._inner.finish() if text is None else self._inner.feed(text)
        if not isinstance(released, str):
            raise TypeError(f"a filter released {type(released).__name__}, not text")
        if not self._changed:
            held = self._held + (text or "")
            if held.startswith(released) and (text is not None or released == held):
                self._held = held[len(released) :]
            else:
                self._changed = True
        return released

    def _failed(self, error: Exception, *, can_go_on: bool) -> None:
        """Note a failure; nothing is inspected any more.

        Raises:
            GuardrailError: the text may not go on without being inspected.
        """
        self._done = True
        on_failure = self._rule.on_failure if can_go_on else "block"
        self._findings.failed(self._name, on_failure, error)
        if on_failure == "block":
            raise refusal(self._name) from error


class EnforcingFilter(_Watched):
    """Does as the filter says."""

    def feed(self, text: str) -> str:
        """The text that may be released now."""
        return self._enforce(text)

    def finish(self) -> str:
        """What was held back."""
        return self._enforce(None)

    def _enforce(self, text: str | None) -> str:
        if self._done:
            return text or ""
        unchanged = not self._changed
        try:
            released = self._run(text)
        except Blocked as verdict:
            self._findings.found(self._name, "block", verdict.rule)
            raise
        except Exception as error:
            # Where the text was changed before, what is held back of it is not known.
            self._failed(error, can_go_on=unchanged)
            return self._held + (text or "")
        if unchanged and self._changed:
            self._findings.found(self._name, "mask", self._name)
        return released


class ObservingFilter(_Watched):
    """Lets everything through at once, and notes whether the filter would have."""

    def feed(self, text: str) -> str:
        """The same text."""
        self._observe(text)
        return text

    def finish(self) -> str:
        """Nothing: nothing is held back."""
        self._observe(None)
        return ""

    def _observe(self, text: str | None) -> None:
        if self._done:
            return
        rule = self._name
        try:
            self._run(text)
        except Blocked as verdict:
            rule = verdict.rule
            self._done = True
        except Exception as error:
            self._failed(error, can_go_on=True)
            return
        if self._done or self._changed:
            self._done = True
            effect: Effect = "log" if self._rule.action == "log" else "flag"
            self._findings.found(self._name, effect, rule)
