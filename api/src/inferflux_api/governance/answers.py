"""What of an answer may leave: its text, its reasoning and its calls, each as one stream of text."""

from __future__ import annotations

import math
from dataclasses import replace

from inferflux_api.generation import Delta
from inferflux_api.governance.arguments import checked_arguments
from inferflux_api.governance.filters import FilterChain
from inferflux_api.governance.guardrails import Inspection
from inferflux_core.guardrails import Blocked
from inferflux_core.tool_calls.parser import ToolCallDelta

__all__ = ["AnswerGuard"]


class AnswerGuard:
    """Inspects one choice, told apart into text, reasoning and calls.

    A call is held back until it is complete, since its arguments are judged by what they mean and not by
    how they are spelled. Where a reviewer wants to see more than a delta, everything is.
    """

    def __init__(self, inspection: Inspection) -> None:
        self._inspection = inspection
        self._text = _Field(inspection)
        self._reasoning = _Field(inspection)
        self._calls: dict[int, ToolCallDelta] = {}
        self._call_texts: list[str] = []
        self._waiting: list[Delta] = []
        self._unseen = 0

    async def check(self, delta: Delta, complete_calls: int) -> Delta:
        """What may leave now.

        Args:
            delta: what is new about the choice.
            complete_calls: calls of the choice that have ended.

        Returns:
            Perhaps nothing to show; with the finish reason `content_filter` if the choice ends here.

        Raises:
            GuardrailError: a guardrail failed.
        """
        try:
            delta = self._filtered(delta, complete_calls)
            return await self._reviewed(delta) if self._inspection.reviewed else delta
        except Blocked:
            return Delta(delta.index, "", "content_filter", score=-math.inf)

    def _filtered(self, delta: Delta, complete_calls: int) -> Delta:
        ends = delta.finish_reason is not None
        text_comes = bool(delta.text) or bool(delta.tool_calls) or ends
        # Of a delta with a whole call, nobody knows whether the text comes before or after.
        in_call = any(call.index >= complete_calls for call in delta.tool_calls)
        return replace(
            delta,
            reasoning=self._reasoning.feed(delta.reasoning, pause=text_comes),
            text=self._text.feed(delta.text, pause=in_call or ends),
            tool_calls=self._complete(delta.tool_calls, math.inf if ends else complete_calls),
        )

    def _complete(self, deltas: list[ToolCallDelta], count: float) -> list[ToolCallDelta]:
        """Take in what is new about calls; return those that are complete."""
        for new in deltas:
            known = self._calls.get(new.index)
            self._calls[new.index] = (
                new if known is None else replace(known, arguments=known.arguments + new.arguments)
            )
        ready = [index for index in self._calls if index < count]
        return [self._checked(self._calls.pop(index)) for index in ready]

    def _checked(self, call: ToolCallDelta) -> ToolCallDelta:
        def check(text: str) -> str:
            chain = self._inspection.open()
            text = chain.feed(text) + chain.finish()
            self._call_texts.append(text)
            return text

        return replace(call, arguments=checked_arguments(call.arguments, check))

    async def _reviewed(self, delta: Delta) -> Delta:
        piece, ends = self._inspection.piece, delta.finish_reason is not None
        calls = sum(len(call.arguments) for call in delta.tool_calls)
        self._unseen += len(delta.text) + len(delta.reasoning) + calls
        if piece != 0:
            self._waiting.append(delta)
            delta = Delta(delta.index, "")
        if not ends and (not piece or self._unseen < piece):
            return delta
        fields = (self._reasoning.released, self._text.released, *self._call_texts)
        await self._inspection.review("\n".join(filter(None, fields)))
        if piece == 0:
            return delta
        waiting, self._waiting, self._unseen = self._waiting, [], 0
        return _joined(waiting)


class _Field:
    """One stream of text with pauses, at which nothing is held back.

    What follows a pause is judged together with what went before. If that would have changed what was
    released already, the text is blocked.
    """

    def __init__(self, inspection: Inspection) -> None:
        self._inspection = inspection
        self._chain: FilterChain | None = None
        self._fed: list[str] = []
        self._released: list[str] = []
        # What the chain has yet to repeat of the text that was released before a pause.
        self._owed = ""

    def feed(self, text: str, *, pause: bool) -> str:
        """The text that may be released now.

        Raises:
            Blocked: the text must stop here.
            GuardrailError: a guardrail failed.
        """
        if self._chain is None:
            if not text:
                return ""
            self._chain, self._owed = self._inspection.open(), self.released
            released = self._chain.feed("".join(self._fed) + text)
        else:
            released = self._chain.feed(text) if text else ""
        self._fed.append(text)
        if pause:
            released += self._chain.finish()
            self._chain = None
        if self._owed:
            released = self._without_owed(released, complete=pause)
        self._released.append(released)
        return released

    @property
    def released(self) -> str:
        """All that was released."""
        return "".join(self._released)

    def _without_owed(self, released: str, *, complete: bool) -> str:
        known = min(len(released), len(self._owed))
        if released[:known] != self._owed[:known] or (complete and known < len(self._owed)):
            raise Blocked("pause")
        self._owed = self._owed[known:]
        return released[known:]


def _joined(deltas: list[Delta]) -> Delta:
    return replace(
        deltas[-1],
        text="".join(delta.text for delta in deltas),
        reasoning="".join(delta.reasoning for delta in deltas),
        tool_calls=[call for delta in deltas for call in delta.tool_calls],
    )
