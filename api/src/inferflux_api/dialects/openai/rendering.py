"""From our answers to OpenAI's, whole and streamed.

A chunk is made of bytes that are the same for the whole stream and one escaped string: on a machine with
few cores, what the server spends per token is taken from the model.
"""

from __future__ import annotations

from typing import Any

import msgspec

from inferflux_api.pipeline import Delta, Generation, Usage
from inferflux_core.engine.protocol import TokenReport

__all__ = ["DONE", "ChatRenderer", "CompletionRenderer"]

DONE = b"data: [DONE]\n\n"
_LOWEST_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON cannot say."""

_encode = msgspec.json.encode


class _Renderer:
    """What both endpoints share: identity, usage, chunk assembly."""

    prefix = ""
    object = ""
    chunk_object = ""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._identity = {
            "id": f"{self.prefix}{generation.id}",
            "created": generation.created,
            "model": generation.model.name,
        }
        head = _encode({**self._identity, "object": self.chunk_object})
        # `{"id":...,"object":...` left open for the choices.
        self._head = b"data: " + head[:-1] + b',"choices":['

    def chunk(self, choice: bytes) -> bytes:
        """One SSE event with one choice."""
        return self._head + choice + b"]}\n\n"

    def usage_chunk(self) -> bytes:
        """The last event, if the client asked for usage."""
        usage = _encode(_usage(self._generation.usage))
        return self._head + b'],"usage":' + usage + b"}\n\n"

    def body(self, choices: list[dict[str, Any]]) -> bytes:
        """The whole answer."""
        return _encode(
            {
                **self._identity,
                "object": self.object,
                "choices": choices,
                "usage": _usage(self._generation.usage),
            }
        )


class ChatRenderer(_Renderer):
    """`chat.completion` and `chat.completion.chunk`."""

    prefix = "chatcmpl-"
    object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def first(self, index: int) -> bytes:
        """The event that opens a choice."""
        return self.chunk(
            b'{"index":%d,"delta":{"role":"assistant","content":""},"logprobs":null,'
            b'"finish_reason":null}' % index
        )

    def delta(self, delta: Delta) -> bytes:
        """The events for a delta: content, then the end of the choice."""
        events = b""
        if delta.text or delta.reports:
            logprobs = _encode(_chat_logprobs(delta.reports)) if delta.reports else b"null"
            events = self.chunk(
                b'{"index":%d,"delta":{"content":%b},"logprobs":%b,"finish_reason":null}'
                % (delta.index, _encode(delta.text), logprobs)
            )
        if delta.finish_reason is not None:
            events += self.chunk(
                b'{"index":%d,"delta":{},"logprobs":null,"finish_reason":%b}'
                % (delta.index, _encode(delta.finish_reason))
            )
        return events

    def choice(
        self, index: int, text: str, finish_reason: str, reports: list[TokenReport] | None
    ) -> dict[str, Any]:
        """A choice of the whole answer."""
        return {
            "index": index,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": None if reports is None else _chat_logprobs(reports),
            "finish_reason": finish_reason,
        }


class CompletionRenderer(_Renderer):
    """`text_completion`, which streams under the same name."""

    prefix = "cmpl-"
    object = "text_completion"
    chunk_object = "text_completion"

    def __init__(self, generation: Generation) -> None:
        super().__init__(generation)
        self._offsets: dict[int, int] = {}

    def first(self, index: int) -> bytes:
        """Completions have no opening event."""
        del index
        return b""

    def delta(self, delta: Delta) -> bytes:
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

    def choice(
        self, index: int, text: str, finish_reason: str, reports: list[TokenReport] | None
    ) -> dict[str, Any]:
        """A choice of the whole answer."""
        return {
            "index": index,
            "text": text,
            "logprobs": None if reports is None else _legacy_logprobs(reports, 0),
            "finish_reason": finish_reason,
        }


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def _chat_logprobs(reports: list[TokenReport]) -> dict[str, Any]:
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


def _legacy_logprobs(reports: list[TokenReport], offset: int) -> dict[str, Any]:
    tokens = [_text(report.piece) for report in reports]
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token)
    return {
        "tokens": tokens,
        "token_logprobs": [max(report.logprob, _LOWEST_LOGPROB) for report in reports],
        "top_logprobs": [
            {_text(piece): max(lp, _LOWEST_LOGPROB) for piece, lp in report.alternatives}
            for report in reports
        ],
        "text_offset": offsets,
    }


def _text(piece: bytes) -> str:
    # A token may be part of a character; `bytes` tells the whole truth.
    return piece.decode("utf-8", "replace")
