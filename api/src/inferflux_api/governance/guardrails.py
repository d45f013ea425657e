"""Runs the configured guardrails over prompts and over what streams out."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from inferflux_core.errors import GuardrailBlockedError, GuardrailError
from inferflux_core.guardrails import (
    Blocked,
    Direction,
    Guardrail,
    GuardrailContext,
    TextFilter,
)

__all__ = ["FilterChain", "GuardrailPipeline"]

logger = logging.getLogger("inferflux.guardrails")


class FilterChain:
    """The filters of one stream of text, each fed with what the one before releases.

    A filter that fails in any other way than by `Blocked` stops the text as well: nothing leaves
    unchecked.
    """

    def __init__(self, filters: Mapping[str, TextFilter]) -> None:
        self._filters = filters

    def feed(self, text: str) -> str:
        """The text that may be released now.

        Raises:
            Blocked: the text must stop here.
            GuardrailError: a guardrail failed.
        """
        for name, each in self._filters.items():
            if not text:
                break
            text = self._run(name, each, text)
        return text

    def finish(self) -> str:
        """What the filters still held back.

        Raises:
            Blocked: the text must stop here.
            GuardrailError: a guardrail failed.
        """
        text = ""
        for name, each in self._filters.items():
            text = (self._run(name, each, text) if text else "") + self._run(name, each, None)
        return text

    def _run(self, name: str, each: TextFilter, text: str | None) -> str:
        try:
            return each.finish() if text is None else each.feed(text)
        except Blocked:
            raise
        except Exception as error:
            logger.exception("guardrail '%s' failed", name)
            raise GuardrailError(
                f"guardrail '{name}' failed; the text was not let through"
            ) from error


class GuardrailPipeline:
    """All configured guardrails, in the order of the configuration."""

    def __init__(self, guardrails: Mapping[str, Guardrail]) -> None:
        self._guardrails = guardrails

    @property
    def active(self) -> bool:
        """Whether anything is checked."""
        return bool(self._guardrails)

    def open(self, context: GuardrailContext) -> FilterChain:
        """Start checking one stream of text.

        Raises:
            GuardrailError: a guardrail cannot even start.
        """
        try:
            return FilterChain({name: g.open(context) for name, g in self._guardrails.items()})
        except Exception as error:
            logger.exception("a guardrail failed to start")
            raise GuardrailError("a guardrail failed; the text was not let through") from error

    def objections(self, context: GuardrailContext, text: str) -> dict[str, bool]:
        """Whether each guardrail would block a text, or change it.

        Raises:
            GuardrailError: a guardrail failed.
        """
        objections: dict[str, bool] = {}
        for name, guardrail in self._guardrails.items():
            chain = GuardrailPipeline({name: guardrail}).open(context)
            try:
                objections[name] = chain.feed(text) + chain.finish() != text
            except Blocked:
                objections[name] = True
        return objections

    def check_prompt(self, context: GuardrailContext, text: str) -> str:
        """The prompt as the model may see it.

        Raises:
            GuardrailBlockedError: a guardrail refuses it.
            GuardrailError: a guardrail failed.
        """
        assert context.direction is Direction.PROMPT
        chain = self.open(context)
        try:
            return chain.feed(text) + chain.finish()
        except Blocked as verdict:
            raise GuardrailBlockedError(
                f"the prompt was refused by the content policy ({verdict.rule})", param="messages"
            ) from None
