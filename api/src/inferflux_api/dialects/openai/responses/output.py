"""Items of an answer while they are written, and the events that tell of it."""

from __future__ import annotations

from abc import ABC, abstractmethod

import msgspec

from inferflux_api.dialects.openai.rendering import chat_logprobs
from inferflux_api.dialects.openai.responses.events import EventWriter
from inferflux_api.dialects.openai.responses.items import Item, item_id
from inferflux_core.engine.protocol import TokenReport

__all__ = ["CallItem", "MessageItem", "OpenItem", "ReasoningItem", "SummaryItem"]

_encode = msgspec.json.encode


class OpenItem(ABC):
    """An item to which the model still adds.

    Attributes:
        prefix: of its id.
        delta_event: what tells of more text.
        id: of the item.
        item: what will be kept, once it is closed.
    """

    prefix = ""
    delta_event = ""

    def __init__(self, writer: EventWriter, index: int) -> None:
        self.writer = writer
        self.id = item_id(self.prefix)
        self.index = index
        self.item: Item = {}
        self._text: list[str] = []
        self._head = b""

    def open(self) -> bytes:
        """The events that open it."""
        self.item = self.blank()
        added = self.writer.event(
            "response.output_item.added", output_index=self.index, item=self.item
        )
        # What is the same in each delta is encoded once.
        self._head = self.writer.head(self.delta_event, **self.where()) + b',"delta":'
        return added + self.opened()

    def add(self, text: str) -> bytes:
        """The event for more text."""
        self._text.append(text)
        return self._head + _encode(text) + self.writer.tail()

    def close(self, status: str) -> bytes:
        """The events that close it, with `status` `completed` or `incomplete`."""
        events = self.closed("".join(self._text))
        self.item["status"] = status
        return events + self.writer.event(
            "response.output_item.done", output_index=self.index, item=self.item
        )

    def place(self) -> dict[str, str | int]:
        """Where the item is."""
        return {"item_id": self.id, "output_index": self.index}

    @abstractmethod
    def where(self) -> dict[str, object]:
        """Fields of deltas that stay the same."""

    @abstractmethod
    def blank(self) -> Item:
        """The item before anything is in it."""

    @abstractmethod
    def opened(self) -> bytes:
        """The events that open its part, if it has parts."""

    @abstractmethod
    def closed(self, text: str) -> bytes:
        """Put the text into the item; the events that close its part."""


class MessageItem(OpenItem):
    """Text of the answer."""

    prefix = "msg"
    delta_event = "response.output_text.delta"

    def __init__(self, writer: EventWriter, index: int) -> None:
        super().__init__(writer, index)
        self._logprobs: list[dict[str, object]] = []

    def add_reported(self, text: str, reports: list[TokenReport]) -> bytes:
        """The event for more text with the log-probabilities of its tokens."""
        logprobs = chat_logprobs(reports)["content"]
        self._logprobs += logprobs
        self._text.append(text)
        where = self.where() | {"logprobs": logprobs}
        return self.writer.event(self.delta_event, **where, delta=text)

    def where(self) -> dict[str, object]:
        """Fields of deltas that stay the same."""
        return {**self.place(), "content_index": 0, "logprobs": []}

    def blank(self) -> Item:
        """The item before anything is in it."""
        return {
            "id": self.id,
            "type": "message",
            "status": "in_progress",
            "role": "assistant",
            "content": [],
        }

    def opened(self) -> bytes:
        """The event that opens its part."""
        return self.writer.event(
            "response.content_part.added", **self.place(), content_index=0, part=self._part("")
        )

    def closed(self, text: str) -> bytes:
        """Put the text into the item; the events that close its part."""
        part = self._part(text)
        self.item["content"] = [part]
        where = self.where() | {"logprobs": self._logprobs}
        return self.writer.event(
            "response.output_text.done", **where, text=text
        ) + self.writer.event(
            "response.content_part.done", **self.place(), content_index=0, part=part
        )

    def _part(self, text: str) -> Item:
        return {
            "type": "output_text",
            "text": text,
            "annotations": [],
            "logprobs": self._logprobs,
        }


class ReasoningItem(OpenItem):
    """Reasoning as it was written."""

    prefix = "rs"
    delta_event = "response.reasoning_text.delta"

    def where(self) -> dict[str, object]:
        """Fields of deltas that stay the same."""
        return {**self.place(), "content_index": 0}

    def blank(self) -> Item:
        """The item before anything is in it."""
        return {
            "id": self.id,
            "type": "reasoning",
            "status": "in_progress",
            "summary": [],
            "content": [],
            "encrypted_content": None,
        }

    def opened(self) -> bytes:
        """The event that opens its part."""
        part = {"type": "reasoning_text", "text": ""}
        return self.writer.event("response.content_part.added", **self.where(), part=part)

    def closed(self, text: str) -> bytes:
        """Put the text into the item; the events that close its part."""
        part = {"type": "reasoning_text", "text": text}
        self.item["content"] = [part]
        return self.writer.event(
            "response.reasoning_text.done", **self.where(), text=text
        ) + self.writer.event("response.content_part.done", **self.where(), part=part)


class SummaryItem(ReasoningItem):
    """Reasoning for clients that asked for a summary: nobody here shortens it, so it is all of it."""

    delta_event = "response.reasoning_summary_text.delta"

    def where(self) -> dict[str, object]:
        """Fields of deltas that stay the same."""
        return {**self.place(), "summary_index": 0}

    def opened(self) -> bytes:
        """The event that opens its part."""
        part = {"type": "summary_text", "text": ""}
        return self.writer.event("response.reasoning_summary_part.added", **self.where(), part=part)

    def closed(self, text: str) -> bytes:
        """Put the text into the item; the events that close its part."""
        part = {"type": "summary_text", "text": text}
        self.item["summary"] = [part]
        return self.writer.event(
            "response.reasoning_summary_text.done", **self.where(), text=text
        ) + self.writer.event("response.reasoning_summary_part.done", **self.where(), part=part)


class CallItem(OpenItem):
    """A call of a function."""

    prefix = "fc"
    delta_event = "response.function_call_arguments.delta"

    def __init__(self, writer: EventWriter, index: int, call_id: str, name: str) -> None:
        super().__init__(writer, index)
        self._call_id = call_id
        self._name = name

    def where(self) -> dict[str, object]:
        """Fields of deltas that stay the same."""
        return {**self.place()}

    def blank(self) -> Item:
        """The item before anything is in it."""
        return {
            "id": self.id,
            "type": "function_call",
            "status": "in_progress",
            "call_id": self._call_id,
            "name": self._name,
            "arguments": "",
        }

    def opened(self) -> bytes:
        """A call has no parts."""
        return b""

    def closed(self, text: str) -> bytes:
        """Put the arguments into the item; the event that says they are complete."""
        self.item["arguments"] = text
        return self.writer.event(
            "response.function_call_arguments.done",
            **self.place(),
            name=self._name,
            arguments=text,
        )
