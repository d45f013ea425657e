"""From our answers to OpenAI's, whole and streamed.

A chunk is made of bytes that are the same for the whole stream and one escaped string: on a machine with
few cores, what the server spends per token is taken from the model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import msgspec

from inferflux_api.choices import Choice
from inferflux_api.dialects.openai.errors import error_event
from inferflux_api.generation import Delta, Echo, Usage
from inferflux_api.pipeline import Generation
from inferflux_core.engine.protocol import TokenReport
from inferflux_core.errors import InferFluxError
from inferflux_core.tool_calls.parser import ToolCallDelta

__all__ = ["ChatRenderer", "CompletionRenderer", "chat_logprobs", "usage_of"]

_DONE = b"data: [DONE]\n\n"
_LOWEST_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON cannot say."""

_encode = msgspec.json.encode


class _Renderer(ABC):
    """What both endpoints share: identity, usage, chunk assembly."""

    prefix = ""
    object = ""
    chunk_object = ""

    def __init__(self, generation: Generation, *, include_usage: bool = False) -> None:
        self._generation = generation
        self._include_usage = include_usage
        self._opened: set[int] = set()
        self._last: tuple[str, str | None] = ("stop", None)
        self.shows_logprobs = generation.request.params.logprobs is not None
        self._identity = {
            "id": f"{self.prefix}{generation.id}",
            "created": generation.created,
            "model": generation.model_name,
        }
        head = _encode({**self._identity, "object": self.chunk_object})
        # `{"id":...,"object":...` left open for the choices.
        self._head = b"data: " + head[:-1] + b',"choices":['

    def start(self) -> bytes:
        """Every choice has an opening event of its own."""
        return b""

    def delta(self, delta: Delta) -> bytes:
        """The events for a delta."""
        if delta.finish_reason is not None:
            self._last = (delta.finish_reason, delta.stop_sequence)
        if delta.index in self._opened:
            return self.next(delta)
        self._opened.add(delta.index)
        return self.first(delta) + self.next(delta)

    async def end(self) -> bytes:
        """The last events."""
        return (self._usage_chunk() if self._include_usage else b"") + _DONE

    def extras(self, finish_reason: str, stop_sequence: str | None) -> dict[str, Any]:
        """What a dialect that builds on this one adds to an answer, given how it ended."""
        del finish_reason, stop_sequence
        return {}

    def error(self, error: InferFluxError) -> bytes:
        """The last events after something went wrong."""
        return error_event(error) + _DONE

    def chunk(self, choice: bytes) -> bytes:
        """One SSE event with one choice."""
        return self._head + choice + b"]}\n\n"

    def _usage_chunk(self) -> bytes:
        fields = {"usage": usage_of(self._generation.usage), **self.extras(*self._last)}
        return self._head + b"]," + _encode(fields)[1:] + b"\n\n"

    @abstractmethod
    def first(self, delta: Delta) -> bytes:
        """The event that opens a choice, whose first delta is at hand."""

    @abstractmethod
    def next(self, delta: Delta) -> bytes:
        """The events for what is new about a choice."""

    @abstractmethod
    def choice(self, index: int, choice: Choice) -> dict[str, Any]:
        """A choice of the whole answer."""

    def body(self, choices: Sequence[Choice]) -> bytes:
        """The whole answer."""
        return _encode(
            {
                **self._identity,
                "object": self.object,
                "choices": [self.choice(index, choice) for index, choice in enumerate(choices)],
                "usage": usage_of(self._generation.usage),
                **self.extras(choices[0].finish_reason, choices[0].stop_sequence),
            }
        )


class ChatRenderer(_Renderer):
    """`chat.completion` and `chat.completion.chunk`."""

    prefix = "chatcmpl-"
    object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def first(self, delta: Delta) -> bytes:
        """The event that opens a choice, whose first delta is at hand."""
        return self.chunk(
            b'{"index":%d,"delta":{"role":"assistant","content":""},"logprobs":null,'
            b'"finish_reason":null}' % delta.index
        )

    def next(self, delta: Delta) -> bytes:
        """The events for a delta: reasoning, content, calls, then the end of the choice."""
        events = b""
        if delta.reasoning:
            reasoning = _encode(delta.reasoning)
            # Clients are split over the name of the field.
            events = self.chunk(
                b'{"index":%d,"delta":{"reasoning_content":%b,"reasoning":%b},"logprobs":null,'
                b'"finish_reason":null}' % (delta.index, reasoning, reasoning)
            )
        if delta.text or delta.reports:
            logprobs = _encode(chat_logprobs(delta.reports)) if delta.reports else b"null"
            events += self.chunk(
                b'{"index":%d,"delta":{"content":%b},"logprobs":%b,"finish_reason":null}'
                % (delta.index, _encode(delta.text), logprobs)
            )
        for call in delta.tool_calls:
            events += self.chunk(
                b'{"index":%d,"delta":{"tool_calls":[%b]},"logprobs":null,"finish_reason":null}'
                % (delta.index, _encode(_call_delta(call)))
            )
        if delta.finish_reason is not None:
            events += self.chunk(
                b'{"index":%d,"delta":{},"logprobs":null,"finish_reason":%b}'
                % (delta.index, _encode(delta.finish_reason))
            )
        return events

    def choice(self, index: int, choice: Choice) -> dict[str, Any]:
        """A choice of the whole answer."""
        return {
            "index": index,
            "message": _message(choice),
            "logprobs": chat_logprobs(choice.reports) if self.shows_logprobs else None,
            "finish_reason": choice.finish_reason,
        }


class CompletionRenderer(_Renderer):
    """`text_completion`, which streams under the same name."""

    prefix = "cmpl-"
    object = "text_completion"
    chunk_object = "text_completion"

    def __init__(self, generation: Generation, *, include_usage: bool = False) -> None:
        super().__init__(generation, include_usage=include_usage)
        self._offsets: dict[int, int] = {}

    def first(self, delta: Delta) -> bytes:
        """The prompt, if it is to be echoed; otherwise completions have no opening event."""
        if (echo := self._echo(delta.index)) is None:
            return b""
        logprobs = None
        if self.shows_logprobs:
            logprobs = _legacy_logprobs([echo.first_piece, *delta.prompt_reports], 0)
            self._offsets[delta.index] = sum(map(len, logprobs["tokens"]))
        return self.chunk(
            b'{"index":%d,"text":%b,"logprobs":%b,"finish_reason":null}'
            % (delta.index, _encode(echo.text), _encode(logprobs))
        )

    def next(self, delta: Delta) -> bytes:
        """The event for a delta."""
        logprobs = b"null"
        if delta.reports:
            offset = self._offsets.get(delta.index, 0)
            self._offsets[delta.index] = offset + sum(len(_text(r.piece)) for r in delta.reports)
            logprobs = _encode(_legacy_logprobs(delta.reports, offset))
        return self.chunk(
            b'{"index":%d,"text":%b,"logprobs":%b,"finish_reason":%b}'
            % (delta.index, _encode(delta.text), logprobs, _encode(delta.finish_reason))
        )

    def choice(self, index: int, choice: Choice) -> dict[str, Any]:
        """A choice of the whole answer."""
        echo = self._echo(index)
        tokens: list[TokenReport | bytes] = [*choice.reports]
        if echo is not None:
            tokens = [echo.first_piece, *choice.prompt_reports, *tokens]
        return {
            "index": index,
            "text": choice.text if echo is None else echo.text + choice.text,
            "logprobs": _legacy_logprobs(tokens, 0) if self.shows_logprobs else None,
            "finish_reason": choice.finish_reason,
        }

    def _echo(self, index: int) -> Echo | None:
        """The prompt that choice `index` continues, if it is to be shown."""
        request = self._generation.request
        return self._generation.echoes[index // request.n] if request.echo else None


def _message(choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": choice.text if choice.text or not choice.tool_calls else None,
        "refusal": None,
    }
    if choice.reasoning:
        message["reasoning_content"] = message["reasoning"] = choice.reasoning
    if choice.tool_calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in choice.tool_calls
        ]
    return message


def _call_delta(call: ToolCallDelta) -> dict[str, Any]:
    if call.id is None:
        return {"index": call.index, "function": {"arguments": call.arguments}}
    return {
        "index": call.index,
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def usage_of(usage: Usage) -> dict[str, Any]:
    """Usage as both endpoints tell it."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def chat_logprobs(reports: list[TokenReport]) -> dict[str, Any]:
    """Log-probabilities in the shape of chats."""
    return {
        "content": [
            {
                **_token(report.piece, report.logprob),
                "top_logprobs": [_token(piece, lp) for piece, lp in report.alternatives],
            }
            for report in reports
        ],
        "refusal": None,
    }


def _token(piece: bytes, logprob: float) -> dict[str, Any]:
    return {
        "token": _text(piece),
        "logprob": max(logprob, _LOWEST_LOGPROB),
        "bytes": list(piece),
    }


def _legacy_logprobs(reports: Sequence[TokenReport | bytes], offset: int) -> dict[str, Any]:
    """Of tokens that begin at `offset` in the text; of one that nothing predicted, bytes are known."""
    tokens = [_text(report if isinstance(report, bytes) else report.piece) for report in reports]
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token)
    return {
        "tokens": tokens,
        "token_logprobs": [
            None if isinstance(report, bytes) else max(report.logprob, _LOWEST_LOGPROB)
            for report in reports
        ],
        "top_logprobs": [
            None if isinstance(report, bytes) else _alternatives(report) for report in reports
        ],
        "text_offset": offsets,
    }


def _alternatives(report: TokenReport) -> dict[str, float]:
    # From the worst to the best: of pieces that look alike, such as parts of characters, the best counts.
    return {
        _text(piece): max(logprob, _LOWEST_LOGPROB)
        for piece, logprob in reversed(report.alternatives)
    }


def _text(piece: bytes) -> str:
    # A token may be part of a character; `bytes` tells the whole truth.
    return piece.decode("utf-8", "replace")
