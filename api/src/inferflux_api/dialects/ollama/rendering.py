"""From our answers to Ollama's, whole and line by line."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from typing import Any, Final

import msgspec

from inferflux_api.choices import Choice, ToolCall
from inferflux_api.dialects.ollama.durations import nanoseconds
from inferflux_api.dialects.ollama.errors import error_line
from inferflux_api.generation import Delta
from inferflux_api.pipeline import Generation
from inferflux_api.timestamps import timestamp
from inferflux_core.engine.protocol import TokenReport
from inferflux_core.errors import InferFluxError

__all__ = ["ChatRenderer", "GenerateRenderer", "RawRenderer"]

_DONE_REASONS: Final = {"tool_calls": "stop"}
_LOWEST_LOGPROB: Final = -9999.0
_encode = msgspec.json.encode


class _Renderer(ABC):
    """What both ways to generate share: identity, figures, calls that come whole."""

    def __init__(self, generation: Generation, name: str) -> None:
        self._generation = generation
        self._name = name
        self._head = b'{"model":' + _encode(name) + b',"created_at":"'
        self._call: ToolCall | None = None
        self._num_calls = 0
        self._text: list[str] = []
        self._reason = "stop"

    def start(self) -> bytes:
        """Nothing comes before the first line."""
        return b""

    def delta(self, delta: Delta) -> bytes:
        """The lines of a delta."""
        lines = b""
        self._text.append(delta.text)
        if delta.text or delta.reasoning or delta.reports:
            lines = self._line(self.piece(delta.text, delta.reasoning), delta.reports)
        if delta.tool_calls or self._call is not None:
            for call in self._completed(delta):
                lines += self._line(self.calls([call]))
        if delta.finish_reason is not None:
            self._reason = delta.finish_reason
        return lines

    async def end(self) -> bytes:
        """The line with the figures."""
        figures = await self._figures("".join(self._text))
        return self._line(self.piece("", "")[:-1] + b"," + _encode(figures)[1:], done=True)

    def error(self, error: InferFluxError) -> bytes:
        """The last line, when something went wrong on the way."""
        return error_line(error)

    async def body(self, choice: Choice) -> bytes:
        """The whole answer, while the generation is open."""
        self._reason = choice.finish_reason
        answer: dict[str, Any] = {"model": self._name, "created_at": timestamp(time.time())}
        answer |= self.whole(choice) | {"done": True}
        if choice.reports:
            answer["logprobs"] = _logprobs(choice.reports)
        return _encode(answer | await self._figures(choice.text))

    @abstractmethod
    def piece(self, text: str, reasoning: str) -> bytes:
        """A JSON object with more of the answer."""

    @abstractmethod
    def calls(self, calls: list[dict[str, Any]]) -> bytes:
        """A JSON object with calls."""

    @abstractmethod
    def whole(self, choice: Choice) -> dict[str, Any]:
        """The fields of a whole answer."""

    async def last_fields(self, text: str) -> dict[str, Any]:
        """What the last line has besides figures."""
        del text
        return {}

    def _line(
        self, fields: bytes, reports: list[TokenReport] | None = None, *, done: bool = False
    ) -> bytes:
        """A line with the fields of a JSON object."""
        line = self._head + timestamp(time.time()).encode() + b'",' + fields[1:-1]
        line += b',"done":true' if done else b',"done":false'
        if reports:
            line += b',"logprobs":' + _encode(_logprobs(reports))
        return line + b"}\n"

    def _completed(self, delta: Delta) -> list[dict[str, Any]]:
        """Calls that are whole now: the next one has begun, or the answer has ended."""
        found = []
        for part in delta.tool_calls:
            if part.id is not None and self._call is not None:
                found.append(self._taken())
            self._call = self._call or ToolCall()
            self._call.add(part)
        if delta.finish_reason is not None and self._call is not None:
            found.append(self._taken())
        return found

    def _taken(self) -> dict[str, Any]:
        assert self._call is not None
        call, self._call = self._call, None
        self._num_calls += 1
        return _call(call, self._num_calls - 1)

    async def _figures(self, text: str) -> dict[str, Any]:
        generation, usage = self._generation, self._generation.usage
        first, total = generation.first_token_seconds, generation.seconds
        figures = {
            "total_duration": nanoseconds(total),
            "load_duration": nanoseconds(generation.load_seconds),
            "prompt_eval_count": usage.prompt_tokens,
            "prompt_eval_duration": nanoseconds(first - generation.load_seconds),
            "eval_count": usage.completion_tokens,
            "eval_duration": nanoseconds(total - first),
        }
        reason = _DONE_REASONS.get(self._reason, self._reason)
        # Ollama leaves out what is zero.
        present = {name: value for name, value in figures.items() if value}
        return {"done_reason": reason, **await self.last_fields(text), **present}


class ChatRenderer(_Renderer):
    """Answers to `/api/chat`."""

    def piece(self, text: str, reasoning: str) -> bytes:
        """`{"message": ...}`."""
        thinking = b',"thinking":' + _encode(reasoning) if reasoning else b""
        return b'{"message":{"role":"assistant","content":%b%b}}' % (_encode(text), thinking)

    def calls(self, calls: list[dict[str, Any]]) -> bytes:
        """A message that calls."""
        return _encode({"message": {"role": "assistant", "content": "", "tool_calls": calls}})

    def whole(self, choice: Choice) -> dict[str, Any]:
        """The whole message."""
        message: dict[str, Any] = {"role": "assistant", "content": choice.text}
        if choice.reasoning:
            message["thinking"] = choice.reasoning
        if choice.tool_calls:
            message["tool_calls"] = [_call(c, i) for i, c in enumerate(choice.tool_calls)]
        return {"message": message}


class GenerateRenderer(_Renderer):
    """Answers to `/api/generate`."""

    def piece(self, text: str, reasoning: str) -> bytes:
        """`{"response": ...}`."""
        thinking = b',"thinking":' + _encode(reasoning) if reasoning else b""
        return b'{"response":%b%b}' % (_encode(text), thinking)

    def calls(self, calls: list[dict[str, Any]]) -> bytes:
        """Prompts without tools call none."""
        raise AssertionError(calls)

    def whole(self, choice: Choice) -> dict[str, Any]:
        """The whole response."""
        fields = {"response": choice.text}
        return fields | ({"thinking": choice.reasoning} if choice.reasoning else {})

    async def last_fields(self, text: str) -> dict[str, Any]:
        """The tokens to go on from."""
        return {"context": await self._generation.token_ids(text)}


class RawRenderer(GenerateRenderer):
    """Answers to raw prompts, which have no context."""

    async def last_fields(self, text: str) -> dict[str, Any]:
        """Nothing."""
        del text
        return {}


def _call(call: ToolCall, index: int) -> dict[str, Any]:
    try:
        arguments = json.loads(call.arguments)
    except ValueError:
        # The answer was cut off within the call.
        arguments = {}
    function = {"index": index, "name": call.name, "arguments": arguments}
    return {"id": call.id, "function": function}


def _logprobs(reports: list[TokenReport]) -> list[dict[str, Any]]:
    return [
        {
            **_token(report.piece, report.logprob),
            "top_logprobs": [_token(piece, value) for piece, value in report.alternatives],
        }
        for report in reports
    ]


def _token(piece: bytes, logprob: float) -> dict[str, Any]:
    return {
        "token": piece.decode("utf-8", "replace"),
        "logprob": max(logprob, _LOWEST_LOGPROB),
        "bytes": list(piece),
    }
