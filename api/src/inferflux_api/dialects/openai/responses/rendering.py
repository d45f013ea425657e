"""From our answers to responses: the events of a stream, and the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from inferflux_api.dialects.openai.responses.draft import Draft
from inferflux_api.dialects.openai.responses.events import SSE, EventWriter, Framing
from inferflux_api.dialects.openai.responses.output import (
    CallItem,
    MessageItem,
    OpenItem,
    ReasoningItem,
    SummaryItem,
)
from inferflux_api.generation import Delta
from inferflux_core.engine.protocol import TokenReport
from inferflux_core.errors import InferFluxError
from inferflux_core.tool_calls.parser import ToolCallDelta

__all__ = ["ResponseRenderer"]

Keep = Callable[[bytes], None]


class ResponseRenderer:
    """Writes a response, and the events that tell of it. A `StreamRenderer`.

    Args:
        draft: to complete.
        keep: called once with the JSON of the response when it has ended, however that was.
        framing: of the events.
        summary: whether reasoning is told as a summary.
        silent: whether what the model says is not shown.
    """

    def __init__(
        self,
        draft: Draft,
        keep: Keep,
        *,
        framing: Framing = SSE,
        summary: bool = False,
        silent: bool = False,
    ) -> None:
        self.draft = draft
        self._keep = keep
        self._writer = EventWriter(framing)
        self._reasoning_item = SummaryItem if summary else ReasoningItem
        self._silent = silent
        self._open: OpenItem | None = None
        self._created = False
        self._reports: list[TokenReport] = []
        self._finish_reason = "stop"
        self.body = b""

    def queued(self) -> bytes:
        """The events of a response that has to wait."""
        self.draft.status = "queued"
        self._created = True
        return self._state("response.created") + self._state("response.queued")

    def start(self) -> bytes:
        """The events before the first delta."""
        self.draft.status = "in_progress"
        created = b"" if self._created else self._state("response.created")
        return created + self._state("response.in_progress")

    def delta(self, delta: Delta) -> bytes:
        """The events for a delta: reasoning, text, calls."""
        if self._silent:
            return b""
        events = b""
        if delta.reasoning:
            events += self._add(self._reasoning_item, delta.reasoning)
        else:
            # A token that shows nothing yet is told of with the text it becomes a part of.
            self._reports += delta.reports
        if delta.tool_calls:
            events += self._add_with_calls(delta)
        elif delta.text:
            events += self._add_text(delta.text)
        if delta.finish_reason is not None:
            self._finish_reason = delta.finish_reason
        return events

    async def end(self) -> bytes:
        """The last events."""
        events = b""
        if not (self._silent or self._open or self.draft.output):
            # Clients look for a message, be it empty.
            events = self._begin(MessageItem)
        self.draft.end("stop" if self._silent else self._finish_reason)
        events += self._close(self.draft.status)
        return events + self._finish()

    def error(self, error: InferFluxError) -> bytes:
        """The last events after something went wrong."""
        self.draft.fail(error)
        return self._close("incomplete") + self._finish()

    def cancel(self) -> None:
        """Nobody wants it any more."""
        self.draft.status = "cancelled"
        self._close("incomplete")
        self._finished()

    def _add(self, kind: type[OpenItem], text: str) -> bytes:
        opening = b"" if type(self._open) is kind else self._begin(kind)
        assert self._open is not None
        return opening + self._open.add(text)

    def _add_text(self, text: str) -> bytes:
        if not self._reports:
            return self._add(MessageItem, text)
        reports, self._reports = self._reports, []
        opening = b"" if isinstance(self._open, MessageItem) else self._begin(MessageItem)
        assert isinstance(self._open, MessageItem)
        return opening + self._open.add_reported(text, reports)

    def _add_with_calls(self, delta: Delta) -> bytes:
        calls = delta.tool_calls
        # In a delta with both, text comes after the call that is open and before the next one.
        new = next((i for i, call in enumerate(calls) if call.id is not None), len(calls))
        events = self._add_calls(calls[:new])
        if delta.text:
            events += self._add_text(delta.text)
        events += self._add_calls(calls[new:])
        # Those of a call belong to no text.
        self._reports = []
        return events

    def _add_calls(self, calls: Sequence[ToolCallDelta]) -> bytes:
        events = b""
        for call in calls:
            if call.id is not None:
                events += self._begin(CallItem, call.id, call.name or "")
            if call.arguments:
                assert isinstance(self._open, CallItem)
                events += self._open.add(call.arguments)
        return events

    def _state(self, name: str) -> bytes:
        return self._writer.event(name, response=self.draft.body())

    def _begin(self, kind: type[OpenItem], *arguments: Any) -> bytes:
        closing = self._close("completed")
        self._open = kind(self._writer, len(self.draft.output), *arguments)
        return closing + self._open.open()

    def _close(self, status: str) -> bytes:
        if self._open is None:
            return b""
        closed, self._open = self._open, None
        events = closed.close(status)
        self.draft.output.append(closed.item)
        return events

    def _finish(self) -> bytes:
        self._finished()
        return self._state(f"response.{self.draft.status}")

    def _finished(self) -> None:
        self.body = msgspec.json.encode(self.draft.body())
        self._keep(self.body)
