"""The configured guardrails, and what they say of the texts of a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

from inferflux_api.governance.filters import (
    ENFORCE,
    EnforcingFilter,
    FilterChain,
    ObservingFilter,
    Rule,
    Stage,
    refusal,
)
from inferflux_api.governance.findings import Effect, Findings
from inferflux_api.observability.metrics import Metrics
from inferflux_core.config import Config, guardrail_names, guardrail_options, guardrail_rule
from inferflux_core.errors import GuardrailBlockedError, GuardrailError
from inferflux_core.guardrails import Blocked, Direction, Guardrail, GuardrailContext, Reviewer
from inferflux_core.guardrails.workers import Workers
from inferflux_core.plugins import PluginManager

__all__ = ["GuardrailPipeline", "GuardrailWorkshop", "Inspection", "PromptCheck"]

_REVIEW_SECONDS: Final = 30.0
"""Of one review; reviewers have shorter limits of their own."""
_LONG: Final = 16 * 1024
_PIECE: Final = 4096
_THREADS: Final = Workers(lambda: None, 2)

T = TypeVar("T")


class GuardrailPipeline:
    """All configured guardrails, in the order of the configuration; filters go before reviewers.

    Args:
        guardrails: by name.
        rules: what they may do, where that differs from `ENFORCE`.
        metrics: to count findings in.
    """

    def __init__(
        self,
        guardrails: Mapping[str, Guardrail | Reviewer],
        rules: Mapping[str, Rule] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._rules = rules or {}
        self._metrics = metrics
        self._order = tuple(guardrails)
        self.filters: dict[str, Guardrail] = {}
        self.reviewers: dict[str, Reviewer] = {}
        for name, guardrail in guardrails.items():
            if isinstance(guardrail, Reviewer):
                self.reviewers[name] = guardrail
            else:
                self.filters[name] = guardrail

    @property
    def active(self) -> bool:
        """Whether anything is checked."""
        return bool(self._order)

    def rule(self, name: str) -> Rule:
        """What a guardrail may do."""
        return self._rules.get(name, ENFORCE)

    def inspect(
        self, context: GuardrailContext, headers: dict[str, str] | None = None
    ) -> Inspection:
        """Start inspecting texts of a request.

        Args:
            context: of the request, with the direction of its texts.
            headers: of its response, to which is added what was flagged.
        """
        findings = Findings(self._metrics, context, {} if headers is None else headers)
        return Inspection(self, context, findings)

    def check_prompt(
        self, context: GuardrailContext, headers: dict[str, str] | None = None
    ) -> PromptCheck:
        """Start checking the texts of a prompt."""
        assert context.direction is Direction.PROMPT
        return PromptCheck(self.inspect(context, headers))

    async def objections(self, context: GuardrailContext, text: str) -> dict[str, bool]:
        """Whether each guardrail would block a text, or change it.

        Raises:
            GuardrailError: a guardrail failed.
        """
        objections: dict[str, bool] = {}
        for name in self._order:
            seen: list[str] = []
            rule = replace(self.rule(name), action="enforce")
            guardrail = self.filters.get(name) or self.reviewers[name]
            alone = GuardrailPipeline({name: guardrail}, {name: rule})
            inspection = alone.inspect(context)
            try:
                chain = inspection.open()
                for piece in pieces(text):
                    seen.append(chain.feed(piece))
                    # Others have their turn meanwhile.
                    await asyncio.sleep(0)
                objections[name] = "".join((*seen, chain.finish())) != text
                await inspection.review(text)
            except Blocked:
                objections[name] = True
        return objections


class Inspection:
    """The guardrails at work on one request, in one direction.

    Attributes:
        piece: as in `Reviewer`, of the reviewer who wants the most; 0 if nobody reviews.
    """

    def __init__(
        self, pipeline: GuardrailPipeline, context: GuardrailContext, findings: Findings
    ) -> None:
        self._pipeline = pipeline
        self._findings = findings
        self._contexts = {
            name: replace(context, flag=partial(findings.found, name, "flag"))
            for name in (*pipeline.filters, *pipeline.reviewers)
        }
        self._reviewers = {
            name: reviewer
            for name, reviewer in pipeline.reviewers.items()
            if context.direction in reviewer.directions
        }
        holding = [
            reviewer.piece
            for name, reviewer in self._reviewers.items()
            if pipeline.rule(name).action == "enforce"
        ]
        self.piece = None if None in holding else max((n or 0 for n in holding), default=0)

    @property
    def reviewed(self) -> bool:
        """Whether anybody wants to see whole texts."""
        return bool(self._reviewers)

    def open(self) -> FilterChain:
        """Start filtering one stream of text.

        Raises:
            GuardrailError: a guardrail cannot even start.
        """
        return FilterChain(
            [stage for name in self._pipeline.filters if (stage := self._stage(name))]
        )

    def _stage(self, name: str) -> Stage | None:
        rule = self._pipeline.rule(name)
        try:
            inner = self._pipeline.filters[name].open(self._contexts[name])
        except Exception as error:
            self._findings.failed(name, rule.on_failure, error)
            if rule.on_failure == "block":
                raise refusal(name) from error
            return None
        kind = EnforcingFilter if rule.action == "enforce" else ObservingFilter
        return kind(name, inner, rule, self._findings)

    async def review(self, text: str) -> None:
        """Ask the reviewers.

        Raises:
            Blocked: one of them objects.
            GuardrailError: one of them failed.
        """
        if not text:
            return
        for name, reviewer in self._reviewers.items():
            rule = self._pipeline.rule(name)
            try:
                async with asyncio.timeout(_REVIEW_SECONDS):
                    await reviewer.review(self._contexts[name], text)
            except Blocked as verdict:
                effect: Effect = "block" if rule.action == "enforce" else rule.action
                self._findings.found(name, effect, verdict.rule)
                if effect == "block":
                    raise
            except Exception as error:
                self._findings.failed(name, rule.on_failure, error)
                if rule.on_failure == "block":
                    raise refusal(name) from error


class PromptCheck:
    """Checks the texts of one prompt: each as it comes, then all of them together."""

    def __init__(self, inspection: Inspection) -> None:
        self._inspection = inspection
        self._texts: list[str] = []
        self._given_up = False

    async def run(self, work: Callable[[], T], size: int) -> T:
        """Do what checks all texts of a prompt; long ones in a thread, so that others need not wait.

        Args:
            work: calls this object.
            size: of the prompt, in bytes.
        """
        if size <= _LONG:
            return work()
        try:
            return await _THREADS.run(lambda _: work())
        finally:
            self._given_up = True

    def __call__(self, text: str) -> str:
        """The text as the model may see it.

        Raises:
            GuardrailBlockedError: a guardrail refuses it.
            GuardrailError: a guardrail failed.
        """
        try:
            chain = self._inspection.open()
            text = "".join((*map(chain.feed, self._wanted(text)), chain.finish()))
        except Blocked as verdict:
            raise _refused(verdict) from None
        if self._inspection.reviewed:
            self._texts.append(text)
        return text

    def _wanted(self, text: str) -> Iterator[str]:
        for piece in pieces(text):
            if self._given_up:
                raise GuardrailError("nobody waits for this any more")
            yield piece

    async def review(self) -> None:
        """Ask the reviewers about everything that was checked, line by line.

        Raises:
            GuardrailBlockedError: a guardrail refuses it.
            GuardrailError: a guardrail failed.
        """
        try:
            await self._inspection.review("\n".join(self._texts))
        except Blocked as verdict:
            raise _refused(verdict) from None


def pieces(text: str) -> Iterator[str]:
    """A text in pieces that take a guardrail a few milliseconds."""
    return (text[start : start + _PIECE] for start in range(0, len(text), _PIECE))


def _refused(verdict: Blocked) -> GuardrailBlockedError:
    return GuardrailBlockedError(
        f"the prompt was refused by the content policy ({verdict.rule})", param="messages"
    )


class GuardrailWorkshop:
    """Makes pipelines, one after the other, and gives each what the one before it can share.

    Args:
        plugins: where guardrails come from.
        metrics: to count findings in.
    """

    def __init__(self, plugins: PluginManager, metrics: Metrics) -> None:
        self._plugins = plugins
        self._metrics = metrics
        self._made: dict[str, tuple[dict[str, Any], Guardrail | Reviewer]] = {}
        self._reviewers: list[Reviewer] = []

    def pipeline(self, config: Config) -> GuardrailPipeline:
        """The guardrails that a configuration asks for.

        Raises:
            StartupError: one of them cannot be had.
        """
        made: dict[str, tuple[dict[str, Any], Guardrail | Reviewer]] = {}
        for name in guardrail_names(config):
            options = guardrail_options(config, name)
            known = self._made.get(name)
            made[name] = (
                known if known and known[0] == options else (options, self._make(name, options))
            )
        rules = {name: Rule(*guardrail_rule(config, name)) for name in made}
        self._made = made
        return GuardrailPipeline({n: made[n][1] for n in made}, rules, self._metrics)

    async def close(self) -> None:
        """Let go of what reviewers hold."""
        for reviewer in self._reviewers:
            await reviewer.close()

    def _make(self, name: str, options: dict[str, Any]) -> Guardrail | Reviewer:
        spec = self._plugins.guardrail(name)
        guardrail = spec.factory(self._plugins.options(spec, options))
        if isinstance(guardrail, Reviewer):
            # Requests that began earlier still ask it when another has taken its place.
            self._reviewers.append(guardrail)
        return guardrail
